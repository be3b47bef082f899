"""What tells one state of a file from another without reading all of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from hiresseg.errors import SceneError
from hiresseg.scenes.files import sidecars_of

_PIECE_BYTES = 64 << 10
_NUM_PIECES = 34
DIGEST_OF = (
    f"size, head, tail and pieces evenly between, {_NUM_PIECES} of {_PIECE_BYTES >> 10} KiB in all: "
    f"not every byte of a file larger than these"
)
"""What the digests of `fingerprint_file` are of."""


def fingerprint_file(path: Path) -> dict[str, Any]:
    """Name, sizes, times of change and a digest of a sample of a file and of what lies beside it.

    About two megabytes are read however large the file is: its head, its tail, and pieces evenly between.

    Raises:
        SceneError: if the file cannot be read.
    """
    try:
        return {"name": path.name, "files": [_state_of(file) for file in (path, *sidecars_of(path))]}
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error}); check that it is still there") from error


def _state_of(path: Path) -> dict[str, Any]:
    with path.open("rb", buffering=0) as file:
        stat = os.fstat(file.fileno())
        digest = hashlib.blake2b(str(stat.st_size).encode(), digest_size=16)
        last = max(0, stat.st_size - _PIECE_BYTES)
        for offset in sorted({last * i // (_NUM_PIECES - 1) for i in range(_NUM_PIECES)}):
            file.seek(offset)
            digest.update(file.read(_PIECE_BYTES))
    return {
        "name": path.name,
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "blake2b": digest.hexdigest(),
    }
