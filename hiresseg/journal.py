"""The journal of a run: one line per finished block with a checksum of its own, appended, never changed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c

from hiresseg.errors import StoreError


class Journal:
    """Lines of `crc32c {json}`; safe to append to from several threads.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._is_mended = False

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry, which is on disk when this returns.

        Raises:
            StoreError: if it cannot be written.
        """
        text = json.dumps(entry, sort_keys=True).encode()
        try:
            with self._lock, self.path.open("ab") as file:
                if not self._is_mended:
                    self._mend()
                file.write(f"{google_crc32c.value(text):08x} ".encode() + text + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be written ({error.strerror}); free or repair the disk and run the "
                f"same command again: it goes on"
            ) from error

    def _mend(self) -> None:
        """Cut off a torn end, as a kill leaves it, so that the next line begins on its own."""
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.truncate(self.path, whole)
        self._is_mended = True

    def read(self) -> list[dict[str, Any]]:
        """All entries that are whole, in order."""
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        return [entry for entry in map(_parse_line, whole.splitlines()) if entry is not None]


def _parse_line(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.partition(b" ")
    if checksum != f"{google_crc32c.value(text):08x}".encode():
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry
