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
