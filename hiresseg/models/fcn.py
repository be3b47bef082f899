"""A small fully convolutional network with transposed convolutions: what `hiresseg train` begins with.

As in FCN (Long et al. 2015, https://arxiv.org/abs/1411.4038) all layers are convolutions and what is found
at one stride is doubled by a transposed convolution and added to the next finer. Kernels of 4 at a stride of
2 cover every pixel equally often, so that no checkerboard can arise, and begin as bilinear interpolation.
There is no pooling over the tile: in evaluation a pixel depends on its surroundings alone.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FCN(nn.Module):
    """Encoder at strides 2, 4, 8, ..., decoder back to full size.

    Args:
        in_channels: bands of the image.
        classes: logits that it gives.
        widths: channels at strides 2, 4, 8, ...
        dropout: share of the deepest channels that training leaves out.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        steps = list(pairwise((in_channels, *widths)))
        self.down = nn.ModuleList(
            nn.Sequential(*_conv(a, b, stride=2), *_conv(b, b), *_conv(b, b, dilation=1 + (b == widths[-1])))
            for a, b in steps
        )
        self.dropout = nn.Dropout2d(dropout)
        self.up = nn.ModuleList(_doubling(b, a) for a, b in reversed(steps[1:]))
        self.join = nn.ModuleList(nn.Sequential(*_conv(a, a)) for a, _ in reversed(steps[1:]))
        self.head = _doubling(widths[0], classes)

    def forward(
        self, images: Float[Tensor, "N C h w"], prior: Float[Tensor, "N K h w"] | None = None
    ) -> Float[Tensor, "N L h w"]:
        """Logits of each pixel; the prior is not looked at.

        Args:
            images: normalised bands; height and width are multiples of 2 ** len(widths).
            prior: accepted as every segmenter accepts it.
        """
        del prior
        found = [images]
        for down in self.down:
            found.append(down(found[-1]))
        features = self.dropout(found.pop())
        for up, join in zip(self.up, self.join, strict=True):
            features = join(up(features) + found.pop())
        logits: Tensor = self.head(features)
        return logits


def _conv(channels_in: int, channels_out: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(
            channels_in, channels_out, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    ]


def _doubling(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1)
    # each output channel begins as a mixture of the inputs, interpolated
    rise = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        mixture = torch.randn(channels_in, channels_out) / channels_in**0.5
        layer.weight.copy_(mixture[:, :, None, None] * torch.outer(rise, rise).to(layer.weight.device))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
