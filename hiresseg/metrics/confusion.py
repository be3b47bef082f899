"""The confusion matrix, and all that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int16, Int64
from numpy import ndarray

UNKNOWN = -1
"""Label of a pixel that counts nowhere: the truth does not know it."""


@dataclass(slots=True)
class Confusion:
    """Pixels by true and predicted class. A pixel that the truth does not know counts nowhere.

    A prediction of no class (no data, or a value that is none of the classes) has a column of its own, the
    last: it is wrong, not left out.
    """

    num_classes: int
    counts: Int64[ndarray, "K K+1"] = field(init=False)
    """Rows are truth, columns prediction."""

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.num_classes, self.num_classes + 1), np.int64)

    def add(self, truth: Int16[ndarray, "h w"], prediction: Int16[ndarray, "h w"]) -> None:
        """Count a window.

        Args:
            truth: class of each pixel, or UNKNOWN.
            prediction: class of each pixel; any other value is no class.

        Raises:
            ValueError: if the truth holds a value that is no class.
        """
        width = self.num_classes + 1
        if truth.size and (highest := int(truth.max())) >= self.num_classes:
            raise ValueError(f"the truth holds class {highest}, but there are only {self.num_classes}")
        is_known = truth != UNKNOWN
        found = np.where((prediction >= 0) & (prediction < self.num_classes), prediction, self.num_classes)
        pairs = truth[is_known].astype(np.int64) * width + found[is_known]
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def merge(self, other: Confusion) -> None:
        """Add another part."""
        self.counts += other.counts

    @property
    def num_pixels(self) -> int:
        """Pixels that the truth knows."""
        return int(self.counts.sum())

    @property
    def hits(self) -> Int64[ndarray, " K"]:
        """Pixels of each class that were found."""
        return np.diagonal(self.counts).copy()

    @property
    def truth_pixels(self) -> Int64[ndarray, " K"]:
        """Pixels of each class in the truth."""
        total: ndarray = self.counts.sum(axis=1)
        return total

    @property
    def predicted_pixels(self) -> Int64[ndarray, " K"]:
        """Pixels of each class in the prediction."""
        total: ndarray = self.counts.sum(axis=0)[:-1]
        return total

    @property
    def iou(self) -> Float64[ndarray, " K"]:
        """Intersection over union of each class; NaN where neither has any of it."""
        return _divide(self.hits, self.truth_pixels + self.predicted_pixels - self.hits)

    @property
    def dice(self) -> Float64[ndarray, " K"]:
        """Twice the intersection over the sum of both areas."""
        return _divide(2 * self.hits, self.truth_pixels + self.predicted_pixels)

    @property
    def precision(self) -> Float64[ndarray, " K"]:
        """Share of what was found that is right; NaN where nothing was found."""
        return _divide(self.hits, self.predicted_pixels)

    @property
    def recall(self) -> Float64[ndarray, " K"]:
        """Share of what there is that was found; NaN where there is none."""
        return _divide(self.hits, self.truth_pixels)

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels that are right; NaN without any."""
        return self.hits.sum() / self.num_pixels if self.num_pixels else float("nan")

    @property
    def mean_pixel_accuracy(self) -> float:
        """Mean of the recalls of the classes that the truth has."""
        return mean_known(self.recall)

    @property
    def mean_iou(self) -> float:
        """Mean of the IoU of the classes that either has; `absent` says how many were left out."""
        return mean_known(self.iou)

    @property
    def absent(self) -> tuple[int, ...]:
        """Classes that neither truth nor prediction has."""
        return tuple(np.flatnonzero(np.isnan(self.iou)).tolist())


def mean_known(values: Float64[ndarray, " n"]) -> float:
    """Mean of what is not NaN; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _divide(part: Int64[ndarray, " K"], whole: Int64[ndarray, " K"]) -> Float64[ndarray, " K"]:
    quotients: ndarray = np.full(part.shape, np.nan)
    np.divide(part, whole, out=quotients, where=whole > 0)
    return quotients
