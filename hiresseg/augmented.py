"""Test-time augmentation: a network sees each tile turned and mirrored, and its answers are averaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hiresseg.models.spec import Activation, Model, Segmenter

Augmentation = Literal["none", "flips", "d4"]

_VIEWS: dict[Augmentation, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    # as it is, upside down, mirrored, both
    "flips": ((0, False), (2, True), (0, True), (2, False)),
    "d4": tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4)),
}
"""(quarter turns, whether mirrored from left to right before them)."""


def augment_model(model: Model, augmentation: Augmentation) -> Model:
    """The model with each of its networks asked once per view; the same model for `none`."""
    if augmentation == "none":
        return model
    asked = (AugmentedSegmenter(each, augmentation, model.spec.activation) for each in model.segmenters)
    return replace(model, segmenters=tuple(asked))


class AugmentedSegmenter(nn.Module):
    """The average of the probabilities that a network gives to the views of a tile, as logits.

    One view is looked at after the other, so memory is that of one forward.

    Args:
        segmenter: the network.
        augmentation: `flips` for 4 views, `d4` for all 8 of the square.
        activation: what makes probabilities of its logits.
    """

    def __init__(self, segmenter: Segmenter, augmentation: Augmentation, activation: Activation) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.views = _VIEWS[augmentation]
        self.is_softmax = activation == "softmax"

    def forward(
        self, images: Float[Tensor, "N C t t"], prior: Float[Tensor, "N K t t"] | None
    ) -> Float[Tensor, "N K t t"]:
        """Logits whose activation is the average."""
        total: Tensor | None = None
        for turns, mirrored in self.views:
            seen = None if prior is None else _turn(prior, turns, mirrored=mirrored)
            logits = self.segmenter(_turn(images, turns, mirrored=mirrored), seen).float()
            answer = _turn_back(logits, turns, mirrored=mirrored)
            answer = answer.softmax(dim=1) if self.is_softmax else answer.sigmoid()
            total = answer if total is None else total + answer
        assert total is not None
        mean = total / len(self.views)
        return mean.log() if self.is_softmax else torch.logit(mean)


def _turn(tiles: Tensor, turns: int, *, mirrored: bool) -> Tensor:
    layout = torch.channels_last if tiles.is_contiguous(memory_format=torch.channels_last) else None
    turned = torch.rot90(tiles.flip(-1) if mirrored else tiles, turns, (-2, -1))
    return turned.contiguous(memory_format=layout or torch.contiguous_format)


def _turn_back(tiles: Tensor, turns: int, *, mirrored: bool) -> Tensor:
    turned = torch.rot90(tiles, -turns, (-2, -1))
    return turned.flip(-1) if mirrored else turned
