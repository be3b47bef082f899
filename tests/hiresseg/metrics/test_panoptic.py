"""Panoptic quality against its definition over masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.metrics import PanopticCounts, Segment, decode_ids

from . import brute


def count(truth, prediction):
    counts = PanopticCounts()
    counts.add(truth, prediction)
    return counts


def segments(table):
    return {number: Segment(*what) for number, what in table.items()}


def ids(seed, num, edge=24, coarse=4):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, num, (edge // coarse, edge // coarse))
    return np.roll(small.repeat(coarse, 0).repeat(coarse, 1), rng.integers(0, 3), 0).astype(np.int32)


def test_by_hand():
    truth = np.zeros((4, 10), np.int32)
    truth[:, :4], truth[:, 6:] = 1, 2
    prediction = np.zeros((4, 10), np.int32)
    prediction[:, :3], prediction[:, 8:], prediction[0, 5] = 7, 8, 9
    found = count(truth, prediction).score(
        segments({1: (5,), 2: (5,)}), segments({7: (5,), 8: (5,), 9: (6,)})
    )
    # 7 meets 1 with 12 of 16 pixels; 8 meets 2 with one half, which is not above it
    assert (found[5].iou_sum, found[5].matched, found[5].false, found[5].missed) == (0.75, 1, 1, 1)
    assert (found[5].sq, found[5].rq, found[5].pq) == (0.75, 0.5, 0.375)
    assert (found[6].pq, found[6].false) == (0.0, 1)


def test_what_lies_on_void_is_no_mistake_and_not_in_the_union():
    truth = np.array([[0, 0, 0, 1, 1, 1, 2, 2]], np.int32)
    prediction = np.array([[4, 4, 4, 4, 3, 3, 3, 9]], np.int32)
    found = count(truth, prediction).score(
        segments({1: (1,), 2: (1,)}), segments({3: (1,), 4: (1,), 9: (1,)}), void=0
    )
    # 3 and 1: 2 of 4; 9 and 2: 1 of 2: none is above one half; 4 lies on void for three quarters of it
    assert (found[1].matched, found[1].false, found[1].missed) == (0, 2, 2)
    assert math.isnan(count(truth, prediction).score({}, {}).get(1, math.nan))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 9), st.integers(1, 3), st.booleans(), st.booleans())
def test_is_the_definition(seed, num, num_categories, with_void, with_crowds):
    rng = np.random.default_rng(seed)
    truth, prediction = ids(seed, num), ids(seed + rng.integers(0, 2), num)
    true = {
        n: (int(rng.integers(num_categories)), bool(with_crowds and rng.random() < 0.3))
        for n in range(1, num)
    }
    told = {n: (true[n][0] if rng.random() < 0.8 else 0, False) for n in range(1, num)}
    void = 0 if with_void else None
    found = count(truth, prediction).score(segments(true), segments(told), void=void)
    expected = brute.panoptic(truth, prediction, true, told, void)
    assert found.keys() == expected.keys()
    for category, (iou, matched, false, missed) in expected.items():
        score = found[category]
        assert (score.matched, score.false, score.missed) == (matched, false, missed)
        assert score.iou_sum == pytest.approx(iou)


def test_parts_add_up_in_any_order():
    truth, prediction = ids(1, 7), ids(2, 7)
    whole = count(truth, prediction)
    parts = PanopticCounts()
    for rows in (slice(13, None), slice(0, 13)):
        for cols in (slice(5, None), slice(0, 5)):
            parts.merge(count(truth[rows, cols], prediction[rows, cols]))
    assert parts.shared == whole.shared


def test_masks_agree_with_pycocotools():
    """IoU of every pair of segments, and the areas, as `pycocotools.mask` computes them."""
    mask = pytest.importorskip("pycocotools.mask")
    truth, prediction = ids(5, 6), ids(6, 6)
    shared = count(truth, prediction).shared
    encoded = [
        [mask.encode(np.asfortranarray(labels == n, dtype=np.uint8)) for n in range(1, 6)]
        for labels in (truth, prediction)
    ]
    ious = mask.iou(encoded[1], encoded[0], [0] * 5)
    true_areas, told_areas = (mask.area(rows) for rows in encoded)
    for i in range(5):
        for j in range(5):
            common = shared.get((i + 1, j + 1), 0)
            assert ious[j, i] == pytest.approx(common / (true_areas[i] + told_areas[j] - common))


def test_ids_of_a_png():
    assert decode_ids(np.array([[[1, 255]], [[2, 255]], [[3, 255]]], np.uint8)).tolist() == [
        [197121, 16777215]
    ]
