"""The matrix and what follows from it, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hiresseg.metrics import Confusion


def labels(*rows):
    return np.array(rows, np.int16)


def count(truth, prediction, num_classes):
    confusion = Confusion(num_classes)
    confusion.add(truth, prediction)
    return confusion


@pytest.fixture
def by_hand():
    # truth: four 0, three 1, one 2, one unknown; class 3 is nowhere
    truth = labels([0, 0, 0], [0, 1, 1], [1, 2, -1])
    prediction = labels([0, 0, 1], [-1, 1, 1], [0, 2, 1])
    return count(truth, prediction, 4)


def test_rows_are_truth_and_no_answer_has_a_column(by_hand):
    np.testing.assert_array_equal(
        by_hand.counts, [[2, 1, 0, 0, 1], [1, 2, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    )


def test_figures_by_hand(by_hand):
    assert by_hand.num_pixels == 8
    assert by_hand.pixel_accuracy == 5 / 8
    assert by_hand.mean_pixel_accuracy == pytest.approx((2 / 4 + 2 / 3 + 1) / 3)
    np.testing.assert_allclose(by_hand.iou, [2 / 5, 2 / 4, 1, math.nan])
    np.testing.assert_allclose(by_hand.dice, [4 / 7, 4 / 6, 1, math.nan])
    np.testing.assert_allclose(by_hand.precision, [2 / 3, 2 / 3, 1, math.nan])
    np.testing.assert_allclose(by_hand.recall, [2 / 4, 2 / 3, 1, math.nan])
    assert by_hand.mean_iou == pytest.approx((2 / 5 + 2 / 4 + 1) / 3)
    assert by_hand.absent == (3,)


def test_a_class_that_is_only_predicted_counts_as_zero():
    confusion = count(labels([0, 0]), labels([0, 1]), 2)
    np.testing.assert_allclose(confusion.iou, [0.5, 0])
    assert confusion.mean_iou == 0.25
    assert math.isnan(confusion.recall[1])
    assert confusion.mean_pixel_accuracy == 0.5


def test_nothing_known_is_nan_and_no_warning():
    confusion = count(labels([-1, -1]), labels([0, 1]), 2)
    assert confusion.num_pixels == 0
    assert math.isnan(confusion.pixel_accuracy)
    assert math.isnan(confusion.mean_iou)


def test_values_that_are_no_class_are_wrong_not_skipped():
    confusion = count(labels([0, 0, 0]), labels([255, 7, 0]), 2)
    assert confusion.counts[0].tolist() == [1, 0, 2]


def test_a_truth_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match="class 2"):
        count(labels([2]), labels([0]), 2)
