"""Ctrl-C and SIGTERM: once to finish the blocks under way, twice to stop now; both can be gone on with."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from hiresseg.errors import Interrupted

EXIT_CODE = 130


@contextmanager
def stop_on_signals(under_way: str = "blocks") -> Iterator[threading.Event]:
    """An event that the first signal sets; the second ends the process.

    Args:
        under_way: what is finished first, for the message.
    """
    should_stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if should_stop.is_set():
            _end(b"hiresseg: stopped at once; the same command goes on\n")
        should_stop.set()
        os.write(2, f"\nhiresseg: finishing the {under_way} under way; once more to stop at once\n".encode())

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield should_stop
    finally:
        # once asked to stop the process is ending, and another Ctrl-C must not end it otherwise
        if not should_stop.is_set():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """The first signal ends the process: there is nothing to finish."""
    numbers = signal.SIGINT, signal.SIGTERM
    before = {number: signal.signal(number, lambda *_: _end(b"")) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(message: bytes) -> NoReturn:
    # a live display hides the cursor
    os.write(2, (b"\x1b[?25h" if os.isatty(2) else b"") + message)
    # threads in native code cannot be interrupted, and there is nothing to clean: the journal knows
    os._exit(EXIT_CODE)


def check_stop(should_stop: threading.Event, doing: str) -> None:
    """Give up between two steps if that was asked for.

    Args:
        should_stop: as set by a signal.
        doing: what would come next, for the message.

    Raises:
        Interrupted: if it is set.
    """
    if should_stop.is_set():
        raise Interrupted(f"stopped before {doing}; the same command goes on from there")
