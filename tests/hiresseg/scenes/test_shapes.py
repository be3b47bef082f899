"""Scenes of any shape: as long as a road, as wide as a country, and at the edges of the lattice."""

import numpy as np
import pytest
import torch

from hiresseg.forward import ForwardSetting
from hiresseg.geometry import Window
from hiresseg.models import StageSpec
from hiresseg.scenes import open_scene
from hiresseg.stages import stream
from hiresseg.testing import make_model

TILE, OVERLAP = 80, 16
STRIDE = TILE - OVERLAP
EDGES = [
    1,
    STRIDE - 1,
    STRIDE,
    STRIDE + 1,
    TILE - 1,
    TILE,
    TILE + 1,
    3 * STRIDE - 1,
    3 * STRIDE,
    3 * STRIDE + 1,
]


def is_dark(images, prior):
    """A network of one pixel's view, which has no seams to hide."""
    return torch.cat([images - 99.5, 99.5 - images], dim=1)


def segment(scene, tile=TILE):
    """The labels, of which each pixel must be written once."""
    model = make_model(is_dark, stages=(StageSpec(0, tile, OVERLAP, 2),), num_logits=2, num_bands=1)
    size = scene.height, scene.width
    labels, written = np.full(size, 99, np.uint8), np.zeros(size, np.uint8)
    for answer in stream(scene, model, setting=ForwardSetting(workers=2, batch=1), block_px=8192):
        at = answer.window.slices_in(Window(0, 0, *size))
        labels[at] = answer.labels
        written[at] += 1
    assert (written == 1).all()
    return labels


@pytest.mark.parametrize("height", EDGES)
def test_every_size_about_a_tile_and_a_stride_is_answered_as_a_whole(make_raster, height):
    for width in EDGES:
        pixels = np.random.default_rng(height).integers(0, 255, (1, height, width)).astype(np.uint8)
        scene = open_scene(make_raster(pixels))
        np.testing.assert_array_equal(segment(scene), pixels[0] < 100)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 1_000_000), "tiled"),
        ((1_000_000, 1), "striped"),
        ((3, 200_000), "striped"),
        ((3, 200_000), "tiled"),
    ],
    ids=str,
)
def test_a_very_long_scene_is_answered_whole(make_raster, shape, layout):
    pixels = np.random.default_rng(1).integers(1, 255, (1, *shape)).astype(np.uint8)
    pixels[0, -1, -1] = pixels[0, 0, 0] = 0
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256} if layout == "tiled" else {}
    scene = open_scene(make_raster(pixels, nodata=0, compress="lzw", **tiles))
    want = np.where(pixels[0] == 0, 255, pixels[0] < 100)
    np.testing.assert_array_equal(segment(scene, tile=272), want)


def test_a_very_long_picture_is_answered_whole(make_picture):
    pixels = np.random.default_rng(1).integers(1, 255, (1, 3, 200_000)).astype(np.uint8)
    scene = open_scene(make_picture(pixels, "PNG"))
    np.testing.assert_array_equal(segment(scene, tile=272), pixels[0] < 100)
