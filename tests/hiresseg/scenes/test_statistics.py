import numpy as np
import pytest

from hiresseg.errors import SceneError
from hiresseg.scenes import band_statistics, open_scene
from hiresseg.scenes import statistics as module
from hiresseg.testing import ArrayScene


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(2).integers(1, 200, shape).astype(dtype)


def test_is_that_of_the_valid_pixels():
    pixels = noise((3, 300, 211), np.int16) * np.array([1, -7, 90], np.int16)[:, None, None]
    valid = np.random.default_rng(0).random((300, 211)) < 0.3
    mean, std = band_statistics(ArrayScene(pixels, valid))
    np.testing.assert_allclose(mean, pixels[:, valid].mean(axis=1, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(std, pixels[:, valid].std(axis=1, dtype=float), rtol=1e-12)


def test_does_not_lose_digits_far_from_zero():
    pixels = (noise((1, 200, 200)) / 1e3 + 1e6).astype(np.float64)
    mean, std = band_statistics(ArrayScene(pixels))
    np.testing.assert_allclose([mean[0], std[0]], [pixels.mean(), pixels.std()], rtol=1e-9)


def test_masked_pixels_do_not_count(make_raster):
    pixels = noise((1, 120, 90), np.float32)
    pixels[0, ::3] = np.nan
    pixels[0, 1::3, ::2] = -3.4e38
    mean, _ = band_statistics(open_scene(make_raster(pixels, nodata=-3.4e38)))
    assert mean[0] == pytest.approx(pixels[np.isfinite(pixels) & (pixels > 0)].mean(dtype=float))


def test_a_constant_band_may_be_divided_by():
    for value, dtype in ((7, np.uint8), (0.1, np.float32), (-1234.567, np.float64), (0, np.int16)):
        mean, std = band_statistics(ArrayScene(np.full((2, 300, 301), value, dtype), unit_px=37))
        np.testing.assert_allclose(mean, np.full(2, value, dtype).astype(float))
        assert std.tolist() == [1, 1]


def test_a_scene_without_a_valid_pixel_is_refused():
    with pytest.raises(SceneError, match="no valid pixel"):
        band_statistics(ArrayScene(noise((1, 40, 40)), np.zeros((40, 40), bool)))


def test_a_large_scene_is_sampled_evenly_and_always_alike(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_PX", 1 << 18)
    height = width = 6000
    pixels = np.broadcast_to(np.arange(height, dtype=np.uint16)[:, None], (height, width))[None]
    scene = ArrayScene(pixels, unit_px=128)
    mean, std = band_statistics(scene)
    assert scene.bytes_decoded < pixels.nbytes / 6
    assert mean[0] == pytest.approx(height / 2, rel=0.05)
    assert std[0] == pytest.approx(height / np.sqrt(12), rel=0.05)
    np.testing.assert_array_equal(band_statistics(scene)[0], mean)


def test_the_one_valid_corner_of_a_large_scene_is_found(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_PX", 1 << 14)
    pixels, valid = np.full((1, 3000, 3000), 9, np.uint8), np.zeros((3000, 3000), bool)
    valid[-3:, -3:] = True
    assert band_statistics(ArrayScene(pixels, valid))[0] == [9]


def test_an_overview_is_read_where_there_is_one(make_raster, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_PX", 200 * 200)
    scene = open_scene(make_raster(noise((1, 800, 800)), overviews=[2, 4, 8]))
    band_statistics(scene)
    assert scene.bytes_decoded == 200 * 200
