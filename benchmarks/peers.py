"""How others do it: read all, slide a window, argmax, write. One JSON line: wall, CPU, memory over imports.

Run: `python benchmarks/peers.py monai|numpy SCENE MODEL OUT.tif`. `monai` needs the extra [bench].

Both are given their usual setting: torch's own threads, NCHW, single precision; batches of four for MONAI (as
its tutorials have it) and of one for the loop. Imports, loading and one forward to warm up are left out.
"""

import argparse
import json
import resource
from pathlib import Path

import numpy as np
import psutil
import rasterio
import torch
from floors import measure

from hiresseg.models import Model, load_model

_BATCH = 4


def slide_monai(image: torch.Tensor, model: Model) -> np.ndarray:
    """Labels by MONAI's sliding window, Gaussian weights."""
    from monai.inferers import sliding_window_inference

    stage, segmenter = model.spec.stages[0], model.segmenters[0]
    logits = sliding_window_inference(
        image[None],
        roi_size=(stage.tile_px, stage.tile_px),
        sw_batch_size=_BATCH,
        predictor=lambda tiles: segmenter(tiles, None),
        overlap=stage.overlap_px / stage.tile_px,
        mode="gaussian",
    )
    labels: np.ndarray = logits.argmax(1)[0].to(torch.uint8).numpy()
    return labels


def slide_numpy(image: torch.Tensor, model: Model) -> np.ndarray:
    """Labels by the loop that everybody writes: probabilities times a window, over the sum of the windows."""
    stage, segmenter = model.spec.stages[0], model.segmenters[0]
    tile, stride = stage.tile_px, stage.tile_px - stage.overlap_px
    height, width = image.shape[1:]
    rise = np.minimum(1.0, (np.arange(tile) + 0.5) / stage.overlap_px)
    edge = np.minimum(rise, rise[::-1]).astype(np.float32)
    window = edge[:, None] * edge
    total = np.zeros((model.spec.num_logits, height, width), np.float32)
    weight = np.zeros((height, width), np.float32)
    for top in _starts(height, tile, stride):
        for left in _starts(width, tile, stride):
            part = np.s_[top : top + tile, left : left + tile]
            logits = segmenter(image[None, :, *part], None)
            total[:, *part] += torch.softmax(logits[0], 0).numpy() * window
            weight[part] += window
    total /= weight
    labels: np.ndarray = total.argmax(0).astype(np.uint8)
    return labels


def _starts(size: int, tile: int, stride: int) -> list[int]:
    # the last one shifted back to the edge, as these loops do
    return [*range(0, size - tile, stride), size - tile]


def main() -> None:
    """Measure one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("monai", "numpy"))
    parser.add_argument("scene", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    spec, slide = model.spec, slide_monai if arguments.name == "monai" else slide_numpy
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    tile_px = spec.stages[0].tile_px
    with torch.inference_mode():
        model.segmenters[0](torch.zeros(1, len(spec.bands), tile_px, tile_px), None)
        if arguments.name == "monai":
            import monai.inferers  # noqa: F401 - imports are not measured
        before = psutil.Process().memory_info().rss

        def run() -> None:
            with rasterio.open(arguments.scene) as dataset:
                image = (torch.from_numpy(dataset.read()).float() - mean) / std
                height, width = dataset.shape
            profile = {"count": 1, "dtype": "uint8", "tiled": True, "compress": "deflate"}
            labels = slide(image, model)
            with rasterio.open(
                arguments.out, "w", "GTiff", width, height, num_threads="ALL_CPUS", **profile
            ) as dataset:
                dataset.write(labels, 1)

        spent = measure(run)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(spent | {"peak_gib": (peak - before) / 2**30}))


if __name__ == "__main__":
    main()
