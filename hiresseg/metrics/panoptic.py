"""Panoptic quality (Kirillov et al., CVPR 2019), from the pixels that pairs of segments share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64, Integer, UInt8
from numpy import ndarray


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment is."""

    category: int
    is_crowd: bool = False
    """Many things that nobody told apart: it is matched with nothing, and excuses what lies on it."""


@dataclass(frozen=True, slots=True)
class PanopticScore:
    """Of one category: matches, what was wrongly found, what was missed."""

    iou_sum: float
    matched: int
    false: int
    missed: int

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the matches; 0 without any."""
        return self.iou_sum / self.matched if self.matched else 0.0

    @property
    def rq(self) -> float:
        """Recognition quality: the F1 of segments; NaN where there are none at all."""
        total = self.matched + (self.false + self.missed) / 2
        return self.matched / total if total else math.nan

    @property
    def pq(self) -> float:
        """Panoptic quality: sq times rq."""
        return self.sq * self.rq


@dataclass(slots=True)
class PanopticCounts:
    """Pixels that each pair of a true and a predicted segment share, over one image."""

    shared: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, truth: Integer[ndarray, "h w"], prediction: Integer[ndarray, "h w"]) -> None:
        """Count a window of ids."""
        # two ids of at most 32 bits in one number
        pairs = truth.astype(np.uint64) << np.uint64(32) | prediction.astype(np.uint64)
        for pair, count in zip(
            *(part.tolist() for part in np.unique(pairs, return_counts=True)), strict=True
        ):
            key = pair >> 32, pair & 0xFFFFFFFF
            self.shared[key] = self.shared.get(key, 0) + count

    def merge(self, other: PanopticCounts) -> None:
        """Add another part of the same image."""
        for key, count in other.shared.items():
            self.shared[key] = self.shared.get(key, 0) + count

    def score(
        self, truth: Mapping[int, Segment], prediction: Mapping[int, Segment], *, void: int | None = None
    ) -> dict[int, PanopticScore]:
        """Scores of each category.

        Args:
            truth: the segments of the truth by id; what is not in it is background.
            prediction: those of the prediction.
            void: id in the truth of pixels that nobody knows; None where all are known.

        Returns:
            By category. A true and a predicted segment of one category match where their IoU is above one
            half; the union leaves out what of the prediction lies on void. A predicted segment without a
            match of which more than half lies on void, or on crowds of its category, is not held against
            the prediction.
        """
        matches = self._match(truth, prediction, void)
        found = {theirs for _, theirs in matches}
        ious: dict[int, list[float]] = {}
        for (mine, _), iou in matches.items():
            ious.setdefault(truth[mine].category, []).append(iou)
        missed = Counter(
            truth[mine].category
            for mine in self._areas(0).keys() - {mine for mine, _ in matches} - {void}
            if mine in truth and not truth[mine].is_crowd
        )
        excused = self._excused(truth, prediction, void)
        false = Counter(
            prediction[theirs].category
            for theirs, area in self._areas(1).items()
            if theirs in prediction and theirs not in found and excused.get(theirs, 0) <= area / 2
        )
        return {
            # summed exactly: the order of windows must not show
            category: PanopticScore(
                math.fsum(ious.get(category, ())),
                len(ious.get(category, ())),
                false[category],
                missed[category],
            )
            for category in sorted({*ious, *false, *missed})
        }

    def _match(
        self, truth: Mapping[int, Segment], prediction: Mapping[int, Segment], void: int | None
    ) -> dict[tuple[int, int], float]:
        """IoU of the pairs that match."""
        true_area, told_area = self._areas(0), self._areas(1)
        matches: dict[tuple[int, int], float] = {}
        for (mine, theirs), common in self.shared.items():
            if mine not in truth or theirs not in prediction or mine == void:
                continue
            if truth[mine].is_crowd or truth[mine].category != prediction[theirs].category:
                continue
            on_void = 0 if void is None else self.shared.get((void, theirs), 0)
            union = true_area[mine] + told_area[theirs] - common - on_void
            if 2 * common > union:
                matches[mine, theirs] = common / union
        return matches

    def _areas(self, side: int) -> dict[int, int]:
        areas: dict[int, int] = {}
        for pair, count in self.shared.items():
            areas[pair[side]] = areas.get(pair[side], 0) + count
        return areas

    def _excused(
        self, truth: Mapping[int, Segment], prediction: Mapping[int, Segment], void: int | None
    ) -> dict[int, int]:
        """Pixels of each predicted segment on void or on a crowd of its category."""
        pixels: dict[int, int] = {}
        for (mine, theirs), count in self.shared.items():
            if theirs not in prediction:
                continue
            true = truth.get(mine)
            of_crowd = true is not None and true.is_crowd and true.category == prediction[theirs].category
            if mine == void or of_crowd:
                pixels[theirs] = pixels.get(theirs, 0) + count
        return pixels


def decode_ids(image: UInt8[ndarray, "3 h w"]) -> Int64[ndarray, "h w"]:
    """Ids of a panoptic PNG: R + 256 G + 65536 B."""
    red, green, blue = image.astype(np.int64)
    ids: ndarray = red + 256 * green + 65536 * blue
    return ids
