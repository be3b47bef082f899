"""How well boundaries are met: accuracy in bands around them, and boundary IoU.

Two band accuracies bear different names, for they are different numbers. `published_radii` with elliptical
bands is the mBA of CascadePSP (Cheng et al., CVPR 2020), whose radii grow with the image, so that two mosaics
cannot be compared by it. FIXED_RADII_PX with square bands is ours, the same at every size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int16, Int32, Int64
from numpy import ndarray

from hiresseg.metrics.confusion import UNKNOWN
from hiresseg.metrics.nearest import Metric, distance_to_other

FIXED_RADII_PX = (1, 2, 4, 8, 16)


def published_radii(height: int, width: int) -> tuple[int, ...]:
    """The five radii of the published mBA for an image of this size, truncated as they are there."""
    largest = (width + height) / 300
    return tuple(1 + int((largest - 1) / 5 * step) for step in range(5))


def boundary_distance_px(height: int, width: int) -> int:
    """The published width of the boundary in boundary IoU: 2 % of the diagonal (Cheng et al., CVPR 2021)."""
    return max(1, round(0.02 * math.hypot(height, width)))


@dataclass(slots=True)
class BandAccuracy:
    """Pixels, and pixels that are right, by their distance to a true boundary."""

    radii_px: tuple[int, ...]
    metric: Metric
    totals: Int64[ndarray, " r"]
    """Known pixels within each radius."""
    rights: Int64[ndarray, " r"]
    """Those of them whose class was found."""

    @classmethod
    def of(cls, radii_px: tuple[int, ...], metric: Metric) -> BandAccuracy:
        """Nothing counted yet."""
        return cls(radii_px, metric, np.zeros(len(radii_px), np.int64), np.zeros(len(radii_px), np.int64))

    @property
    def halo_px(self) -> int:
        """Pixels around a window that decide about those inside."""
        return max(self.radii_px)

    def add(
        self,
        truth: Int16[ndarray, "h w"],
        prediction: Int16[ndarray, "h w"],
        core: tuple[slice, slice] = (slice(None), slice(None)),
        distances: Int32[ndarray, "h w"] | None = None,
    ) -> None:
        """Count a window.

        Args:
            truth: class of each pixel, of the window and `halo_px` around it where the image goes on.
            prediction: the same of the prediction.
            core: the window within them.
            distances: of the truth, where they are known already.
        """
        if distances is None:
            distances = distance_to_other(truth, self.halo_px, self.metric)
        near, is_right = distances[core], (truth == prediction)[core]
        for index, radius in enumerate(self.radii_px):
            band = near <= radius
            self.totals[index] += np.count_nonzero(band)
            self.rights[index] += np.count_nonzero(band & is_right)

    def merge(self, other: BandAccuracy) -> None:
        """Add another part."""
        self.totals += other.totals
        self.rights += other.rights

    @property
    def by_radius(self) -> dict[int, float]:
        """Share that is right within each radius; NaN where there is no boundary."""
        shares = [
            right / total if total else math.nan
            for right, total in zip(self.rights.tolist(), self.totals.tolist(), strict=True)
        ]
        return dict(zip(self.radii_px, shares, strict=True))

    @property
    def mean(self) -> float | None:
        """Mean over the radii; None where the truth has no boundary."""
        if not self.totals.all():
            return None
        return float((self.rights / self.totals).mean())


@dataclass(slots=True)
class BoundaryIou:
    """Intersection over union of the inner boundaries of each class.

    The boundary of a mask is what `distance_px` erosions by 3 x 3 take from it; the rim of the image is a
    boundary. Where the truth is not known nothing counts, and an edge against it is none, in truth and
    prediction alike.
    """

    distance_px: int
    common: Int64[ndarray, " K"]
    in_truth: Int64[ndarray, " K"]
    in_prediction: Int64[ndarray, " K"]

    @classmethod
    def of(cls, num_classes: int, distance_px: int) -> BoundaryIou:
        """Nothing counted yet."""
        return cls(distance_px, *(np.zeros(num_classes, np.int64) for _ in range(3)))

    @property
    def halo_px(self) -> int:
        """Pixels around a window that decide about those inside."""
        return self.distance_px

    def add(
        self,
        truth: Int16[ndarray, "h w"],
        prediction: Int16[ndarray, "h w"],
        core: tuple[slice, slice] = (slice(None), slice(None)),
        rim: tuple[bool, bool, bool, bool] = (True, True, True, True),
    ) -> None:
        """Count a window.

        Args:
            truth: class of each pixel, of the window and `halo_px` around it where the image goes on.
            prediction: the same of the prediction.
            core: the window within them.
            rim: whether the image ends at the arrays' top, left, bottom, right.
        """
        num_classes = len(self.common)
        is_known = truth != UNKNOWN
        # no class is one more: a mask ends there too
        found = np.where((prediction >= 0) & (prediction < num_classes), prediction, num_classes)
        found = np.where(is_known, found, UNKNOWN).astype(np.int16)
        true, told = truth[core], found[core]
        true_edge, told_edge = (self._edge(labels, rim)[core] for labels in (truth, found))
        self.common += _count(true[true_edge & told_edge & (true == told)], num_classes)
        self.in_truth += _count(true[true_edge], num_classes)
        self.in_prediction += _count(told[told_edge], num_classes)

    def _edge(
        self, labels: Int16[ndarray, "h w"], rim: tuple[bool, bool, bool, bool]
    ) -> Bool[ndarray, "h w"]:
        edge: ndarray = distance_to_other(labels, self.distance_px) <= self.distance_px
        top, left, bottom, right = (self.distance_px if ends else 0 for ends in rim)
        edge[:top], edge[:, :left] = True, True
        edge[max(0, edge.shape[0] - bottom) :], edge[:, max(0, edge.shape[1] - right) :] = True, True
        edge &= labels >= 0
        return edge

    def merge(self, other: BoundaryIou) -> None:
        """Add another part."""
        self.common += other.common
        self.in_truth += other.in_truth
        self.in_prediction += other.in_prediction

    @property
    def by_class(self) -> list[float]:
        """Boundary IoU of each class; NaN where neither has a boundary of it."""
        union = self.in_truth + self.in_prediction - self.common
        return [
            hit / all_of if all_of else math.nan
            for hit, all_of in zip(self.common.tolist(), union.tolist(), strict=True)
        ]


def _count(labels: Int16[ndarray, " n"], num_classes: int) -> Int64[ndarray, " K"]:
    return np.bincount(labels, minlength=num_classes + 1)[:num_classes].astype(np.int64)
