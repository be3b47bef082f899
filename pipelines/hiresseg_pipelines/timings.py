"""What a run takes: seconds per phase, and the memory that it begins with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil


@dataclass(slots=True)
class Timings:
    """Wall and processor time per phase, and the memory before the first block."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time."""
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    """Processor time of all threads of the process."""
    imports_bytes: int = 0
    """Resident memory once everything is imported and the model is loaded, before anything is computed."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside; a phase that is entered again adds up."""
        started, cpu_started = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            spent = time.process_time() - cpu_started
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + spent

    def note_imports(self) -> None:
        """Take down the memory of the process as it is now."""
        self.imports_bytes = int(psutil.Process().memory_info().rss)
