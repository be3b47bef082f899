"""What training makes small, for any number of classes under softmax: a weighted sum of the terms below.

With `z` the logits, `p = softmax(z)`, `y` the label, `g` its one-hot form and `S` the sum over the labelled
pixels of the batch (label 255 counts for nothing anywhere)::

    cross_entropy   S( w_y (logsumexp(z) - z_y) ) / S(w_y)          gradient in z:  w_y (p - g) / S(w_y)
    focal           S( w_y (1 - p_y)^gamma (-log p_y) ) / S(w_y)    (Lin et al. 2017)
    dice, squared   1 - (2 S(p g) + s) / (S(p p) + S(g g) + s)      gradient in p:  2 (p A - g B) / B^2
    dice, plain     1 - (2 S(p g) + s) / (S(p) + S(g) + s)          gradient in p:  (A - 2 g B) / B^2
    boundary        mean of | |sobel(p)| - |sobel(g)| |             (CascadePSP, Cheng et al. 2020)
    l1, l2          mean of |p - g|, of (p - g)^2

where `A` stands above and `B` below the bar. Dice is taken per class and averaged over the classes. All is
computed in single precision at least, whatever the logits come in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import conv2d, log_softmax, max_pool2d, one_hot, pad

from hiresseg.training.losses import IGNORE

Denominator = Literal["squared", "plain"]
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Criterion:
    """Which terms count how much, and their settings. Called with logits and labels it gives the loss."""

    cross_entropy: float = 1.0
    """Weight of each term; at 0 it is not computed."""
    dice: float = 1.0
    focal: float = 0.0
    boundary: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    class_weights: tuple[float, ...] = ()
    """One per class, for cross-entropy and focal; none is 1 for each."""
    label_smoothing: float = 0.0
    """Share of the truth that cross-entropy spreads over all classes, below 1."""
    focal_gamma: float = 2.0
    dice_denominator: Denominator = "squared"
    """With `squared` the push on background fades with its probability; with `plain` it never does."""
    dice_smooth: float = 1.0
    """Pixels added above and below; at 0, classes that a batch does not hold are left out of Dice."""

    def __call__(self, logits: Float[Tensor, "N K h w"], labels: UInt8[Tensor, "N h w"]) -> Float[Tensor, ""]:
        """The weighted sum; 0 where no pixel is labelled.

        Args:
            logits: of each class.
            labels: index of the class, 255 where unknown.
        """
        log_prob = log_softmax(logits.float() if logits.dtype != torch.float64 else logits, dim=1)
        terms = []
        if self.cross_entropy:
            terms.append(self.cross_entropy * self._cross_entropy(log_prob, labels))
        if self.focal:
            terms.append(self.focal * self._focal(log_prob, labels))
        if self.dice or self.boundary or self.l1 or self.l2:
            prob = log_prob.exp()
            truth, known = _one_hot(labels, prob)
            if self.dice:
                terms.append(
                    self.dice * dice(prob, truth, known, self.dice_denominator, smooth=self.dice_smooth)
                )
            if self.boundary:
                terms.append(self.boundary * boundary(prob, truth, known))
            if self.l1 or self.l2:
                apart = (prob - truth) * known
                count = known.sum().clamp(min=1) * prob.shape[1]
                terms.append((self.l1 * apart.abs().sum() + self.l2 * (apart * apart).sum()) / count)
        return torch.stack(terms).sum() if terms else logits.sum() * 0

    def _cross_entropy(self, log_prob: Tensor, labels: Tensor) -> Tensor:
        weights = self._weights(log_prob)
        own, weight_of = _at_label(log_prob, labels, weights)
        kept = 1 - self.label_smoothing
        spread = (log_prob * weights[:, None, None]).mean(1) * (labels != IGNORE)
        return -(kept * (own * weight_of).sum() + self.label_smoothing * spread.sum()) / _sum(weight_of)

    def _focal(self, log_prob: Tensor, labels: Tensor) -> Tensor:
        own, weight_of = _at_label(log_prob, labels, self._weights(log_prob))
        # a certainty has no slope, and 0 to a power below 1 has an endless one
        doubt = (-torch.expm1(own)).clamp(min=_LEAST)
        return -(doubt**self.focal_gamma * own * weight_of).sum() / _sum(weight_of)

    def _weights(self, like: Tensor) -> Tensor:
        return like.new_tensor(self.class_weights or [1.0] * like.shape[1])


def dice(
    prob: Float[Tensor, "N K h w"],
    truth: Float[Tensor, "N K h w"],
    known: Bool[Tensor, "N 1 h w"],
    denominator: Denominator = "squared",
    *,
    smooth: float = 1.0,
) -> Float[Tensor, ""]:
    """One minus the Dice coefficient of each class over the whole batch, averaged over the classes.

    Args:
        prob: in [0, 1].
        truth: 0 or 1.
        known: pixels that count.
        denominator: what stands below the bar.
        smooth: pixels added above and below; at 0 absent classes are left out.
    """
    prob, truth = prob * known, truth * known
    shared = (prob * truth).sum((0, 2, 3))
    squared = denominator == "squared"
    sizes = (prob * prob if squared else prob).sum((0, 2, 3)) + truth.sum((0, 2, 3))
    each = 1 - (2 * shared + smooth) / (sizes + smooth).clamp(min=_LEAST)
    if smooth:
        return each.mean()
    present = truth.sum((0, 2, 3)) > 0
    return (each * present).sum() / present.sum().clamp(min=1)


def boundary(
    prob: Float[Tensor, "N K h w"], truth: Float[Tensor, "N K h w"], known: Bool[Tensor, "N 1 h w"]
) -> Float[Tensor, ""]:
    """Mean difference of the steepness of answer and truth, of pixels all of whose neighbours are known.

    Args:
        prob: in [0, 1].
        truth: 0 or 1.
        known: pixels that count.
    """
    unknown = max_pool2d((~known).float(), 3, stride=1, padding=1)
    apart = (_steepness(prob) - _steepness(truth)).abs() * (1 - unknown)
    return apart.sum() / ((1 - unknown).sum() * prob.shape[1]).clamp(min=1)


def _steepness(planes: Tensor) -> Tensor:
    """Length of the Sobel gradient, 1 for a step from 0 to 1; borders go on as they are."""
    across = planes.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    kernels = torch.stack([across, across.T])[:, None]
    flat = pad(planes.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    slopes = conv2d(flat, kernels)
    # without it the root has no slope where nothing changes
    return (slopes.square().sum(1) + 1e-6).sqrt().view_as(planes)


def _one_hot(labels: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    known = (labels != IGNORE)[:, None]
    index = torch.where(labels == IGNORE, 0, labels).long()
    return one_hot(index, like.shape[1]).permute(0, 3, 1, 2).to(like.dtype) * known, known


def _at_label(log_prob: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of the true class of each pixel, and its weight: 0 where it is unknown."""
    known = labels != IGNORE
    index = torch.where(known, labels, 0).long()
    return log_prob.gather(1, index[:, None])[:, 0], weights[index] * known


def _sum(weights: Tensor) -> Tensor:
    return weights.sum().clamp(min=_LEAST)
