"""What training makes small: cross-entropy and Dice of one foreground channel, deaf to what is labelled 255.

With `z` the logit, `p = sigmoid(z)`, `g` the truth (0 or 1), `S` the sum over the batch's labelled pixels::

    cross_entropy = mean( softplus(z) - g z )                 gradient in z:  (p - g) / count
    dice          = 1 - (2 S(p g) + 1) / (S(p p) + S(g g) + 1)

The denominator is squared (Milletari et al., V-Net, 2016), so that its push on background pixels fades with
`p`; the smoothing of 1 keeps the gradient small and alive where a batch holds no foreground at all.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import softplus

IGNORE = 255
"""Label of pixels that are neither right nor wrong."""


def cross_entropy(logits: Float[Tensor, "N 1 h w"], labels: UInt8[Tensor, "N h w"]) -> Float[Tensor, ""]:
    """Binary cross-entropy per labelled pixel, in nats; 0 where no pixel is labelled.

    Args:
        logits: of the foreground.
        labels: 0 background, 255 ignored, anything else foreground.
    """
    truth, known = _split(labels)
    each = softplus(logits) - truth * logits
    return (each * known).sum() / known.sum().clamp(min=1)


def dice(
    logits: Float[Tensor, "N 1 h w"], labels: UInt8[Tensor, "N h w"], *, smooth: float = 1.0
) -> Float[Tensor, ""]:
    """One minus the squared Dice coefficient of the whole batch, in [0, 1).

    Args:
        logits: of the foreground.
        labels: 0 background, 255 ignored, anything else foreground.
        smooth: pixels added above and below; above 0, so that an empty target still punishes false alarms.
    """
    truth, known = _split(labels)
    prob = torch.sigmoid(logits) * known
    shared = (prob * truth).sum()
    return 1 - (2 * shared + smooth) / ((prob * prob).sum() + (truth * truth).sum() + smooth)


def cross_entropy_and_dice(
    logits: Float[Tensor, "N 1 h w"], labels: UInt8[Tensor, "N h w"]
) -> Float[Tensor, ""]:
    """Sum of both: the first for calibrated pixels, the second for the balance of the classes."""
    return cross_entropy(logits, labels) + dice(logits, labels)


def _split(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Truth (0 where ignored) and whether it is known, both as floats with a channel."""
    known = (labels != IGNORE)[:, None]
    truth = (labels != 0)[:, None] & known
    return truth.float(), known.float()
