"""The previous answer, seen from a finer lattice: the same value for a pixel through every window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hiresseg.geometry import Window

COARSE = np.random.default_rng(0).integers(0, 256, (2, 37, 70), np.uint8)


@pytest.fixture(scope="module")
def priors(make_prior):
    return {factor: make_prior(COARSE, factor) for factor in (1, 2, 8)}


@pytest.fixture(scope="module")
def wholes():
    """All of it at once, by what torch does with a whole array."""
    values = torch.from_numpy(COARSE).double()[None]
    upsample = torch.nn.functional.interpolate
    return {
        factor: upsample(values, scale_factor=factor, mode="bilinear", align_corners=False).float() / 255
        for factor in (1, 2, 8)
    }


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 2, 8]), st.integers(0, 299), st.integers(0, 559), st.data())
def test_a_window_is_a_part_of_the_whole(priors, wholes, factor, top, left, data):
    whole = wholes[factor]
    height, width = whole.shape[2:]
    top, left = top % height, left % width
    window = Window(
        top, left, data.draw(st.integers(0, height - top)), data.draw(st.integers(0, width - left))
    )
    part = priors[factor].read(window)
    assert torch.equal(part, whole[:, :, window.top : window.bottom, window.left : window.right])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 2, 8]), st.integers(-20, 310), st.integers(-20, 570), st.integers(1, 80))
@example(8, 36 * 8 + 4, 0, 16)
def test_beyond_the_edge_the_edge_goes_on(priors, wholes, factor, top, left, edge):
    whole = wholes[factor]
    rows = np.arange(top, top + edge).clip(0, whole.shape[2] - 1)
    cols = np.arange(left, left + edge).clip(0, whole.shape[3] - 1)
    part = priors[factor].read(Window(top, left, edge, edge))
    assert torch.equal(part, whole[:, :, rows][:, :, :, cols])


def test_a_pixel_is_centred_under_its_factor(make_prior):
    step = np.zeros((1, 1, 2), np.uint8)
    step[0, 0, 1] = 255
    values = make_prior(step, 4).read(Window(0, 0, 1, 8))[0, 0, 0]
    # pixel centres lie at an eighth, three eighths, ... of a coarse pixel from its edge
    assert values.tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_what_has_no_data_does_not_pull_down_what_lies_beside_it(make_prior, factor):
    labels = np.zeros((20, 24), np.uint8)
    labels[7:12, 5:11] = labels[:, -2:] = 255
    sure = np.where(labels == 255, 0, 200).astype(np.uint8)[None]
    values = make_prior(sure, factor, labels).read(Window(0, 0, 20 * factor, 24 * factor))[0, 0].numpy()
    has_data = np.kron(labels, np.ones((factor, factor), np.uint8)) == 0
    np.testing.assert_allclose(values[has_data], 200 / 255, rtol=1e-6)


@pytest.fixture(scope="module")
def prior_with_holes(make_prior):
    is_hole = np.random.default_rng(1).random((37, 70)) < 0.3
    return make_prior(np.where(is_hole, 0, COARSE), 4, np.where(is_hole, 255, 0).astype(np.uint8))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 130), st.integers(0, 250), st.integers(1, 60))
def test_beside_no_data_too_a_window_is_a_part_of_the_whole(prior_with_holes, top, left, edge):
    everything = Window(0, 0, 37 * 4, 70 * 4)
    whole = prior_with_holes.read(everything)
    window = Window(top, left, edge, edge).intersect(everything)
    part = prior_with_holes.read(window)
    assert torch.equal(part, whole[:, :, window.top : window.bottom, window.left : window.right])
