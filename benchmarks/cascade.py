"""What the bundled cascade is worth on a real strip, through `hiresseg run`, beside its parts.

Run: `python benchmarks/cascade.py --data ../shared/data/banepa_buildings/val [--model cascade]`

Three rows: the coarse network alone (its answer as the run keeps it, upsampled as the refiner is given it),
the refiner run everywhere (the same folder with `refine_above` 0), and the cascade as it is. Pixels whose
label is 255 count nowhere. The last line is one JSON object.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import zarr
from processes import run_hiresseg

from hiresseg.geometry import Window
from hiresseg.metrics import Confusion
from hiresseg.metrics.confusion import UNKNOWN
from hiresseg.models.folder import find_model
from hiresseg.prior import Prior
from hiresseg.store import ArrayLayout, RunArray

IGNORE, FOREGROUND = 255, 1


def score_labels(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """IoU, precision and recall of the foreground."""
    matrix = Confusion(2)
    matrix.add(np.where(truth == IGNORE, UNKNOWN, truth.astype(np.int16)), found.astype(np.int16))
    return {name: float(getattr(matrix, name)[FOREGROUND]) for name in ("iou", "precision", "recall")}


def run_model(image: Path, model: Path, out: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Foreground found by a run, and what its last stage took."""
    report, whole = run_hiresseg(image, model, out)
    with rasterio.open(out / "labels.tif") as dataset:
        labels = dataset.read(1)
    stage = report["stages"][-1]
    return labels == FOREGROUND, {"share_refined": stage["share_run"], "cpu_seconds": whole.cpu}


def read_coarse(out: Path, factor: int, shape: tuple[int, int]) -> np.ndarray:
    """Foreground by the first stage of the run in `out`."""
    name = "stages/0/probabilities"
    stored = zarr.open_array(out / "run.zarr" / name, mode="r")
    assert stored.shards is not None
    layout = ArrayLayout(name, *stored.shape, stored.chunks[-1], stored.shards[-1], 0)
    prior = Prior(RunArray(out / "run.zarr", layout), factor)
    found: np.ndarray = (prior.read(Window(0, 0, *shape))[0, 0] >= 0.5).numpy()
    return found


def measure_all(image: Path, truth: np.ndarray, name: str, folder: Path) -> dict[str, dict[str, float]]:
    """All rows."""
    bundled, _ = find_model(name)
    everywhere = folder / "everywhere"
    shutil.copytree(bundled, everywhere)
    config = json.loads((everywhere / "config.json").read_text())
    (everywhere / "config.json").write_text(json.dumps(config | {"refine_above": 0.0}))
    levels = [stage["level"] for stage in config["stages"]]
    found, spent = run_model(image, bundled, folder / "cascade")
    coarse = read_coarse(folder / "cascade", 2 ** (levels[0] - levels[-1]), truth.shape)
    all_found, all_spent = run_model(image, everywhere, folder / "all")
    return {
        "coarse alone": {**score_labels(coarse, truth), "share_refined": 0.0},
        "refiner everywhere": {**score_labels(all_found, truth), **all_spent},
        "cascade": {**score_labels(found, truth), **spent},
    }


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument("--model", default="cascade", help="a cascade of two stages")
    arguments = parser.parse_args()
    image = next((arguments.data / "images").glob("*.tif"))
    with rasterio.open(arguments.data / "labels" / image.name) as dataset:
        truth = dataset.read(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_all(image, truth, arguments.model, Path(folder))
    print(f"{image.name}: {truth.shape[0]} x {truth.shape[1]} px")
    print(f"{'':20}{'IoU':>8}{'precision':>11}{'recall':>8}{'refined':>9}")
    for name, row in rows.items():
        print(
            f"{name:20}{row['iou']:8.3f}{row['precision']:11.3f}{row['recall']:8.3f}{row['share_refined']:9.1%}"
        )
    print(
        json.dumps({name: {key: round(value, 4) for key, value in row.items()} for name, row in rows.items()})
    )


if __name__ == "__main__":
    main()
