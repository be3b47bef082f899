"""Peak memory of `hiresseg run` over its imports: a scene, one sixteen times as large, and 13.7 gigapixels.

Run: `python benchmarks/memory.py [--sides 8192 32768] [--roads ../shared/data/massachusetts_roads]`

The model is a 1x1 convolution with tiles of 512 px, so that everything but the network shows. The larger
scene takes minutes to write and minutes to run. With --roads the sparse mosaic of the road images is run as
well: 169,500 x 81,000 px, nearly all without data. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from pathlib import Path

from processes import run_hiresseg, run_script

SIDES = (8192, 32768)
ALLOWED_GIB = 0.5
ALLOWED_GROWTH_MB = 64
_GIB, _MB = 2**30, 1e6


def measure_peak(scene: Path, model: Path, out: Path) -> int:
    """Bytes over the imports of one run; prints what it did."""
    report, whole = run_hiresseg(scene, model, out)
    memory, stage = report["memory"], report["stages"][-1]
    peak: int = memory["peak_bytes"] - memory["imports_bytes"]
    planned = (memory["planned_bytes"] - memory["imports_bytes"]) / _GIB
    pixels = report["scene"]["height"] * report["scene"]["width"]
    print(
        f"{scene.name}: {pixels / 1e9:.2f} Gpx, {stage['tiles']:,} tiles, {stage['tiles_run']:,} run, "
        f"{stage['tiles_empty']:,} empty; peak {peak / _GIB:.3f} GiB over the imports "
        f"(planned {planned:.3f}), {whole.wall:.0f} s wall, {whole.cpu:.0f} s CPU",
        flush=True,
    )
    return peak


def measure_all(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Peaks by scene, in GiB, and the growth in MB."""
    model = folder / "conv"
    run_script("toy_models.py", "conv", model)
    # kernels are compiled at their first use on a machine, which takes memory of its own
    run_script("scenes.py", 600, folder / "warm.tif")
    run_hiresseg(folder / "warm.tif", model, folder / "memory-warm")
    peaks = {}
    for side_px in arguments.sides:
        scene = folder / f"{side_px}.tif"
        run_script("scenes.py", side_px, scene)
        peaks[str(side_px)] = measure_peak(scene, model, folder / f"memory-{side_px}")
    grown = {"growth_mb": (peaks[str(max(arguments.sides))] - peaks[str(min(arguments.sides))]) / _MB}
    if arguments.roads:
        mosaic = folder / "roads.tif"
        run_script("scenes.py", 0, mosaic, "--roads", arguments.roads)
        peaks["roads"] = measure_peak(mosaic, model, folder / "memory-roads")
    return {name: peak / _GIB for name, peak in peaks.items()} | grown


def main() -> None:
    """Print peaks and growth, and end with 1 where one is above what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--roads", type=Path, help="folder massachusetts_roads of the shared data")
    parser.add_argument("--folder", type=Path, help="where scenes and outputs stay; else a temporary one")
    arguments = parser.parse_args()
    if arguments.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            found = measure_all(Path(folder), arguments)
    else:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        found = measure_all(arguments.folder, arguments)
    growth = found["growth_mb"]
    first, last = min(arguments.sides), max(arguments.sides)
    print(f"from {first} to {last}: {growth:+.0f} MB (allowed {ALLOWED_GROWTH_MB})")
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))
    is_small = found[str(first)] <= ALLOWED_GIB
    raise SystemExit(not (is_small and growth <= ALLOWED_GROWTH_MB))


if __name__ == "__main__":
    main()
