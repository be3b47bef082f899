"""What a TIFF's directories list, where GDAL does not tell.

GDAL does not say whether a mask has overviews: where it has none, it calls every pixel of an overview valid.
It believes a header that announces more blocks than the file has bytes to list. And it can read map
projections that it cannot write again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hiresseg.scenes.files import TIFF_MAGIC

MAX_DIRECTORIES = 256
"""Images that a TIFF may hold: GDAL opens each, which takes a millisecond and a hundred kilobytes."""

_SUBFILE_TYPE, _WIDTH, _HEIGHT = 254, 256, 257
_BLOCK_INDEX = (273, 279, 324, 325)
"""Offsets and sizes of strips and tiles."""
_IS_MASK = 4
_CODES = {3: "H", 4: "I", 16: "Q"}
_PLACE = (33550, 33922, 34264, 34735, 34736, 34737)
"""What places a TIFF on the map: pixel size, tie points, matrix; keys, their numbers, their text."""
_PLACE_BYTES = {2: 1, 3: 2, 12: 8}
"""Bytes of a value, by the types that these fields have: text, integers, doubles."""
_MAX_PLACE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Field:
    """One entry of a directory."""

    kind: int
    count: int
    value: bytes
    """The value itself, or where it lies if it does not fit."""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How a TIFF writes its directories: byte order, and 4-byte offsets or the 8-byte ones of BigTIFF."""

    order: str
    offset: str
    count: str

    @classmethod
    def of(cls, head: bytes) -> _Dialect:
        is_big = 43 in head[2:4]
        return cls("<" if head[:2] == b"II" else ">", "Q" if is_big else "I", "Q" if is_big else "H")

    def number(self, code: str, raw: bytes, at: int = 0) -> int:
        return int(struct.unpack_from(self.order + code, raw, at)[0])

    def entry(self) -> struct.Struct:
        return struct.Struct(f"{self.order}HH{self.offset}{struct.calcsize(self.order + self.offset)}s")


def reduced_mask_shapes(path: Path) -> set[tuple[int, int]]:
    """(rows, columns) of all masks of overviews, inside a TIFF or beside it."""
    inside = {
        image[1:] for file in (path, Path(f"{path}.ovr")) for image in _images_of(file) if image[0] & _IS_MASK
    }
    # in a file of masks, whatever is smaller than its first image is an overview of it
    beside = {image[1:] for file in (f"{path}.msk", f"{path}.msk.ovr") for image in _images_of(Path(file))}
    return inside | beside


def has_endless_chain(path: Path) -> bool:
    """Whether the chain of a TIFF's directories has more than `MAX_DIRECTORIES`, or comes back to itself."""
    # each is followed by the offset of the next, so a chain that is cut at the bound has no end
    return sum(1 for _ in _directories_of(path)) == MAX_DIRECTORIES


def is_index_cut_off(path: Path) -> bool:
    """Whether the list of blocks of a TIFF's first image reaches beyond the end of the file."""
    size = path.stat().st_size
    for dialect, fields in _directories_of(path):
        listed = [fields[tag] for tag in _BLOCK_INDEX if tag in fields]
        ends = [_end_of(dialect, field) for field in listed if field.kind in _CODES]
        return any(end > size for end in ends)
    return True


def read_place_tags(path: Path) -> tuple[tuple[int, int, int, bytes], ...]:
    """The fields that place a TIFF's first image on the map: code, type, number of values, values.

    The values are little-endian, whatever the file is. There are none at all where one of them is damaged, or
    longer than a megabyte.
    """
    for dialect, fields in _directories_of(path):
        found = [(code, fields[code]) for code in _PLACE if code in fields]
        with path.open("rb") as file:
            values = [_read_values(file, dialect, field) for _, field in found]
        tags = [(code, field.kind, field.count) for code, field in found]
        return tuple((*tag, value) for tag, value in zip(tags, values, strict=True) if value and all(values))
    return ()


def _read_values(file: BinaryIO, dialect: _Dialect, field: _Field) -> bytes:
    """The values of a field, little-endian; nothing if they cannot be had."""
    width = _PLACE_BYTES.get(field.kind, 0)
    num_bytes = field.count * width
    raw = field.value[:num_bytes]
    if num_bytes > len(field.value):
        at = dialect.number(dialect.offset, field.value)
        # asked before it is sought and read: a header announces any address and any size
        if num_bytes > _MAX_PLACE_BYTES or at + num_bytes > os.fstat(file.fileno()).st_size:
            return b""
        file.seek(at)
        raw = file.read(num_bytes)
    return np.frombuffer(raw, f"{dialect.order}u{width}").astype(f"<u{width}").tobytes() if raw else b""


def _end_of(dialect: _Dialect, field: _Field) -> int:
    num_bytes = field.count * struct.calcsize(dialect.order + _CODES[field.kind])
    return num_bytes + dialect.number(dialect.offset, field.value) if num_bytes > len(field.value) else 0


def _images_of(path: Path) -> Iterator[tuple[int, int, int]]:
    """Subfile type, rows and columns of each image."""
    if not path.is_file():
        return
    for dialect, fields in _directories_of(path):
        values = [
            dialect.number(_CODES[fields[tag].kind], fields[tag].value)
            if tag in fields and fields[tag].kind in _CODES
            else 0
            for tag in (_SUBFILE_TYPE, _HEIGHT, _WIDTH)
        ]
        yield values[0], values[1], values[2]


def _directories_of(path: Path) -> Iterator[tuple[_Dialect, dict[int, _Field]]]:
    """The directories, as far as they can be followed: where the chain breaks off, GDAL stops as well."""
    with path.open("rb") as file:
        head = file.read(16)
        if not head.startswith(TIFF_MAGIC):
            return
        dialect = _Dialect.of(head)
        try:
            at = dialect.number(dialect.offset, head, 8 if dialect.offset == "Q" else 4)
            for _ in range(MAX_DIRECTORIES):
                if not 0 < at < os.fstat(file.fileno()).st_size:
                    return
                fields, at = _read_directory(file, dialect, at)
                yield dialect, fields
        except struct.error:
            return


def _read_directory(file: BinaryIO, dialect: _Dialect, at: int) -> tuple[dict[int, _Field], int]:
    file.seek(at)
    count = dialect.number(dialect.count, file.read(struct.calcsize(dialect.order + dialect.count)))
    entry = dialect.entry()
    entries = file.read(min(count, 1 << 16) * entry.size)
    fields = {tag: _Field(*rest) for tag, *rest in entry.iter_unpack(entries)}
    return fields, dialect.number(dialect.offset, file.read(struct.calcsize(dialect.order + dialect.offset)))
