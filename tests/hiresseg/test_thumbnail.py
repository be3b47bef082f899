"""The small picture: the same, however the scene is cut into reads, and over a restart."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from hiresseg import thumbnail as thumbnail_module
from hiresseg.errors import StoreError
from hiresseg.geometry import Window
from hiresseg.thumbnail import Thumbnail

SIZE = 97, 61


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(thumbnail_module, "THUMBNAIL_PX", 25)


def scene(level=0, bands=4):
    rows, cols = np.indices([-(-edge // 2**level) for edge in SIZE])
    pixels = np.stack([(3 * rows + 5 * cols + 7 * band) % 251 for band in range(bands)]).astype(np.uint8)
    return pixels, (rows + cols) % 5 > 0


def sample(thumbnail, step, level=0, bands=4):
    pixels, valid = scene(level, bands)
    height, width = valid.shape
    for top in range(0, height, step):
        for left in range(0, width, step):
            window = Window(top, left, min(step, height - top), min(step, width - left))
            rows, cols = window.slices_in(Window(0, 0, height, width))
            thumbnail.sample(level, window, pixels[:, rows, cols], valid[rows, cols])


@pytest.mark.parametrize("step", [1, 3, 16, 100])
def test_takes_every_fourth_pixel_however_it_is_read(tmp_path, step):
    thumbnail = Thumbnail(tmp_path, SIZE, 4, np.dtype(np.uint8))
    assert thumbnail.factor == 4
    sample(thumbnail, step)
    image, valid = thumbnail.read()
    pixels, mask = scene()
    np.testing.assert_array_equal(image, pixels[:3, ::4, ::4])
    np.testing.assert_array_equal(valid, mask[::4, ::4])


@pytest.mark.parametrize("bands", [1, 2])
def test_one_band_is_kept_of_less_than_three(tmp_path, bands):
    thumbnail = Thumbnail(tmp_path, SIZE, bands, np.dtype(np.uint8))
    sample(thumbnail, 10, bands=bands)
    np.testing.assert_array_equal(thumbnail.read()[0], scene(bands=1)[0][:, ::4, ::4])


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("step", [2, 7])
def test_a_coarse_stage_fills_the_picture(tmp_path, level, step):
    thumbnail = Thumbnail(tmp_path, SIZE, 4, np.dtype(np.uint8))
    sample(thumbnail, step, level)
    pixels, mask = scene(level)
    rows, cols = ((np.arange(edge) * 4) >> level for edge in thumbnail.size)
    image, valid = thumbnail.read()
    np.testing.assert_array_equal(image, pixels[:3][:, rows][:, :, cols])
    np.testing.assert_array_equal(valid, mask[rows][:, cols])


def test_where_all_is_valid_no_mask_is_needed(tmp_path):
    thumbnail = Thumbnail(tmp_path, (10, 10), 1, np.dtype(np.float32))
    thumbnail.sample(0, Window(0, 0, 10, 10), np.ones((1, 10, 10), np.float32), None)
    image, valid = thumbnail.read()
    assert image.dtype == np.float32
    assert thumbnail.factor == 1
    assert valid.all()
    assert valid.dtype == bool


def test_what_was_never_read_is_not_valid(tmp_path):
    assert not Thumbnail(tmp_path, SIZE, 3, np.dtype(np.uint16)).read()[1].any()


def test_a_resumed_run_has_what_was_sampled_before(tmp_path):
    sample(Thumbnail(tmp_path, SIZE, 4, np.dtype(np.uint8)), 10)
    again = Thumbnail(tmp_path, SIZE, 4, np.dtype(np.uint8))
    np.testing.assert_array_equal(again.read()[0], scene()[0][:3, ::4, ::4])
    # of another scene nothing is kept
    assert not Thumbnail(tmp_path, SIZE, 4, np.dtype(np.uint16)).read()[0].any()


def test_a_torn_file_is_made_anew(tmp_path):
    sample(Thumbnail(tmp_path, SIZE, 4, np.dtype(np.uint8)), 10)
    os.truncate(tmp_path / "thumbnail.npy", 50)
    assert not Thumbnail(tmp_path, SIZE, 4, np.dtype(np.uint8)).read()[0].any()


def test_a_full_disk_is_said_before_it_is_mapped(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(thumbnail_module.os, "posix_fallocate", refuse)
    with pytest.raises(StoreError, match=r"thumbnail.npy: cannot be written \(No space left on device\)"):
        Thumbnail(tmp_path, SIZE, 3, np.dtype(np.uint8))
    assert list(tmp_path.iterdir()) == []
