"""How good a network is: whole scenes through the engine that will run it, counted class against class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from hiresseg.forward import ForwardSetting
from hiresseg.metrics import Confusion
from hiresseg.metrics.confusion import UNKNOWN
from hiresseg.models.spec import Model
from hiresseg.stages import stream
from hiresseg.training.classes import to_indices
from hiresseg.training.pairs import Pair


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
    confusion = Confusion(num_classes)
    for pair in pairs:
        for answer in stream(pair.image, model, setting=setting):
            truth = to_indices(pair.labels.read(answer.window)[0][0], table)
            known = np.where(truth < num_classes, truth.astype(np.int16), np.int16(UNKNOWN))
            confusion.add(known, answer.labels.astype(np.int16))
    return confusion
