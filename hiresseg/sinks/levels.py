"""The tiles of all levels, from one sweep over the chunks of a finished run.

::

    chunks ──row by row──▶ tiles of level 0 ──▶ parts of level 0
              └ halve ──▶ canvas of one tile row ──▶ tiles of level 1 ──▶ parts of level 1
                                    └ halve ──▶ ...

A canvas holds one row of tiles of its level, so all of them together hold less than one row of chunks.
"""

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import IO, Final, Literal, Protocol, runtime_checkable

import numpy as np
from numcodecs.zstd import Zstd

from hiresseg.errors import StoreError
from hiresseg.sinks.meaning import FILL, ClassMeaning, Meaning
from hiresseg.sinks.pyramid import halve_labels, halve_values
from hiresseg.sinks.tiff import frame_tile
from hiresseg.sinks.verify import digest_fill, digest_pixels

Compression = Literal["deflate", "zstd"]


@runtime_checkable
class ChunkSource(Protocol):
    """A finished raster in square chunks. Chunks are read once each, from several threads."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scene."""

    @property
    def chunk_px(self) -> int:
        """Edge of a chunk, a multiple of 16."""

    def read_chunk(self, row: int, col: int) -> np.ndarray | None:
        """The pixels, (chunk_px, chunk_px) uint8, padded beyond the scene; None where all is fill."""

    def read_chunk_zstd(self, row: int, col: int) -> bytes | None:
        """The same chunk as one zstd frame with checksum; None where all is fill."""


class Level:
    """A level while it is being filled: its finished tiles in a file, its current row of tiles in memory."""

    def __init__(self, height: int, width: int, tile_px: int, parts: IO[bytes], *, is_overview: bool) -> None:
        self.height, self.width, self.tile_px, self.parts = height, width, tile_px, parts
        self.rows, self.cols = -(-height // tile_px), -(-width // tile_px)
        self.counts = np.zeros((self.rows, self.cols), np.uint32)
        self.digests = np.zeros((self.rows, self.cols), np.uint32)
        self.canvas = np.full((self.cols * is_overview, tile_px, tile_px), FILL, np.uint8)
        self.touched = np.zeros((self.cols, 2), bool)

    def size_of(self, row: int, col: int) -> tuple[int, int]:
        """How many rows and columns of a tile lie within the level."""
        top, left = row * self.tile_px, col * self.tile_px
        return min(self.tile_px, self.height - top), min(self.tile_px, self.width - left)

    def quadrant(self, row: int, col: int) -> np.ndarray:
        """Where tile (row, col) of the finer level goes, to be written by one thread at a time."""
        half = self.tile_px // 2
        top, left = row % 2 * half, col % 2 * half
        self.touched[col // 2, col % 2] = True
        quadrant: np.ndarray = self.canvas[col // 2, top : top + half, left : left + half]
        return quadrant

    def read_canvas(self, row: int, col: int) -> tuple[np.ndarray | None, bytes | None]:  # noqa: ARG002 - as a chunk
        """The current row's tile, which is not compressed yet."""
        return (self.canvas[col] if self.touched[col].any() else None), None

    def clear(self) -> None:
        """Make room for the next row."""
        self.canvas[self.touched[: len(self.canvas)].any(axis=1)] = FILL
        self.touched[:] = False


def fill_levels(
    levels: Sequence[Level], source: ChunkSource, meaning: Meaning, compress: Compression, executor: Executor
) -> None:
    """Compress all tiles of all levels into their parts files, and note lengths and digests.

    Args:
        levels: empty, the full size first.
        source: the pixels.
        meaning: classes are halved by majority, values by mean.
        compress: the codec.
        executor: threads for reading, halving and compressing.
    """
    is_mask = isinstance(meaning, ClassMeaning)
    halve = halve_labels if is_mask else halve_values
    encode = _ENCODERS[compress]
    read_chunk = partial(_read_chunk, source, levels[0], with_bytes=compress == "zstd")

    def finish_row(depth: int, row: int) -> None:
        level = levels[depth]
        coarser = levels[depth + 1] if depth + 1 < len(levels) else None
        read = read_chunk if depth == 0 else level.read_canvas

        def finish_tile(col: int) -> bytes:
            pixels, data = read(row, col)
            height, width = level.size_of(row, col)
            if pixels is None:
                level.digests[row, col] = digest_fill(height, width)
                return b""
            level.digests[row, col] = digest_pixels(pixels[:height, :width])
            if coarser is not None:
                halve(pixels, coarser.quadrant(row, col))
            return data if data is not None else encode(pixels)

        for col, data in enumerate(executor.map(finish_tile, range(level.cols))):
            level.counts[row, col] = len(data)
            if data:
                level.parts.write(frame_tile(data))
        level.clear()
        if coarser is not None and (row % 2 or row == level.rows - 1):
            finish_row(depth + 1, row // 2)

    for row in range(levels[0].rows):
        finish_row(0, row)


def _read_chunk(
    source: ChunkSource, level: Level, row: int, col: int, *, with_bytes: bool
) -> tuple[np.ndarray | None, bytes | None]:
    pixels = source.read_chunk(row, col)
    if pixels is None:
        return None, None
    if pixels.shape != (level.tile_px, level.tile_px) or pixels.dtype != np.uint8:
        raise ValueError(
            f"chunk ({row}, {col}) must be {level.tile_px} x {level.tile_px} uint8, "
            f"got {' x '.join(map(str, pixels.shape))} {pixels.dtype}"
        )
    height, width = level.size_of(row, col)
    if (height, width) != pixels.shape:
        # what lies beyond the scene must not count in an overview
        inside, pixels = pixels, np.full_like(pixels, FILL)
        pixels[:height, :width] = inside[:height, :width]
    if pixels.min() == FILL:
        return None, None
    data = source.read_chunk_zstd(row, col) if with_bytes else None
    if with_bytes and data is None:
        raise StoreError(
            f"chunk ({row}, {col}) has pixels but no compressed bytes; the run's store is inconsistent"
        )
    return pixels, data


def _deflate(pixels: np.ndarray) -> bytes:
    # masks are runs: matching runs only is five times faster than searching, and the result is smaller
    compressor = zlib.compressobj(6, zlib.DEFLATED, strategy=zlib.Z_RLE)
    return compressor.compress(np.ascontiguousarray(pixels).data) + compressor.flush()


def _compress_zstd(pixels: np.ndarray) -> bytes:
    return bytes(Zstd(level=1, checksum=True).encode(np.ascontiguousarray(pixels)))


_ENCODERS: Final[dict[str, Callable[[np.ndarray], bytes]]] = {"deflate": _deflate, "zstd": _compress_zstd}
