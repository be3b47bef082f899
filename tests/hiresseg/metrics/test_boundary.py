"""Boundary metrics against their definitions over whole arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.metrics import BandAccuracy, BoundaryIou, boundary_distance_px, published_radii

from . import brute
from .test_nearest import blobs

seeds = st.integers(0, 9999)


def test_published_radii_are_truncated_like_the_published_script():
    assert published_radii(224, 224) == (1, 1, 1, 1, 1)
    assert published_radii(1024, 1024) == (1, 2, 3, 4, 5)
    assert published_radii(2048, 1600) == (1, 3, 5, 7, 9)
    assert published_radii(5000, 3600) == (1, 6, 12, 17, 23)
    assert published_radii(20_000, 20_000) == (1, 27, 53, 80, 106)
    assert published_radii(3, 4) == (1, 1, 1, 1, 1)


def test_published_boundary_distance():
    assert boundary_distance_px(10, 10) == 1
    assert boundary_distance_px(300, 400) == 10
    assert boundary_distance_px(20_000, 20_000) == 566


def test_band_by_hand():
    # a boundary between columns 2 and 3; the answer is one column off
    truth, prediction = np.zeros((4, 8), np.int16), np.zeros((4, 8), np.int16)
    truth[:, 3:], prediction[:, 4:] = 1, 1
    band = BandAccuracy.of((1, 2, 4), "square")
    band.add(truth, prediction)
    assert band.by_radius == {1: 0.5, 2: 0.75, 4: 6 / 7}
    assert band.mean == pytest.approx((0.5 + 0.75 + 6 / 7) / 3)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(4, 20), st.integers(4, 20), st.sampled_from([2, 4]))
def test_bands_are_morphological_gradients(seed, height, width, num_classes):
    truth, prediction = blobs(seed, height, width, num_classes), blobs(seed + 1, height, width, num_classes)
    for metric, kernel in (("ellipse", brute.ellipse), ("square", lambda r: np.ones((2 * r + 1,) * 2, bool))):
        band = BandAccuracy.of((1, 2, 4, 6), metric)
        band.add(truth, prediction)
        expected = [brute.band_accuracy(truth, prediction, kernel(radius)) for radius in band.radii_px]
        assert list(zip(band.rights.tolist(), band.totals.tolist(), strict=True)) == expected


def test_no_boundary_is_no_number():
    band = BandAccuracy.of((1, 2), "ellipse")
    band.add(np.zeros((5, 5), np.int16), np.zeros((5, 5), np.int16))
    assert band.mean is None
    assert all(math.isnan(share) for share in band.by_radius.values())


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 24), st.integers(1, 24), st.integers(1, 6), st.sampled_from([2, 3]))
def test_boundary_iou_is_that_of_eroded_masks(seed, height, width, distance, num_classes):
    truth = blobs(seed, height, width, num_classes, unknown=0, coarse=7)
    prediction = blobs(seed + 1, height, width, num_classes, unknown=0, coarse=7)
    part = BoundaryIou.of(num_classes, distance)
    part.add(truth, prediction)
    for value in range(num_classes):
        common, union = brute.boundary_iou(truth == value, prediction == value, distance)
        expected = common / union if union else math.nan
        assert part.by_class[value] == pytest.approx(expected, nan_ok=True)


def test_a_perfect_answer_is_perfect_whatever_stands_where_nobody_knows():
    truth = blobs(3, 40, 40, 3, unknown=0.1, coarse=8)
    prediction = np.where(truth < 0, 2, truth).astype(np.int16)
    part = BoundaryIou.of(3, 3)
    part.add(truth, prediction)
    assert part.by_class == [1.0, 1.0, 1.0]


# rows of cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1)), as widths
@pytest.mark.parametrize(
    ("radius", "widths"),
    [(1, [1, 3, 1]), (2, [1, 5, 5, 5, 1]), (3, [1, 5, 7, 7, 7, 5, 1]), (4, [1, 7, 7, 9, 9, 9, 7, 7, 1])],
)
def test_the_ellipse_is_opencvs(radius, widths):
    assert brute.ellipse(radius).sum(axis=1).tolist() == widths


def test_recorded_values_of_opencv():
    """What cv2 5.0.0 (morphologyEx gradients with elliptical kernels, 3 x 3 erosions) gives for this pair."""
    small = np.random.default_rng(0).integers(0, 2, (8, 10))
    truth = small.repeat(40, 0).repeat(40, 1).astype(np.int16)
    prediction = np.roll(truth, (3, 5), (0, 1))
    band = BandAccuracy.of(published_radii(*truth.shape), "ellipse")
    band.add(truth, prediction)
    assert band.mean == pytest.approx(0.5021792386846988, rel=1e-14)
    part = BoundaryIou.of(2, 8)
    part.add(truth, prediction)
    assert part.by_class[1] == 15937 / 36559
