"""What tells one state of a file from another without reading all of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hiresseg.errors import SceneError
from hiresseg.scenes.files import sidecars_of

_PIECE_BYTES = 64 << 10
_NUM_PIECES = 34
_NUM_PIECES_OF_MANY = 3
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


def fingerprint_sources(paths: Iterable[Path]) -> str:
    """A digest of the states of many files, of each of which little is read.

    Raises:
        SceneError: if a file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            for file in (path, *sidecars_of(path)):
                digest.update(repr(sorted(_state_of(file, _NUM_PIECES_OF_MANY).items())).encode())
        except OSError as error:
            raise SceneError(f"{path}: cannot be read ({error}); check that it is still there") from error
    return digest.hexdigest()


def _state_of(path: Path, num_pieces: int = _NUM_PIECES) -> dict[str, Any]:
    with path.open("rb", buffering=0) as file:
        stat = os.fstat(file.fileno())
        digest = hashlib.blake2b(str(stat.st_size).encode(), digest_size=16)
        last = max(0, stat.st_size - _PIECE_BYTES)
        for offset in sorted({last * i // (num_pieces - 1) for i in range(num_pieces)}):
            file.seek(offset)
            digest.update(file.read(_PIECE_BYTES))
    return {
        "name": path.name,
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "blake2b": digest.hexdigest(),
    }
