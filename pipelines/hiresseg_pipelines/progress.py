"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

PLAIN_SECONDS = 10.0
SLOW_SECONDS = 4.0

Say = Callable[[str], None]
"""Prints a line for a person."""


def human_seconds(seconds: float) -> str:
    """`7 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


@contextmanager
def say_if_slow(say: Say, text: str) -> Iterator[None]:
    """Say why nothing is to be seen, once what happens inside takes more than a few seconds."""
    timer = threading.Timer(SLOW_SECONDS, say, [text])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def count_of(number: int, noun: str) -> str:
    """`1 tile`, `2,000 tiles`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class RunProgress:
    """Progress of a run on stderr: stage, tiles done, rate, time left."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._live = self.console.is_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} tiles"),
            TextColumn("{task.fields[rate]}"),
            console=self.console,
            transient=False,
        )
        self._task: TaskID | None = None
        self._name, self._total, self._done, self._began_at = "", 0, 0, 0
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._live:
            self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is where lines are printed

    def begin(self, name: str, total: int, done: int) -> None:
        """Begin a stage of `total` tiles, of which `done` stood already."""
        self._name, self._total, self._done, self._began_at = name, total, done, done
        self._started = self._printed = time.monotonic()
        if self._live:
            self._task = self._progress.add_task(name, total=max(total, 1), completed=done, rate="")
        else:
            self.say(
                f"{name}: {done:,} of {count_of(total, 'tile')} stood already"
                if done
                else f"{name}: {count_of(total, 'tile')}"
            )

    def advance(self, tiles: int) -> None:
        """Count tiles as done, looked at or not."""
        self._done += tiles
        now = time.monotonic()
        rate = (self._done - self._began_at) / max(now - self._started, 1e-9)
        left = human_seconds((self._total - self._done) / rate) if rate > 0 else "?"
        text = f"{rate:,.1f} tiles/s, {left} left"
        if self._live and self._task is not None:
            self._progress.update(self._task, completed=self._done, rate=text)
        elif now - self._printed >= PLAIN_SECONDS or self._done >= self._total:
            self._printed = now
            self.say(f"{self._name}: {self._done:,} of {count_of(self._total, 'tile')}, {text}")
