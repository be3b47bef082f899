from __future__ import annotations

import numpy as np

from hiresseg.forward import ForwardSetting
from hiresseg.models import ClassInfo, Model, ModelSpec, StageSpec
from hiresseg.testing import ArrayScene
from hiresseg.training.classes import LabelClass, index_table
from hiresseg.training.pairs import Pair
from hiresseg.training.validation import validate_model


def test_the_engine_itself_is_judged_over_all_windows_of_all_scenes():
    rng = np.random.default_rng(0)
    classes = (LabelClass(3, "dark", (0, 0, 0)), LabelClass(8, "light", (1, 1, 1)))
    pairs, rights = [], 0
    for size in ((70, 150), (33, 20)):
        image = rng.integers(0, 2, (1, *size)).astype(np.uint8) * 200
        labels = np.where(image > 100, 8, 3).astype(np.uint8)
        wrong = rng.random(labels.shape) < 0.1
        labels[wrong] = 11 - labels[wrong]
        labels[:, 5] = 255
        rights += ((labels[0] == 8) == (image[0] > 100))[labels[0] != 255].sum()
        pairs.append(Pair("toy", ArrayScene(image), ArrayScene(labels)))

    def light(images, prior):
        import torch

        return torch.cat([-images, images], 1)

    spec = ModelSpec(
        "toy", ("grey",), (ClassInfo("dark", (0, 0, 0)), ClassInfo("light", (1, 1, 1))), "softmax",
        (100.0,), (50.0,), (StageSpec(0, 48, 16),),
    )  # fmt: skip
    confusion = validate_model(Model(spec, (light,)), pairs, index_table(classes), ForwardSetting())
    assert confusion.counts.sum() == 70 * 150 - 150 + 33 * 20 - 20
    assert np.diag(confusion.counts).sum() == rights
