from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image


@pytest.fixture(autouse=True)
def one_core():
    """Networks of a few weights lose far more to waiting for each other's threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_pairs(tmp_path):
    """Writes images of bright boxes and their labels, `value` inside and 0 outside; gives both folders."""

    def make(sizes, *, value=1, suffix=".png", palette=False, folder="data"):
        images, labels = tmp_path / folder / "images", tmp_path / folder / "labels"
        images.mkdir(parents=True)
        labels.mkdir()
        for number, (height, width) in enumerate(sizes):
            rng = np.random.default_rng(number)
            truth = np.zeros((height, width), np.uint8)
            for top, left in zip(rng.integers(0, height, 6), rng.integers(0, width, 6), strict=True):
                truth[top : top + height // 4, left : left + width // 4] = value
            light = 60 + 120 * (truth == value) + rng.integers(0, 20, (3, height, width))
            write_picture(images / f"scene{number}{suffix}", light.astype(np.uint8))
            mask = Image.fromarray(truth)
            if palette:
                mask.putpalette([0, 0, 0, 255, 0, 0, 255, 0, 0])
            mask.save(labels / f"scene{number}.png")
        return images, labels

    return make


def write_picture(path, pixels, **profile):
    if path.suffix == ".png":
        Image.fromarray(pixels.transpose(1, 2, 0)).save(path)
        return
    shape = {"count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(path, "w", driver="GTiff", dtype=pixels.dtype, **shape, **profile) as out,
    ):
        out.write(pixels)
