from __future__ import annotations

import torch
from numpy.random import default_rng

from hiresseg.training.augment import disturb_colours


def scene():
    rows = torch.arange(48.0)[:, None].expand(48, 48)
    return torch.stack([60 + 2 * rows, 80 + rows.T, 200 - 3 * rows])[None]


def test_result_is_what_a_file_could_hold():
    out = disturb_colours(scene().expand(15, -1, -1, -1), default_rng(0))
    assert out.min() >= 0
    assert out.max() <= 255
    assert torch.equal(out, out.round())


def test_every_image_is_disturbed_in_its_own_way_and_again_the_same():
    images = scene().expand(6, -1, -1, -1)
    first, second = (disturb_colours(images, default_rng(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert all(not torch.equal(first[0], other) for other in first[1:])


def test_what_is_bright_stays_brighter_than_what_is_dark():
    images = torch.full((15, 3, 32, 32), 60.0)
    images[:, :, :, 16:] = 180.0
    out = disturb_colours(images, default_rng(1)).mean(dim=(1, 2))
    assert (out[:, 20:].mean(1) > out[:, :12].mean(1) + 20).all()


def test_images_need_not_be_square():
    images = torch.full((12, 3, 24, 40), 90.0)
    assert disturb_colours(images, default_rng(0)).shape == images.shape


def test_input_is_left_as_it_was():
    images = scene()
    disturb_colours(images, default_rng(2))
    assert torch.equal(images, scene())
