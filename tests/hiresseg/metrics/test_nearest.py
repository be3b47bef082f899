"""Distances to the nearest pixel of another class, against every pair of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.metrics.nearest import BEYOND, distance_to_other

from .brute import ellipse


def blobs(seed, height, width, num_classes, unknown=0.05, coarse=3):
    """Random regions rather than noise, with holes that nobody knows."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, num_classes, (-(-height // coarse), -(-width // coarse)))
    labels = small.repeat(coarse, 0).repeat(coarse, 1)[:height, :width].astype(np.int16)
    labels[rng.random(labels.shape) < unknown] = -1
    return labels


def by_pairs(labels, reach, metric):
    known = np.argwhere(labels >= 0)
    expected = np.full(labels.shape, BEYOND, np.int32)
    kernels = {r: ellipse(r) for r in range(1, reach + 1)}
    for row, col in known:
        for other_row, other_col in known:
            if labels[row, col] == labels[other_row, other_col]:
                continue
            down, right = abs(row - other_row), abs(col - other_col)
            if max(down, right) > reach:
                continue
            distance = max(down, right)
            if metric == "ellipse":
                inside = [r for r, k in kernels.items() if max(down, right) <= r and k[r + down, r + right]]
                if not inside:
                    continue
                distance = min(inside)
            expected[row, col] = min(expected[row, col], distance)
    return expected


@pytest.mark.parametrize("metric", ["square", "ellipse"])
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 14), st.integers(1, 17), st.integers(1, 4), st.integers(1, 9))
def test_is_what_every_pair_of_pixels_says(metric, seed, height, width, num_classes, reach):
    labels = blobs(seed, height, width, num_classes)
    np.testing.assert_array_equal(distance_to_other(labels, reach, metric), by_pairs(labels, reach, metric))


@pytest.mark.parametrize("metric", ["square", "ellipse"])
def test_long_runs_are_skipped_to_the_right_place(metric):
    labels = np.zeros((9, 60), np.int16)
    labels[4, 41] = 1
    labels[:, 5] = -1
    np.testing.assert_array_equal(distance_to_other(labels, 20, metric), by_pairs(labels, 20, metric))


def test_one_class_has_no_boundary():
    labels = np.full((5, 6), 3, np.int16)
    labels[2] = -1
    assert (distance_to_other(labels, 9) == BEYOND).all()
    assert distance_to_other(labels[:0], 9).shape == (0, 6)
