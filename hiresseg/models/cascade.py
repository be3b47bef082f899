"""The bundled cascade: a network that sees much, and a cheap one that reads its answer and draws the edge.

Both are the same fully convolutional encoder and decoder (strides of 16 pixels at most, additive skips, all
resampling half-pixel, batch norm and no pooling over the tile), so that in evaluation a pixel depends on its
surroundings alone and not on where the tile was cut.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

PRIOR_FLOOR = 0.02
"""The prior is held this far from 0 and 1 before its logit is taken: uint8 zeros are not certainties."""


class CoarseNet(nn.Module):
    """Looks at the scene from afar, and needs no prior.

    Args:
        widths: channels at strides 1, 2, 4, ...
        dropout: share of the deepest channels that training leaves out.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 40, 80, 128, 160), dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = _Conv(3, widths[0])
        self.trunk = _Trunk(widths, dropout)
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(
        self, images: Float[Tensor, "N 3 h w"], prior: Float[Tensor, "N 1 h w"] | None = None
    ) -> Float[Tensor, "N 1 h w"]:
        """Logits of the foreground.

        Args:
            images: normalised bands; height and width are multiples of 2 ** (len(widths) - 1).
            prior: accepted as every segmenter accepts it, and not read: there is no stage before this one.
        """
        del prior
        logits: Tensor = self.head(self.trunk(self.stem(images)))
        return logits


class RefineNet(nn.Module):
    """Reads image and prior, and answers with a correction: ``logits = gate * logit(prior) + delta``.

    Gate (0 to 1) and delta are found at half resolution and upsampled; the prior enters at full resolution.
    So a network that sees nothing to correct hands on the prior as sharp as it came.

    Args:
        widths: channels at strides 2, 4, 8, ...
        dropout: share of the deepest channels that training leaves out.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 40, 80, 128), dropout: float = 0.1) -> None:
        super().__init__()
        self.stem = _Conv(4, widths[0], stride=2)
        self.trunk = _Trunk(widths, dropout)
        self.head = nn.Conv2d(widths[0], 2, 1)
        # training begins near the prior, as a network that mostly agrees
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias[1:], 2.0)

    def forward(
        self, images: Float[Tensor, "N 3 h w"], prior: Float[Tensor, "N 1 h w"] | None = None
    ) -> Float[Tensor, "N 1 h w"]:
        """Logits of the foreground.

        Args:
            images: normalised bands; height and width are multiples of 2 ** len(widths).
            prior: probability of the foreground in [0, 1]; None says that nothing is known, and equals 0.5.
        """
        known = torch.full_like(images[:, :1], 0.5) if prior is None else prior
        features = self.trunk(self.stem(torch.cat([images, 2 * known - 1], dim=1)))
        delta, gate = _double(self.head(features)).split(1, dim=1)
        logits: Tensor = torch.sigmoid(gate) * torch.logit(known, PRIOR_FLOOR) + delta
        return logits


class _Trunk(nn.Module):
    """Encoder and decoder; gives features of the first width at the resolution that it was given."""

    def __init__(self, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.first = _Residual(widths[0])
        self.down = nn.ModuleList(nn.Sequential(_Conv(a, b, stride=2), _Residual(b)) for a, b in steps)
        self.context = nn.Sequential(_Residual(widths[-1], dilation=2), nn.Dropout2d(dropout))
        self.lateral = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in reversed(steps))
        self.up = nn.ModuleList(_Residual(a) for a, _ in reversed(steps))

    def forward(self, features: Tensor) -> Tensor:
        skips = [self.first(features)]
        for down in self.down:
            skips.append(down(skips[-1]))
        features = self.context(skips.pop())
        for lateral, up in zip(self.lateral, self.up, strict=True):
            features = up(_double(lateral(features)) + skips.pop())
        return features


class _Conv(nn.Sequential):
    """A 3 x 3 convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    """Two 3 x 3 convolutions around which the input passes."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.body(features))


def _double(features: Tensor) -> Tensor:
    return interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
