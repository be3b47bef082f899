"""COG of a five-class mask: CPU time per pixel of `write_cog` against GDAL's COG driver.

Run: `python benchmarks/bench_cog.py [edge_px]`. One thread each. Overviews by mode are what `write_cog`
computes; its figure includes reading the whole file back, that of GDAL does not.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from PIL import Image
from rasterio.crs import CRS
from rasterio.io import MemoryFile

from hiresseg.deflate import compress_gzip
from hiresseg.geometry import Georef
from hiresseg.sinks import ClassMeaning, write_cog

_TILE_PX = 512
_REPEATS = 3


@dataclass(frozen=True)
class _Class:
    name: str
    color: tuple[int, int, int]


class _Chunks:
    """A mask as a finished run holds it: gzip members."""

    def __init__(self, mask: np.ndarray) -> None:
        self.shape, self.chunk_px = mask.shape, _TILE_PX
        self._members = {
            (row, col): compress_gzip(
                mask[row * _TILE_PX : (row + 1) * _TILE_PX, col * _TILE_PX : (col + 1) * _TILE_PX]
            )
            for row in range(mask.shape[0] // _TILE_PX)
            for col in range(mask.shape[1] // _TILE_PX)
        }

    def read_chunk_gzip(self, row: int, col: int) -> bytes:
        return self._members[row, col]


def draw_mask(edge_px: int, num_classes: int = 5) -> np.ndarray:
    """Patches with ragged edges: about three pixels in a hundred have another class to their left."""
    rng = np.random.default_rng(0)
    mask, highest = np.zeros((edge_px, edge_px), np.uint8), np.full((edge_px, edge_px), -np.inf, np.float32)
    for value in range(num_classes):
        height = 0.02 * rng.standard_normal((edge_px, edge_px), np.float32)
        for coarse_px, weight in ((64, 1.0), (8, 0.12)):
            noise = rng.standard_normal((edge_px // coarse_px, edge_px // coarse_px), np.float32)
            height += weight * np.asarray(
                Image.fromarray(noise).resize((edge_px, edge_px), Image.Resampling.BICUBIC)
            )
        mask[height > highest] = value
        highest = np.maximum(highest, height)
    return mask


def time_call(call: Callable[[], object], pixels: int) -> float:
    """Least CPU time of a few runs in nanoseconds per pixel."""
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best / pixels * 1e9


def main() -> None:
    """Print a line per writer."""
    edge_px = int(sys.argv[1]) if len(sys.argv) > 1 else 6144
    mask = draw_mask(edge_px)
    ragged = float((mask[:, 1:] != mask[:, :-1]).mean())
    print(f"{edge_px} x {edge_px}, {ragged:.1%} of pixels differ from their left neighbour")
    chunks = _Chunks(mask)
    meaning = ClassMeaning(tuple(_Class(f"class {value}", (value * 50, 100, 200)) for value in range(5)))
    crs, transform = CRS.from_epsg(32633), Affine(0.5, 0, 5e5, 0, -0.5, 5e6)
    georef = Georef(crs.to_wkt(), transform)
    with tempfile.TemporaryDirectory() as folder, MemoryFile() as memory:
        target = Path(folder) / "mask.tif"
        options = {"height": edge_px, "width": edge_px, "count": 1, "dtype": "uint8", "nodata": 255}
        with memory.open(driver="GTiff", crs=crs, transform=transform, **options) as dataset:
            dataset.write(mask, 1)

        def write_with_gdal(overviews: str) -> None:
            with rasterio.Env(GDAL_NUM_THREADS="1"), memory.open() as dataset:
                rasterio.shutil.copy(
                    dataset,
                    target,
                    driver="COG",
                    compress="deflate",
                    blocksize=_TILE_PX,
                    overview_resampling=overviews,
                )

        write_cog(target, chunks, georef, meaning=meaning)
        for name, call in (
            ("write_cog", lambda: write_cog(target, chunks, georef, meaning=meaning)),
            ("GDAL COG deflate mode", lambda: write_with_gdal("mode")),
            ("GDAL COG deflate nearest", lambda: write_with_gdal("nearest")),
        ):
            spent = time_call(call, mask.size)
            print(f"{name:28} {spent:6.2f} ns/px   {mask.size / target.stat().st_size:5.1f} : 1")


if __name__ == "__main__":
    main()
