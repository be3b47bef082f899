"""Counting, at every width that the four-fold loop can meet."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.metrics import count_labels


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.integers(0, 13), st.integers(0, 99))
def test_counts_every_pixel_once(height, width, seed):
    labels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    np.testing.assert_array_equal(count_labels(labels), np.bincount(labels.ravel(), minlength=256))


def test_counts_a_view():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    part = labels[3:9, 2:13]
    np.testing.assert_array_equal(count_labels(part), np.bincount(part.ravel(), minlength=256))


def test_counts_add_up():
    labels = np.random.default_rng(0).integers(0, 5, (30, 40), np.uint8)
    np.testing.assert_array_equal(
        count_labels(labels[:, :17]) + count_labels(labels[:, 17:]), count_labels(labels)
    )
