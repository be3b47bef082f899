"""The TIFF container, classic and big: tags, directories, and where the tiles of a COG lie.

Layout of the file, as readers of a COG expect it::

    header | note on the layout | directory 0 (full size), 1 (half) ... | tiles, smallest level first

Each tile stands between its length and a copy of its last four bytes, as the note promises, so that a remote
reader needs no second request. A tile without any answer has offset and length 0.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

BLOCK_FRAME_BYTES: Final = 8
"""What stands around a tile: its length before it, its last four bytes after it."""

_SHORT, _LONG, _LONG8 = 3, 4, 16
_VALUE_BYTES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
}
_CLASSIC_LIMIT_BYTES: Final = 2**32 - 1

_LAYOUT = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
# the size line does not count itself; the last byte keeps the directory on an even address
_NOTE: Final = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_LAYOUT) + _LAYOUT + b"\0"


@dataclass(frozen=True, slots=True)
class Tag:
    """One field of a directory."""

    code: int
    kind: int
    """TIFF's number of the type: 2 text, 3 and 4 integers of two and four bytes, 12 double, ..."""
    count: int
    """Number of values."""
    value: bytes
    """The values, little-endian."""


@dataclass(frozen=True, slots=True)
class TiledLevel:
    """Where one level lies and how large its tiles are."""

    height: int
    width: int
    counts: np.ndarray
    """Compressed bytes of each tile in row-major order, 0 for a tile that is left out."""
    tags: tuple[Tag, ...]
    """What its directory says beyond size and tiles."""

    @property
    def data_bytes(self) -> int:
        """Bytes of all tiles with their frames."""
        return int(self.counts.sum(dtype=np.int64)) + BLOCK_FRAME_BYTES * int(np.count_nonzero(self.counts))


def frame_tile(data: bytes) -> bytes:
    """A tile between its length and its last four bytes."""
    return struct.pack("<I", len(data)) + data + data[-4:]


def read_tags(file: bytes) -> dict[int, Tag]:
    """The fields of the first directory of a classic little-endian TIFF.

    Raises:
        ValueError: if it is something else.
    """
    if file[:4] != b"II*\0":
        raise ValueError(f"expected a classic little-endian TIFF, it starts with {file[:4]!r}")
    (at,) = struct.unpack_from("<I", file, 4)
    (number,) = struct.unpack_from("<H", file, at)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * number, 12):
        code, kind, count = struct.unpack_from("<HHI", file, entry)
        size = _VALUE_BYTES[kind] * count
        start = entry + 8 if size <= 4 else struct.unpack_from("<I", file, entry + 8)[0]
        tags[code] = Tag(code, kind, count, file[start : start + size])
    return tags


def needs_bigtiff(levels: Sequence[TiledLevel], *, tile_px: int, compression: int) -> bool:
    """Whether the file is too long for the four-byte addresses of a classic TIFF."""
    head = len(pack_head(levels, tile_px=tile_px, compression=compression, is_big=False, offsets=None))
    return head + sum(level.data_bytes for level in levels) > _CLASSIC_LIMIT_BYTES


def plan_offsets(levels: Sequence[TiledLevel], head_bytes: int) -> list[np.ndarray]:
    """Address of each tile of each level, 0 for those left out: the smallest level lies first."""
    offsets: list[np.ndarray] = []
    start = head_bytes
    for level in reversed(levels):
        stored = level.counts > 0
        frames = np.where(stored, level.counts.astype(np.uint64) + np.uint64(BLOCK_FRAME_BYTES), np.uint64(0))
        ends = np.cumsum(frames, dtype=np.uint64)
        begins = np.uint64(start + BLOCK_FRAME_BYTES // 2) + ends - frames
        offsets.append(np.where(stored, begins, np.uint64(0)))
        start += level.data_bytes
    return offsets[::-1]


def pack_head(
    levels: Sequence[TiledLevel],
    *,
    tile_px: int,
    compression: int,
    is_big: bool,
    offsets: Sequence[np.ndarray] | None,
) -> bytes:
    """Everything before the first tile. Its length does not depend on the offsets.

    Args:
        levels: full size first.
        tile_px: edge of a tile.
        compression: TIFF's number of the codec.
        is_big: BigTIFF, with eight-byte addresses.
        offsets: address of each tile; None while they are not known yet.
    """
    first = (16 if is_big else 8) + len(_NOTE)
    head = bytearray(
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if is_big else struct.pack("<2sHI", b"II", 42, first)
    )
    head += _NOTE
    for index, level in enumerate(levels):
        known = np.zeros(level.counts.size, np.uint64) if offsets is None else offsets[index]
        tags = _level_tags(level, known, tile_px, compression, is_big=is_big, is_overview=index > 0)
        head += _pack_directory(tags, len(head), is_big=is_big, is_last=index == len(levels) - 1)
    return bytes(head)


def _level_tags(
    level: TiledLevel, offsets: np.ndarray, tile_px: int, compression: int, *, is_big: bool, is_overview: bool
) -> Mapping[int, Tag]:
    tags = {tag.code: tag for tag in level.tags}
    numbers = {254: int(is_overview), 256: level.width, 257: level.height, 322: tile_px, 323: tile_px}
    for code, number in numbers.items():
        tags[code] = Tag(code, _LONG, 1, struct.pack("<I", number))
    tags[259] = Tag(259, _SHORT, 1, struct.pack("<H", compression))
    address, kind = ("<u8", _LONG8) if is_big else ("<u4", _LONG)
    tags[324] = Tag(324, kind, offsets.size, offsets.astype(address).tobytes())
    tags[325] = Tag(325, _LONG, offsets.size, level.counts.astype("<u4").tobytes())
    return tags


def _pack_directory(tags: Mapping[int, Tag], start: int, *, is_big: bool, is_last: bool) -> bytes:
    number, field, address, inline_bytes = ("<Q", "<HHQ", "<Q", 8) if is_big else ("<H", "<HHI", "<I", 4)
    entry_bytes = struct.calcsize(field) + inline_bytes
    values_start = start + struct.calcsize(number) + entry_bytes * len(tags) + struct.calcsize(address)
    entries, values = bytearray(struct.pack(number, len(tags))), bytearray()
    for code in sorted(tags):
        tag = tags[code]
        entries += struct.pack(field, tag.code, tag.kind, tag.count)
        if len(tag.value) <= inline_bytes:
            entries += tag.value.ljust(inline_bytes, b"\0")
        else:
            entries += struct.pack(address, values_start + len(values))
            # the standard wants values on even addresses
            values += tag.value + b"\0" * (len(tag.value) % 2)
    entries += struct.pack(address, 0 if is_last else values_start + len(values))
    return bytes(entries + values)
