"""A comparison does not know how it was cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.metrics import BandAccuracy, BoundaryIou, Comparison, ErrorMap, MetricSpec, SeamCounts

from .test_nearest import blobs


@dataclass
class ArrayLabels:
    labels: np.ndarray

    @property
    def height(self):
        return self.labels.shape[0]

    @property
    def width(self):
        return self.labels.shape[1]

    def read(self, window):
        return self.labels[window.top : window.bottom, window.left : window.right]


def pair(seed, height=70, width=90, num_classes=3):
    made = (blobs(seed + n, height, width, num_classes, unknown=0.02, coarse=11) for n in range(2))
    return tuple(ArrayLabels(labels) for labels in made)


def facts(comparison):
    bands, published, edges = comparison.bands, comparison.published[0], comparison.boundary_iou[0]
    return [
        comparison.confusion.counts.tolist(),
        bands.totals.tolist(),
        bands.rights.tolist(),
        published.totals.tolist(),
        published.rights.tolist(),
        edges.common.tolist(),
        edges.in_truth.tolist(),
        edges.in_prediction.tolist(),
    ]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(17, 100), st.integers(1, 9))
def test_windows_do_not_show(seed, window_px, boundary_px):
    truth, prediction = pair(seed)
    spec = MetricSpec(3, boundary_px=boundary_px, window_px=window_px)
    errors = ErrorMap.of(70, 90)
    cut = Comparison.of(truth, prediction, spec, errors=errors)
    whole = Comparison(
        cut.confusion.__class__(3),
        BandAccuracy.of((1, 2, 4, 8, 16), "square"),
        [BandAccuracy.of((1,) * 5, "ellipse")],
        [BoundaryIou.of(3, boundary_px)],
    )
    for part in (whole.confusion, whole.bands, whole.published[0], whole.boundary_iou[0]):
        part.add(truth.labels, prediction.labels)
    assert facts(cut) == facts(whole)
    assert errors.counts.sum() == (truth.labels >= 0).sum()


def test_the_order_of_images_does_not_show():
    first, second = (Comparison.of(*pair(seed), MetricSpec(3)) for seed in (1, 5))
    again, other = (Comparison.of(*pair(seed), MetricSpec(3)) for seed in (1, 5))
    first.merge(second)
    other.merge(again)
    assert first.confusion.counts.tolist() == other.confusion.counts.tolist()
    assert first.mba == pytest.approx(other.mba, rel=1e-15)
    assert first.boundary_iou_by_class == other.boundary_iou_by_class


def test_an_image_without_a_boundary_is_left_out_and_counted():
    plain = ArrayLabels(np.zeros((70, 90), np.int16))
    total = Comparison.of(*pair(1), MetricSpec(3))
    alone = total.mba
    total.merge(Comparison.of(plain, plain, MetricSpec(3)))
    assert total.mba == alone
    assert total.without_boundary == 1
    assert Comparison.of(plain, plain, MetricSpec(3)).mba is None


def test_a_map_of_errors_in_larger_pixels():
    truth = np.zeros((5, 3300), np.int16)
    truth[:, 1000:] = 1
    prediction = np.zeros((5, 3300), np.int16)
    prediction[:, 900:3000] = 1
    whole, parts = ErrorMap.of(5, 3300), ErrorMap.of(5, 3300)
    Comparison.of(ArrayLabels(truth), ArrayLabels(prediction), MetricSpec(2, window_px=4096), errors=whole)
    Comparison.of(ArrayLabels(truth), ArrayLabels(prediction), MetricSpec(2, window_px=101), errors=parts)
    assert whole.factor == 3
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert whole.counts.sum(axis=(1, 2)).tolist() == [10000, 4500, 500, 1500, 0]


def test_seams_are_counted_near_boundaries_too():
    first = np.zeros((20, 40), np.int16)
    first[:, 20:] = 1
    second = first.copy()
    second[:, 19], second[0, 0] = 1, 1
    counts = SeamCounts(band_px=2)
    counts.add(first, second)
    assert (counts.pixels, counts.changed) == (800, 21)
    assert (counts.near_pixels, counts.near_changed) == (80, 20)
    assert (counts.share, counts.near_share) == (21 / 800, 0.25)
