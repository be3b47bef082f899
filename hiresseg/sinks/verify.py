"""A finished file is believed only after another reader has read all of it."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Final

import google_crc32c
import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from hiresseg.errors import StoreError
from hiresseg.sinks.geotags import Readback, read_georef
from hiresseg.sinks.meaning import FILL

# the file is opened anew for so many tiles, since GDAL keeps what it decoded, up to a share of the machine,
# until the file is closed, and a smaller share could only be set for the whole process
_TILES_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class ExpectedLevel:
    """What one level must read back as."""

    height: int
    width: int
    digests: np.ndarray
    """CRC-32C of the pixels of each tile within the scene, (tile rows, tile columns) uint32."""


def digest_pixels(pixels: np.ndarray) -> int:
    """CRC-32C of pixels in reading order."""
    return int(google_crc32c.value(np.ascontiguousarray(pixels)))


@lru_cache(maxsize=256)
def digest_fill(height: int, width: int) -> int:
    """CRC-32C of so many rows and columns of fill."""
    return digest_pixels(np.full((height, width), FILL, np.uint8))


def verify_cog(
    path: Path,
    levels: Sequence[ExpectedLevel],
    *,
    tile_px: int,
    readback: Readback,
    executor: Executor,
    name: Path,
) -> None:
    """Read every tile of every level with GDAL and compare.

    Args:
        path: the file.
        levels: full size first.
        tile_px: edge of a tile.
        readback: the georeference that it must have.
        executor: threads for decoding.
        name: what to call the file in messages.

    Raises:
        StoreError: if anything reads back differently.
    """
    with warnings.catch_warnings():
        # a plain grid of pixels is a legitimate scene
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            _check_header(path, levels, tile_px, readback)
            for index, level in enumerate(levels):
                rows, cols = level.digests.shape
                pieces = list(product(range(rows), range(0, cols, _TILES_AT_ONCE)))
                for _ in executor.map(partial(_check_piece, path, index, level, tile_px), pieces):
                    pass
        except (RasterioError, ValueError) as error:
            raise StoreError(
                f"{name} does not read back as it was written: {error}; write it again"
            ) from error


@contextmanager
def _open(path: Path, index: int = 0) -> Iterator[DatasetReader]:
    """Open one level with GDAL, which looks at no other file in the folder."""
    options = {"OVERVIEW_LEVEL": index - 1} if index else {}
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        rasterio.open(path, driver="GTiff", **options) as dataset,
    ):
        yield dataset


def _check_header(path: Path, levels: Sequence[ExpectedLevel], tile_px: int, readback: Readback) -> None:
    with _open(path) as dataset:
        found = {
            "size": dataset.shape,
            "bands": dataset.dtypes,
            "tiles": dataset.block_shapes,
            "nodata": dataset.nodata,
            "overviews": len(dataset.overviews(1)),
            "place": read_georef(dataset),
        }
    wanted = {
        "size": (levels[0].height, levels[0].width),
        "bands": ("uint8",),
        "tiles": [(tile_px, tile_px)],
        "nodata": float(FILL),
        "overviews": len(levels) - 1,
        "place": readback,
    }
    wrong = [f"{key} {found[key]} instead of {wanted[key]}" for key in wanted if found[key] != wanted[key]]
    if wrong:
        raise ValueError("; ".join(wrong))


def _check_piece(path: Path, index: int, level: ExpectedLevel, tile_px: int, first: tuple[int, int]) -> None:
    row, first_col = first
    with _open(path, index) as dataset:
        if dataset.shape != (level.height, level.width):
            raise ValueError(f"level {index} has size {dataset.shape}, not {level.height} x {level.width}")
        top = row * tile_px
        for col, digest in enumerate(
            level.digests[row, first_col : first_col + _TILES_AT_ONCE], start=first_col
        ):
            left = col * tile_px
            height, width = min(tile_px, level.height - top), min(tile_px, level.width - left)
            pixels = dataset.read(1, window=Window(left, top, width, height))
            if digest_pixels(pixels) != digest:
                raise ValueError(f"tile ({row}, {col}) of level {index} has other pixels")
