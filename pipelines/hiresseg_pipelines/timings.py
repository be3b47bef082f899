"""What a run takes: seconds per phase, bytes and memory, in each of its processes."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


def now_utc() -> str:
    """This moment in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What one process of a run has taken from its start to some moment."""

    begun_at: str
    """UTC, as ISO 8601; tells the processes of a run apart, since they run one after the other."""
    seconds: dict[str, float]
    """Wall time per phase."""
    cpu_seconds: dict[str, float]
    """Processor time per phase, of all threads."""
    bytes_decoded: int
    """Of the scene's pixels."""
    peak_bytes: int
    """Most memory."""


@dataclass(slots=True)
class Timings:
    """Wall and processor time per phase of this process, and the memory before the first block."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time."""
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    """Processor time of all threads of the process."""
    imports_bytes: int = 0
    """Resident memory once everything is imported and the model is loaded, before anything is computed."""
    begun_at: str = field(default_factory=now_utc)
    """UTC, as ISO 8601."""
    _running: tuple[str, float, float] | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside; a phase that is entered again adds up."""
        self._running = name, time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds, self.cpu_seconds = self._measure()
            self._running = None

    def note_imports(self) -> None:
        """Take down the memory of the process as it is now."""
        self.imports_bytes = int(psutil.Process().memory_info().rss)

    def so_far(self, bytes_decoded: int) -> ProcessFacts:
        """All that this process has taken, what is under way included; from any thread within a phase."""
        return ProcessFacts(self.begun_at, *self._measure(), bytes_decoded, peak_memory_bytes())

    def _measure(self) -> tuple[dict[str, float], dict[str, float]]:
        seconds, cpu_seconds = dict(self.seconds), dict(self.cpu_seconds)
        if self._running is not None:
            name, started, cpu_started = self._running
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
            cpu_seconds[name] = cpu_seconds.get(name, 0.0) + time.process_time() - cpu_started
        return seconds, cpu_seconds


def last_facts(processes: Iterable[Mapping[str, Any]]) -> list[ProcessFacts]:
    """The last that the journal tells of each process, in the order in which they ran.

    Args:
        processes: `ProcessFacts` as its entries hold them.
    """
    last: dict[str, ProcessFacts] = {}
    for facts in (ProcessFacts(**each) for each in processes):
        known = last.get(facts.begun_at)
        if known is None or sum(known.seconds.values()) < sum(facts.seconds.values()):
            last[facts.begun_at] = facts
    return [last[begun_at] for begun_at in sorted(last)]


def add_phases(phases: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Seconds per phase of several processes, added up."""
    total: dict[str, float] = {}
    for each in phases:
        for name, seconds in each.items():
            total[name] = total.get(name, 0.0) + seconds
    return total


def peak_memory_bytes() -> int:
    """Most memory that this process has held.

    Linux hands getrusage's figure down from the process that started this one, so it is asked for its own
    where it keeps one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
