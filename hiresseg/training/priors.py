"""What a refiner is taught to expect of the stage before it: real answers, damaged truth, fine truth, none.

A refiner that only ever saw a network's answers about pixels which that network was trained on would learn to
trust; one that only saw poor answers would learn to overwrite good ones. So the four kinds are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from hiresseg.training.losses import IGNORE


@dataclass(frozen=True, slots=True)
class PriorRule:
    """Shares of the kinds of prior; what they leave of 1 is no prior at all (0.5 everywhere)."""

    answered: float = 0.55
    """One of the answers that the strip carries."""
    damaged: float = 0.05
    """Truth with pieces lost and grown, blurred, and out of place by a few pixels."""
    fine: float = 0.05
    """Truth as it is, more or less sure of itself: nothing is left to do."""


def draw_priors(
    labels: UInt8[Tensor, "N t t"],
    answers: Float[Tensor, "N P t t"],
    rule: PriorRule,
    rng: Generator,
) -> Float[Tensor, "N 1 t t"]:
    """A prior for each crop, in steps of 1/255 as a run would store it.

    Args:
        labels: 0 background, 1 foreground, 255 unknown; there a prior made from the truth says 0.5.
        answers: probabilities of earlier stages about the same pixels.
        rule: how often which kind.
        rng: the same state gives the same priors.
    """
    each = [_draw_one(label, answer, rule, rng) for label, answer in zip(labels, answers, strict=True)]
    return (torch.stack(each)[:, None] * 255).round() / 255


def _draw_one(label: Tensor, answers: Tensor, rule: PriorRule, rng: Generator) -> Tensor:
    kind = rng.random()
    if kind < rule.answered:
        return _waver(answers[int(rng.integers(len(answers)))], rng)
    kind -= rule.answered
    truth = torch.where(label == IGNORE, 0.5, (label == 1).float())
    if kind < rule.damaged:
        return _damage(truth, rng)
    if kind < rule.damaged + rule.fine:
        doubt = rng.uniform(0, 0.2)
        return truth * (1 - 2 * doubt) + doubt
    return torch.full_like(truth, 0.5)


def _waver(answer: Tensor, rng: Generator) -> Tensor:
    """The same answer, as from a network that is more or less sure, or prone to one class."""
    logits = torch.logit(answer, 1 / 255)
    return torch.sigmoid(logits * rng.uniform(0.7, 1.4) + rng.normal(0, 0.3))


def _damage(truth: Tensor, rng: Generator) -> Tensor:
    """Truth seen 4 or 8 times coarser, plus a smooth field that adds and takes pieces."""
    size, coarse = truth.shape[-1], int(rng.choice([4, 8]))
    seen = avg_pool2d(truth[None, None], coarse)
    noise = torch.from_numpy(rng.standard_normal((1, 1, size // 16, size // 16))).float()
    field = interpolate(noise, size=seen.shape[-2:], mode="bicubic", align_corners=False)
    doubtful = torch.sigmoid(rng.uniform(4, 12) * (seen - 0.5 + rng.uniform(0.1, 0.5) * field))
    fine = interpolate(doubtful, size=size, mode="bilinear", align_corners=False)[0, 0]
    return fine.roll(tuple(rng.integers(-4, 5, 2)), (0, 1))
