"""Reading overlapping rows of tiles through `Pages`: CPU time per pixel, and how often a pixel is decoded.

Run: `python benchmarks/bench_pages.py [side_px]`. One thread. Rows of tiles are 512 px high, one every 448.
The floor is GDAL reading the same file once, aligned to its blocks; beside it stands what GDAL costs where
the same rows are read without a cache of pages.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import rasterio
from rasterio.windows import Window as GdalWindow
from scenes import Layout, make_scene

from hiresseg.geometry import Window
from hiresseg.scenes import Pages, open_scene
from hiresseg.scenes.handles import GDAL_OPTIONS

_TILE_PX, _STRIDE_PX = 512, 448
_REPEATS = 5


def _rows(side_px: int) -> list[Window]:
    extent = Window(0, 0, side_px, side_px)
    return [Window(top, 0, _TILE_PX, side_px).intersect(extent) for top in range(0, side_px, _STRIDE_PX)]


def _read_with_gdal(path: Path, windows: list[Window]) -> None:
    with rasterio.Env(**GDAL_OPTIONS), rasterio.open(path, driver="GTiff", sharing=False) as dataset:
        for window in windows:
            dataset.read(window=GdalWindow(window.left, window.top, window.width, window.height))


def _read_with_pages(path: Path, windows: list[Window], memory_bytes: int, scratch: Path | None) -> float:
    scene = open_scene(path)
    pages = Pages(scene, 0, memory_bytes=memory_bytes, scratch=scratch)
    for window in windows:
        pages.expect(window)
    for window in windows:
        pages.read(window)
    pages.close()
    return scene.bytes_decoded / (scene.height * scene.width * scene.num_bands)


def _aligned(side_px: int, block: tuple[int, int]) -> list[Window]:
    rows = -(-512 // block[0]) * block[0]
    extent = Window(0, 0, side_px, side_px)
    return [
        Window(top, left, rows, block[1]).intersect(extent)
        for top in range(0, side_px, rows)
        for left in range(0, side_px, block[1])
    ]


def _measure(cases: dict[str, Callable[[], object]], num_px: int) -> dict[str, float]:
    """Median CPU nanoseconds per pixel; the cases take turns, so that a busy machine harms all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(_REPEATS):
        for name, run in cases.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(taken) / num_px * 1e9 for name, taken in seconds.items()}


def _report(folder: Path, layout: Layout, side_px: int) -> None:
    path = make_scene(folder / f"{layout}.tif", side_px, layout=layout)
    aligned = _aligned(side_px, open_scene(path).decode_unit(0))
    windows = _rows(side_px)
    cases: dict[str, Callable[[], object]] = {
        "GDAL, aligned (floor)": lambda: _read_with_gdal(path, aligned),
        "GDAL, rows of tiles": lambda: _read_with_gdal(path, windows),
        "Pages": lambda: _read_with_pages(path, windows, 1 << 30, None),
        "Pages, all in scratch": lambda: _read_with_pages(path, windows, 0, folder),
    }
    amplification = _read_with_pages(path, windows, 1 << 30, None)
    taken = _measure(cases, side_px * side_px)
    floor = taken["GDAL, aligned (floor)"]
    for name, ns in taken.items():
        print(f"{layout:8} {name:24} {ns:6.2f} ns/px  {ns / floor:5.2f} x floor")
    print(f"{layout:8} bytes decoded / bytes in the scene: {amplification:.2f}")


if __name__ == "__main__":
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    with tempfile.TemporaryDirectory() as name:
        for each in ("tiled", "striped"):
            _report(Path(name), each, side)
