"""A temporary file of equal slots, for what memory has no room for: pages, strips between blocks."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

from hiresseg.errors import StoreError


class ScratchFile:
    """Slots of `slot_bytes` in one growing file, made at the first write and gone with the process.

    The file has no name, so a killed run leaves nothing behind. Slots are written and read by several threads
    at once; whoever takes a slot owns it until it is given back.
    """

    def __init__(self, folder: Path, slot_bytes: int) -> None:
        self._folder, self._slot_bytes = folder, slot_bytes
        self._lock = threading.Lock()
        self._file: int | None = None
        self._free: list[int] = []
        self._num_slots = 0

    @property
    def size_bytes(self) -> int:
        """How far the file can reach: all slots that were ever taken."""
        return self._num_slots * self._slot_bytes

    def take_slot(self) -> int:
        """A slot that nobody uses."""
        with self._lock:
            if self._free:
                return self._free.pop()
            self._num_slots += 1
            return self._num_slots - 1

    def free_slot(self, slot: int) -> None:
        """Give a slot back."""
        with self._lock:
            self._free.append(slot)

    def write(self, slot: int, content: bytes | memoryview) -> None:
        """Write at most `slot_bytes` to a slot.

        Raises:
            StoreError: if the folder cannot be written or is full.
        """
        rest, offset = memoryview(content).cast("B"), slot * self._slot_bytes
        try:
            file = self._open()
            while rest:
                written = os.pwrite(file, rest, offset)
                rest, offset = rest[written:], offset + written
        except OSError as error:
            raise StoreError(
                f"{self._folder}: pixels cannot be put aside there ({error}); free the disk and run the same "
                f"command again: it goes on"
            ) from error

    def read_into(self, slot: int, into: memoryview) -> None:
        """Fill `into` from the start of a slot.

        Raises:
            StoreError: if the file is shorter than what was written, or cannot be read.
        """
        rest, offset = into.cast("B"), slot * self._slot_bytes
        try:
            file = self._open()
            while rest:
                count = os.preadv(file, [rest], offset)
                if count == 0:
                    break
                rest, offset = rest[count:], offset + count
        except OSError as error:
            raise StoreError(f"{self._folder}: pixels put aside cannot be read back ({error})") from error
        if rest:
            raise StoreError(
                f"{self._folder}: the file of pixels put aside ends at byte {offset}; was it cut?"
            )

    def close(self) -> None:
        """Let go of the file; all slots are lost."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file, self._free, self._num_slots = None, [], 0

    def _open(self) -> int:
        with self._lock:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self._folder, prefix="aside-") as file:
                    self._file = os.dup(file.fileno())
            return self._file
