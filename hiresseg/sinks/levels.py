"""The tiles of all levels, from one sweep over the chunks of a finished run.

::

    chunks ──row by row──▶ tiles of level 0 ──▶ parts of level 0
              └ halve ──▶ canvas of one tile row ──▶ tiles of level 1 ──▶ parts of level 1
                                    └ halve ──▶ ...

A canvas holds one row of tiles of its level, so all of them together hold less than one row of chunks.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import IO, Protocol, runtime_checkable

import numpy as np

from hiresseg.deflate import compress_zlib, decompress_gzip, rewrap_gzip
from hiresseg.errors import StoreError
from hiresseg.sinks.meaning import FILL, ClassMeaning, Meaning
from hiresseg.sinks.pyramid import halve_labels, halve_values
from hiresseg.sinks.tiff import frame_tile
from hiresseg.sinks.verify import digest_fill, digest_pixels


@runtime_checkable
class ChunkSource(Protocol):
    """A finished raster in square chunks. Chunks are read once each, from several threads."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scene."""

    @property
    def chunk_px(self) -> int:
        """Edge of a chunk, a multiple of 16."""

    def read_chunk_gzip(self, row: int, col: int) -> bytes | None:
        """(chunk_px, chunk_px) uint8 pixels as one gzip member of `deflate`; None where all is fill."""


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


def fill_levels(levels: Sequence[Level], source: ChunkSource, meaning: Meaning, executor: Executor) -> None:
    """Compress all tiles of all levels into their parts files, and note lengths and digests.

    Args:
        levels: empty, the full size first.
        source: the pixels.
        meaning: classes are halved by majority, values by mean.
        executor: threads for reading, halving and compressing.
    """
    is_mask = isinstance(meaning, ClassMeaning)
    halve = halve_labels if is_mask else halve_values

    def finish_row(depth: int, row: int) -> None:
        level = levels[depth]
        coarser = levels[depth + 1] if depth + 1 < len(levels) else None

        def finish_tile(col: int) -> bytes:
            pixels, data = level.read_canvas(row, col) if depth else _read_chunk(source, level, row, col)
            height, width = level.size_of(row, col)
            if pixels is None:
                level.digests[row, col] = digest_fill(height, width)
                return b""
            level.digests[row, col] = digest_pixels(pixels[:height, :width])
            if coarser is not None:
                halve(pixels, coarser.quadrant(row, col))
            return compress_zlib(pixels) if data is None else rewrap_gzip(data, pixels)

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
    source: ChunkSource, level: Level, row: int, col: int
) -> tuple[np.ndarray | None, bytes | None]:
    """(pixels, compressed bytes) of a chunk; the latter None if it had anything but fill beyond the scene."""
    member = source.read_chunk_gzip(row, col)
    if member is None:
        return None, None
    try:
        pixels = np.frombuffer(decompress_gzip(member), np.uint8).reshape(level.tile_px, level.tile_px)
    except ValueError as error:
        raise StoreError(
            f"chunk ({row}, {col}) is damaged ({error}); run the same command again to compute its block anew"
        ) from error
    height, width = level.size_of(row, col)
    if (pixels[height:] != FILL).any() or (pixels[:, width:] != FILL).any():
        # what lies beyond the scene must not count in an overview
        inside, pixels, member = pixels, np.full_like(pixels, FILL), None
        pixels[:height, :width] = inside[:height, :width]
    return (None, None) if pixels.min() == FILL else (pixels, member)
