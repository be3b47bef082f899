"""What the parts of a run cost by themselves: decode, forward, write. One JSON line: wall and CPU seconds.

Run: `python benchmarks/floors.py decode SCENE --workers 2`
     `python benchmarks/floors.py forward MODEL --report OUT/report.json`
     `python benchmarks/floors.py write OUT/labels.tif --workers 2`

Imports, opening, loading, and two forwards to warm up are left out of the figures.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WINDOW_PX = 1024


def measure(work: Callable[[], object]) -> dict[str, float]:
    """Wall and processor seconds of one call."""
    started, cpu_started = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu_started}


def decode(scene: Path, workers: int) -> dict[str, float]:
    """Decode every block of a scene once, by windows along its blocks, one handle per thread."""
    import rasterio
    from rasterio.windows import Window

    with rasterio.open(scene) as dataset:
        height, width = dataset.shape
        rows, cols = dataset.block_shapes[0]
    step_rows, step_cols = (max(edge, WINDOW_PX // edge * edge) for edge in (rows, cols))
    windows = [
        Window(left, top, min(step_cols, width - left), min(step_rows, height - top))
        for top in range(0, height, step_rows)
        for left in range(0, width, step_cols)
    ]

    def read(part: int) -> None:
        with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(scene, sharing=False) as dataset:
            for window in windows[part::workers]:
                dataset.read(window=window)

    return measure(lambda: _in_threads(read, workers))


def forward(folder: Path, report: dict[str, Any]) -> dict[str, float]:
    """As many forwards as the run made, in its setting, on tiles that are there already."""
    import contextlib

    import torch

    from hiresseg.forward import ForwardSetting, empty_tiles, keep_freed_memory, place_model
    from hiresseg.models import load_model

    setting, stage = ForwardSetting(**report["setting"]), report["stages"][-1]
    model = load_model(folder, device=setting.device)
    keep_freed_memory()
    place_model(model, setting)
    segmenter, num_bands = model.segmenters[-1], len(model.spec.bands)
    batches = -(-stage["tiles_run"] // setting.batch)
    dtype = torch.bfloat16 if setting.precision == "bf16" else torch.float16
    warm = threading.Barrier(setting.workers + 1)

    def look(part: int) -> None:
        torch.set_num_threads(setting.threads)
        images = empty_tiles(setting, num_bands, stage["tile_px"]).normal_()
        reduced: Any = contextlib.nullcontext()
        if setting.precision != "fp32":
            reduced = torch.autocast(setting.device, dtype=dtype)
        with torch.inference_mode(), reduced:
            for _ in range(2):
                segmenter(images, None)
            warm.wait()
            for _ in range(part, batches, setting.workers):
                segmenter(images, None)

    threads = [threading.Thread(target=look, args=(part,)) for part in range(setting.workers)]
    for thread in threads:
        thread.start()
    warm.wait()
    return measure(lambda: [thread.join() for thread in threads])


def write(mask: Path, workers: int) -> dict[str, float]:
    """Write the mask of a run with GDAL's GeoTIFF driver: tiles, DEFLATE, no overviews, no look back."""
    import rasterio

    with rasterio.open(mask) as dataset:
        labels = dataset.read(1)
    profile = {
        "driver": "GTiff", "height": labels.shape[0], "width": labels.shape[1], "count": 1, "dtype": "uint8",
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "num_threads": workers,
    }  # fmt: skip

    with tempfile.TemporaryDirectory(dir=mask.parent) as folder:

        def save() -> None:
            with rasterio.open(Path(folder) / "mask.tif", "w", **profile) as dataset:
                dataset.write(labels, 1)

        return measure(save)


def _in_threads(work: Callable[[int], None], workers: int) -> None:
    threads = [threading.Thread(target=work, args=(part,)) for part in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    """Measure one floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("decode", "forward", "write"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "forward":
        spent = forward(arguments.path, json.loads(arguments.report.read_text()))
    else:
        spent = (decode if arguments.what == "decode" else write)(arguments.path, arguments.workers)
    print(json.dumps(spent))


if __name__ == "__main__":
    main()
