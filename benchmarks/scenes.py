"""Scenes for measuring, made as they are written: memory does not grow with them.

Run: `python benchmarks/scenes.py SIDE_PX FILE.tif [--striped]` to have one on disk.
"""

import argparse
import json
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.windows import Window

CELL_PX = 512
_COARSE_PX = 64
_FINE_PX = 8
_ROADS_EDGE_PX = 1500
_ROADS_CRS = "EPSG:26986"
_JPEG_QUALITY = 75

Layout = Literal["tiled", "striped"]


def make_scene(path: Path, side_px: int, *, layout: Layout = "tiled", seed: int = 0) -> Path:
    """Write a square RGB GeoTIFF, 8 bit, DEFLATE: land with fields, roofs, and the noise of a sensor.

    Noise and shapes are such that it shrinks to about two thirds, as aerial photographs do, and costs as much
    to decode. A file that is there already is left alone: the same arguments give the same pixels.

    Args:
        path: written under another name first.
        side_px: rows and columns.
        layout: tiles of 512 px, or strips as GDAL chooses them.
        seed: another scene.
    """
    if path.exists():
        return path
    profile = {
        "driver": "GTiff",
        "height": side_px,
        "width": side_px,
        "count": 3,
        "dtype": "uint8",
        "photometric": "RGB",
        "interleave": "pixel",
        "compress": "deflate",
        "predictor": 2,
        "zlevel": 6,
        "num_threads": "ALL_CPUS",
        "bigtiff": "IF_SAFER",
        "crs": CRS.from_epsg(32645),
        "transform": from_origin(3e5, 3e6, 0.15, 0.15),
    }
    if layout == "tiled":
        profile |= {"tiled": True, "blockxsize": CELL_PX, "blockysize": CELL_PX}
    land = _Land(side_px, seed)
    partial = path.with_name(f"{path.name}.partial")
    with rasterio.Env(GDAL_CACHEMAX=256), rasterio.open(partial, "w", **profile) as dataset:
        for top in range(0, side_px, CELL_PX):
            height = min(CELL_PX, side_px - top)
            cells = [land.draw_cell(top, left) for left in range(0, side_px, CELL_PX)]
            row = np.concatenate(cells, axis=2)[:, :height, :side_px]
            dataset.write(row, window=Window(0, top, side_px, height))
    partial.replace(path)
    return path


class _Land:
    """Pixels of an endless scene by cells of 512 px; a cell is the same whenever it is drawn."""

    def __init__(self, side_px: int, seed: int) -> None:
        self._seed = seed
        rng = np.random.default_rng(seed)
        nodes = -(-side_px // CELL_PX) * CELL_PX // _COARSE_PX + 1
        # hills and fields: one lattice for all bands, and a tint of its own for each
        self._coarse = rng.normal(0, 26, (nodes, nodes)).astype(np.float32)
        self._tint = rng.normal(0, 9, (3, nodes, nodes)).astype(np.float32)
        # as numbers of a camera: independent from pixel to pixel, a few patterns turned and shifted
        self._noise = rng.normal(0, 4.5, (4, 3, CELL_PX, CELL_PX)).astype(np.float32)

    def draw_cell(self, top: int, left: int) -> np.ndarray:
        """(3, 512, 512) uint8 of the cell that begins at (top, left)."""
        rng = np.random.default_rng((self._seed, top, left))
        first_row, first_col = top // _COARSE_PX, left // _COARSE_PX
        span = CELL_PX // _COARSE_PX + 1
        nodes = slice(first_row, first_row + span), slice(first_col, first_col + span)
        fine = rng.normal(0, 10, (CELL_PX // _FINE_PX, CELL_PX // _FINE_PX)).astype(np.float32)
        grey = _enlarge(self._coarse[nodes]) + np.asarray(
            Image.fromarray(fine).resize((CELL_PX, CELL_PX), Image.Resampling.BICUBIC)
        )
        cell = np.stack([grey + _enlarge(tint[nodes]) for tint in self._tint]) + 118
        for _ in range(int(rng.integers(4, 12))):
            height, width = rng.integers(16, 120, 2)
            row, col = rng.integers(0, CELL_PX - 16, 2)
            colour = rng.normal(150, 45, (3, 1, 1)).astype(np.float32)
            roof = cell[:, row : row + height, col : col + width]
            roof[:] = 0.15 * roof + 0.85 * colour
        noise = np.roll(self._noise[rng.integers(4)], tuple(rng.integers(0, CELL_PX, 2)), axis=(1, 2))
        cell += noise[::-1] if rng.integers(2) else noise
        drawn: np.ndarray = np.clip(cell, 0, 255).astype(np.uint8)
        return drawn


def _enlarge(nodes: np.ndarray) -> np.ndarray:
    """Values at the corners of 64 px squares, with straight lines between them."""
    steps = np.arange(CELL_PX, dtype=np.float32) / _COARSE_PX
    first = steps.astype(int)
    part = (steps - first).astype(np.float32)
    rows = nodes[first] * (1 - part)[:, None] + nodes[first + 1] * part[:, None]
    enlarged: np.ndarray = rows[:, first] * (1 - part) + rows[:, first + 1] * part
    return enlarged


def make_road_mosaic(path: Path, roads: Path) -> Path:
    """The road images of the shared data at their places: 13.7 gigapixels of which nearly all are empty.

    A sparse BigTIFF in 512 px JPEG blocks with an internal mask; blocks that no image touches take no space.

    Args:
        path: the file; left alone where it exists.
        roads: the folder `massachusetts_roads`.
    """
    if path.exists():
        return path
    images = sorted(roads.glob("*/images/*.tif"))
    if not images:
        raise FileNotFoundError(f"{roads}: holds no road image; give the folder massachusetts_roads")
    places = {}
    for image in images:
        with rasterio.open(image) as dataset:
            places[image] = dataset.bounds
    left = min(bounds.left for bounds in places.values())
    top = max(bounds.top for bounds in places.values())
    width = round(max(bounds.right for bounds in places.values()) - left)
    height = round(top - min(bounds.bottom for bounds in places.values()))
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8", "tiled": True,
        "blockxsize": CELL_PX, "blockysize": CELL_PX, "compress": "jpeg", "photometric": "YCBCR",
        "jpeg_quality": _JPEG_QUALITY, "interleave": "pixel", "sparse_ok": True, "bigtiff": "YES",
        "crs": CRS.from_string(_ROADS_CRS), "transform": from_origin(left, top, 1, 1),
    }  # fmt: skip
    partial = path.with_name(f"{path.name}.partial")
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_CACHEMAX=256),
        rasterio.open(partial, "w", **profile) as mosaic,
    ):
        for image, bounds in places.items():
            with rasterio.open(image) as dataset:
                pixels, valid = dataset.read(), dataset.dataset_mask()
            at = Window(round(bounds.left - left), round(top - bounds.top), pixels.shape[2], pixels.shape[1])
            mosaic.write(pixels, window=at)
            mosaic.write_mask(valid, window=at)
    partial.replace(path)
    return path


def main() -> None:
    """Write one scene."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side_px", type=int)
    parser.add_argument("path", type=Path)
    parser.add_argument("--striped", action="store_true")
    parser.add_argument("--roads", type=Path, help="the mosaic of this folder's images; the side is not used")
    arguments = parser.parse_args()
    if arguments.roads:
        make_road_mosaic(arguments.path, arguments.roads)
    else:
        make_scene(arguments.path, arguments.side_px, layout="striped" if arguments.striped else "tiled")
    print(json.dumps({"scene": str(arguments.path)}))


if __name__ == "__main__":
    main()
