from __future__ import annotations

import pickle

import numpy as np
import pytest
from affine import Affine

from hiresseg.errors import SceneError
from hiresseg.geometry import Georef, Window
from hiresseg.scenes import RasterScene
from hiresseg.scenes.part import PartOfScene
from hiresseg.testing import ArrayScene


def whole(valid=None):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 600, 700), np.uint8)
    return ArrayScene(pixels, valid, georef=Georef("wkt", Affine(2, 0, 10, 0, -2, 20)))


@pytest.mark.parametrize("level", [0, 2])
def test_a_part_reads_what_lies_there(level):
    scene = whole(np.random.default_rng(1).random((600, 700)) < 0.7)
    part = PartOfScene(scene, Window(256, 512, 300, 188))
    height, width = part.size_at(level)
    assert (height, width) == (-(-300 >> level), -(-188 >> level))
    pixels, valid = part.read(Window(1, 2, height - 1, width - 2), level)
    there = Window((256 >> level) + 1, (512 >> level) + 2, height - 1, width - 2)
    expected, expected_valid = scene.read(there, level)
    assert np.array_equal(pixels, expected)
    assert np.array_equal(valid, expected_valid)
    assert part.georef.transform == Affine(2, 0, 10 + 1024, 0, -2, 20 - 512)
    assert part.fingerprint() != scene.fingerprint()


def test_windows_and_levels_that_are_not_inside_are_refused():
    part = PartOfScene(whole(), Window(256, 0, 100, 700))
    with pytest.raises(SceneError, match="clip it"):
        part.read(Window(0, 0, 101, 10))
    with pytest.raises(SceneError, match="between two pixels"):
        part.read(Window(0, 0, 1, 1), 9)


@pytest.mark.parametrize("window", [Window(0, 0, 601, 5), Window(0, 0, 0, 5), Window(100, 0, 50, 50)])
def test_what_is_no_part_is_refused(window):
    with pytest.raises(SceneError, match="is no part"):
        PartOfScene(whole(), window)


def test_labels_are_read_as_stored(make_raster):
    values = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    path = make_raster(values, nodata=0, mask=np.eye(3, 4, dtype=bool))
    scene = pickle.loads(pickle.dumps(RasterScene(path, as_stored=True)))
    pixels, valid = scene.read(Window(0, 0, 3, 4))
    assert np.array_equal(pixels, values)
    assert valid is None
    assert not scene.has_gaps
    assert RasterScene(path).read(Window(0, 0, 3, 4))[1] is not None
