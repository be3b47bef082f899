"""How good a network is: whole scenes through the engine that will run it, counted class against class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8
from numpy import ndarray

from hiresseg.forward import ForwardSetting
from hiresseg.models.spec import Model
from hiresseg.stages import stream
from hiresseg.training.classes import to_indices
from hiresseg.training.pairs import Pair


@dataclass(frozen=True, slots=True)
class Confusion:
    """Pixels by true class (row) and found class (column)."""

    counts: Int64[ndarray, "K K"]

    @property
    def iou(self) -> ndarray:
        """Intersection over union of each class; NaN of one that is neither there nor found."""
        hits = np.diag(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        share: ndarray = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
        return share

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that are there; 0 if none is."""
        there = self.counts.sum(1) > 0
        return float(self.iou[there].mean()) if there.any() else 0.0

    @property
    def accuracy(self) -> float:
        """Share of right pixels."""
        return float(np.diag(self.counts).sum() / max(1, self.counts.sum()))


def count_confusion(
    truth: UInt8[ndarray, "h w"], found: UInt8[ndarray, "h w"], num_classes: int
) -> Int64[ndarray, "K K"]:
    """Pixels by true and found class; those count for nothing of which either is unknown."""
    known = (truth < num_classes) & (found < num_classes)
    both = truth[known].astype(np.int64) * num_classes + found[known]
    counts: ndarray = np.bincount(both, minlength=num_classes**2).reshape(num_classes, num_classes)
    return counts


def validate_model(
    model: Model, pairs: Sequence[Pair], table: UInt8[ndarray, "65536"], setting: ForwardSetting
) -> Confusion:
    """Segments each scene as a run would, window by window, and compares.

    Args:
        model: the one to judge.
        pairs: scenes and their labels.
        table: index of the class by value of the label raster.
        setting: how the network is run.
    """
    num_classes = len(model.spec.classes)
    counts = np.zeros((num_classes, num_classes), np.int64)
    for pair in pairs:
        for answer in stream(pair.image, model, setting=setting):
            truth = to_indices(pair.labels.read(answer.window)[0][0], table)
            counts += count_confusion(truth, answer.labels, num_classes)
    return Confusion(counts)
