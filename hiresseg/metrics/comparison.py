"""Two label maps compared window by window, whatever their size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int16, Int64
from numpy import ndarray

from hiresseg.geometry import Window
from hiresseg.metrics.boundary import (
    FIXED_RADII_PX,
    BandAccuracy,
    BoundaryIou,
    boundary_distance_px,
    published_radii,
)
from hiresseg.metrics.confusion import UNKNOWN, Confusion

WINDOW_PX = 2048
MAP_PX = 1600
"""Longest edge of the map of errors."""


@runtime_checkable
class LabelSource(Protocol):
    """A map of classes read by window."""

    @property
    def height(self) -> int:
        """Rows."""
        ...

    @property
    def width(self) -> int:
        """Columns."""
        ...

    def read(self, window: Window) -> Int16[ndarray, "h w"]:
        """Class of each pixel of a window inside the map; UNKNOWN for none."""
        ...


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What is measured."""

    num_classes: int
    boundary_px: int | None = None
    """Width of the boundary in boundary IoU; the published 2 % of the diagonal if None."""
    with_boundaries: bool = True
    window_px: int = WINDOW_PX
    """Decides memory, never the result."""


@dataclass(slots=True)
class ErrorMap:
    """Right and wrong pixels in squares of `factor` pixels, for a picture of a scene of any size."""

    factor: int
    num_pixels: int
    """Pixels of the scene, known or not."""
    counts: Int64[ndarray, "5 h w"]
    """Right and not 0, right and 0, wrong and not 0 (falsely found), wrong and 0 (missed), no answer."""

    @classmethod
    def of(cls, height: int, width: int) -> ErrorMap:
        """Nothing counted yet."""
        factor = max(1, -(-max(height, width) // MAP_PX))
        return cls(factor, height * width, np.zeros((5, -(-height // factor), -(-width // factor)), np.int64))

    def add(self, window: Window, truth: Int16[ndarray, "h w"], prediction: Int16[ndarray, "h w"]) -> None:
        """Count a window."""
        is_known, is_right, is_zero = truth != UNKNOWN, truth == prediction, prediction == 0
        is_answer = prediction != UNKNOWN
        kinds = (
            is_right & ~is_zero,
            is_right & is_zero,
            ~is_right & ~is_zero & is_answer,
            ~is_right & is_zero,
            ~is_answer,
        )
        rows = np.arange(window.top, window.bottom) // self.factor - window.top // self.factor
        cols = np.arange(window.left, window.right) // self.factor - window.left // self.factor
        row_starts = np.flatnonzero(np.diff(rows, prepend=-1))
        col_starts = np.flatnonzero(np.diff(cols, prepend=-1))
        top, left = window.top // self.factor, window.left // self.factor
        area = slice(top, top + len(row_starts)), slice(left, left + len(col_starts))
        for layer, kind in zip(self.counts, kinds, strict=True):
            sums = np.add.reduceat((kind & is_known).astype(np.int64), row_starts, axis=0)
            layer[area] += np.add.reduceat(sums, col_starts, axis=1)

    @property
    def shares(self) -> Float32[ndarray, "5 h w"]:
        """Share of each kind in each square; all 0 where nothing is known."""
        total = np.maximum(self.counts.sum(axis=0), 1)
        shares: ndarray = (self.counts / total).astype(np.float32)
        return shares


@dataclass(slots=True)
class Comparison:
    """All that one pair of label maps has to say; those of a data set add up by `merge`."""

    confusion: Confusion
    bands: BandAccuracy | None = None
    """Within fixed radii."""
    published: list[BandAccuracy] = field(default_factory=list)
    """The published mBA, one per image."""
    boundary_iou: list[BoundaryIou] = field(default_factory=list)
    """One per image, whose widths may differ."""

    def merge(self, other: Comparison) -> None:
        """Add another image."""
        self.confusion.merge(other.confusion)
        if self.bands is not None and other.bands is not None:
            self.bands.merge(other.bands)
        self.published += other.published
        self.boundary_iou += other.boundary_iou

    @property
    def mba(self) -> float | None:
        """Published mBA: mean over the images that have a boundary; None without one."""
        means = [mean for part in self.published if (mean := part.mean) is not None]
        return sum(means) / len(means) if means else None

    @property
    def without_boundary(self) -> int:
        """Images that the published mBA leaves out."""
        return sum(part.mean is None for part in self.published)

    @property
    def boundary_iou_by_class(self) -> list[float]:
        """Boundary IoU of each class: sums of intersections over sums of unions."""
        total = BoundaryIou.of(self.confusion.num_classes, 0)
        for part in self.boundary_iou:
            total.merge(part)
        return total.by_class

    @staticmethod
    def of(
        truth: LabelSource,
        prediction: LabelSource,
        spec: MetricSpec,
        *,
        errors: ErrorMap | None = None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Comparison:
        """Compare two maps of one size.

        Args:
            truth: what is so.
            prediction: what was found.
            spec: what to measure.
            errors: filled, if given.
            advance: told the pixels of each window that is done.
        """
        size = truth.height, truth.width
        if size != (prediction.height, prediction.width):
            raise ValueError(f"maps of one size are compared, got {size} and another")
        made = Comparison(Confusion(spec.num_classes))
        if spec.with_boundaries:
            made.bands = BandAccuracy.of(FIXED_RADII_PX, "square")
            made.published = [BandAccuracy.of(published_radii(*size), "ellipse")]
            width = spec.boundary_px or boundary_distance_px(*size)
            made.boundary_iou = [BoundaryIou.of(spec.num_classes, width)]
        parts = [made.bands, *made.published, *made.boundary_iou]
        halo = max((part.halo_px for part in parts if part is not None), default=0)
        # a wide halo is read again for every window: windows grow with it, so that this stays within bounds
        scene = Window(0, 0, *size)
        for window in windows_of(*size, max(spec.window_px, halo)):
            around = grow(window, halo).intersect(scene)
            true, told = truth.read(around), prediction.read(around)
            made._add(true, told, window, around, scene)
            if errors is not None:
                core = window.slices_in(around)
                errors.add(window, true[core], told[core])
            advance(window.num_pixels)
        return made

    def _add(self, true: ndarray, told: ndarray, window: Window, around: Window, scene: Window) -> None:
        core = window.slices_in(around)
        self.confusion.add(true[core], told[core])
        for band in ([self.bands] if self.bands else []) + self.published:
            inner = grow(window, band.halo_px).intersect(scene)
            cut = inner.slices_in(around)
            band.add(true[cut], told[cut], window.slices_in(inner))
        rim = (
            around.top == 0,
            around.left == 0,
            around.bottom == scene.bottom,
            around.right == scene.right,
        )
        for part in self.boundary_iou:
            part.add(true, told, core, rim)


def windows_of(height: int, width: int, edge_px: int) -> list[Window]:
    """Squares that cover an image, in row-major order."""
    scene = Window(0, 0, height, width)
    return [
        Window(top, left, edge_px, edge_px).intersect(scene)
        for top in range(0, height, edge_px)
        for left in range(0, width, edge_px)
    ]


def grow(window: Window, edge_px: int) -> Window:
    """A window with so much around it."""
    return Window(
        window.top - edge_px,
        window.left - edge_px,
        window.height + 2 * edge_px,
        window.width + 2 * edge_px,
    )
