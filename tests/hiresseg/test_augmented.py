"""Test-time augmentation against the average taken by hand."""

from __future__ import annotations

import pytest
import torch

from hiresseg.augmented import AugmentedSegmenter, augment_model
from hiresseg.models import StageSpec
from hiresseg.testing import FakeSegmenter, convolution, make_model

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
PRIOR = torch.rand(2, 2, 32, 32, generator=torch.Generator().manual_seed(2))
ONE = (StageSpec(0, 32, 16),)
# the eight symmetries of the square, written as what they do to rows and columns
SQUARE = [
    (lambda x, f=flip_rows, g=flip_cols, t=swap: _move(x, f, g, t))
    for flip_rows in (False, True)
    for flip_cols in (False, True)
    for swap in (False, True)
]


def _move(tiles, flip_rows, flip_cols, swap):
    tiles = tiles.flip(2) if flip_rows else tiles
    tiles = tiles.flip(3) if flip_cols else tiles
    return tiles.transpose(2, 3) if swap else tiles


def undo(move):
    """The inverse, found by what it does to numbered pixels."""
    numbers = torch.arange(32 * 32.0).reshape(1, 1, 32, 32)
    return next(other for other in SQUARE if torch.equal(other(move(numbers)), numbers))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("augmentation", "views"), [("flips", 4), ("d4", 8)])
@pytest.mark.parametrize("with_prior", [False, True])
def test_is_the_average_over_the_views(activation, augmentation, views, with_prior):
    network = convolution(3, 2, kernel_px=5, prior_gain=3.0)
    prior = PRIOR if with_prior else None
    activate = (lambda x: x.softmax(1)) if activation == "softmax" else torch.sigmoid
    moves = [move for index, move in enumerate(SQUARE) if augmentation == "d4" or index % 2 == 0]
    answers = [
        undo(move)(activate(network(move(IMAGES), None if prior is None else move(prior)))) for move in moves
    ]
    before = network.num_forwards
    found = activate(AugmentedSegmenter(network, augmentation, activation)(IMAGES, prior))
    assert network.num_forwards - before == views == len(moves)
    torch.testing.assert_close(found, torch.stack(answers).mean(0), rtol=1e-5, atol=1e-6)
    # the views do differ
    assert (answers[0] - answers[1]).abs().max() > 0.1


def test_a_network_that_knows_no_direction_answers_as_before():
    network = convolution(3, 2)
    found = AugmentedSegmenter(network, "d4", "softmax")(IMAGES, None)
    torch.testing.assert_close(found.softmax(1), network(IMAGES, None).softmax(1))


def test_views_keep_the_layout_of_the_run():
    network = convolution(3, 2)
    AugmentedSegmenter(network, "d4", "softmax")(IMAGES.contiguous(memory_format=torch.channels_last), None)
    seen = network.images
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images in seen)


def test_nan_stays_nan_where_it_was():
    def answer(images, _prior):
        return images[:, :2].clone()

    images = IMAGES.clone()
    images[0, 0, 3, 7] = float("nan")
    found = AugmentedSegmenter(FakeSegmenter(answer), "d4", "sigmoid")(images, None)
    assert found.isnan().sum() == 1
    assert found[0, 0, 3, 7].isnan()


def test_a_model_is_augmented_whole_or_left_alone():
    model = make_model(convolution(3, 2), convolution(3, 2), stages=(*ONE, *ONE), num_logits=2)
    assert augment_model(model, "none") is model
    augmented = augment_model(model, "d4")
    assert [each.segmenter for each in augmented.segmenters] == list(model.segmenters)
    assert augmented.spec is model.spec
