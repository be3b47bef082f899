"""Zarr v3 shards, written whole: encoded here, so that one write is one durable, atomic file.

zarr-python does not fsync, and spends a millisecond of Python on each inner chunk. The format is small: the
compressed inner chunks one after the other, then an index of (offset, length) per chunk, then its CRC-32C.
What is written here is read by any zarr; the tests read it with zarr-python.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import google_crc32c
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from hiresseg.deflate import compress_gzip, decompress_gzip
from hiresseg.errors import StoreError

_ABSENT = 2**64 - 1


def encode_shard(values: UInt8[ndarray, "K h w"], chunk_px: int, shard_px: int, fill: int) -> bytes | None:
    """The bytes of one shard, or None where every pixel is fill.

    Args:
        values: at most `shard_px` square; what is missing to the right and below is fill.
        chunk_px: edge of the inner chunks, each of which spans all K.
        shard_px: edge of the shard.
        fill: the array's fill value; chunks that hold nothing else are left out.
    """
    per_side = shard_px // chunk_px
    index = np.full((per_side, per_side, 2), _ABSENT, "<u8")
    parts, offset = [], 0
    for row in range(per_side):
        for col in range(per_side):
            chunk = _chunk(values, row * chunk_px, col * chunk_px, chunk_px, fill)
            if chunk is None:
                continue
            part = compress_gzip(chunk)
            index[row, col] = offset, len(part)
            parts.append(part)
            offset += len(part)
    if not parts:
        return None
    footer = index.tobytes()
    return b"".join([*parts, footer, struct.pack("<I", google_crc32c.value(footer))])


def _chunk(values: ndarray, top: int, left: int, chunk_px: int, fill: int) -> ndarray | None:
    part = values[:, top : top + chunk_px, left : left + chunk_px]
    if part.size == 0 or (part[0, 0, 0] == fill and (part == fill).all()):
        return None
    if part.shape[1:] != (chunk_px, chunk_px):
        whole = np.full((len(values), chunk_px, chunk_px), fill, np.uint8)
        whole[:, : part.shape[1], : part.shape[2]] = part
        return whole
    return np.ascontiguousarray(part)


def read_index(path: Path, per_side: int) -> dict[tuple[int, int], tuple[int, int]]:
    """(offset, length) in the file of each inner chunk that is there.

    Raises:
        StoreError: if the index is damaged.
    """
    length = per_side * per_side * 16
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - length - 4))
        footer, checksum = file.read(length), file.read(4)
    if struct.pack("<I", google_crc32c.value(footer)) != checksum:
        raise StoreError(
            f"{path}: the shard's index does not match its checksum; run again to compute the block anew"
        )
    index = np.frombuffer(footer, "<u8").reshape(per_side, per_side, 2)
    present = np.argwhere(index[:, :, 0] != _ABSENT)
    return {(int(row), int(col)): (int(index[row, col, 0]), int(index[row, col, 1])) for row, col in present}


def decode_chunk(data: bytes, num_channels: int, chunk_px: int) -> UInt8[ndarray, "K h w"]:
    """The pixels of one compressed inner chunk.

    Raises:
        ValueError: if it does not match its checksum, or has another size.
    """
    return np.frombuffer(decompress_gzip(data), np.uint8).reshape(num_channels, chunk_px, chunk_px)
