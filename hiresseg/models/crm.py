"""A class-agnostic refiner with a continuous decoder: it reads image and mask, and may be asked anywhere.

After "High Quality Segmentation for Ultra High-resolution Images" (Shen et al., CVPR 2022,
https://arxiv.org/abs/2111.14482): features of image and mask at half resolution, and a small network that is
asked for each output pixel at its four nearest feature cells, whose answers are weighted by area. Written
from the paper, with these differences: resampling is half-pixel everywhere, so that a tile with enough halo
answers what the whole image would; the global position is no input, so that a pixel does not know where its
tile lies; and the first layer is applied to the features before they are gathered, which is the same sum in
another order and an eighth of the work.

The scales of the paper, 1/8 to 1, are stages of a run: one network of this kind per level, the answer of one
being the prior of the next.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, max_pool2d

HALO_PX = 144
"""What a pixel's answer depends on around it, with a ResNet-50; less with smaller encoders."""
TAPS = (64, 64, 128)
"""Channels kept of the features at strides 2, 4 and 8."""


class ContinuousRefiner(nn.Module):
    """Sharpens masks, each class on its own.

    Args:
        encoder: a ResNet of timm, up to its third layer, which keeps stride 8.
        hidden: channels of the decoder.
        gate_px: where no prior within this many pixels is unsure, the prior stands; None to refine it all.
        in_channels: bands of the images.
    """

    def __init__(
        self, encoder: str = "resnet50", hidden: int = 32, gate_px: int | None = None, in_channels: int = 3
    ) -> None:
        super().__init__()
        import timm

        self.encoder = timm.create_model(
            encoder,
            features_only=True,
            in_chans=in_channels + 1,
            output_stride=8,
            out_indices=(0, 1, 3),
            pretrained=False,
        )
        found = self.encoder.feature_info.channels()  # type: ignore[union-attr, operator]
        self.taps = nn.ModuleList(_Squeeze(a, b) for a, b in zip(found, TAPS, strict=True))
        self.join = nn.Sequential(
            nn.Conv2d(sum(TAPS), sum(TAPS), 3, padding=1, bias=False),
            nn.BatchNorm2d(sum(TAPS)),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )
        self.decoder = PointDecoder(sum(TAPS), hidden)
        self.gate_px = gate_px

    def forward(
        self, images: Float[Tensor, "N C h w"], prior: Float[Tensor, "N K h w"] | None
    ) -> Float[Tensor, "N K h w"]:
        """Logits of each class by itself.

        Args:
            images: normalised bands; height and width are multiples of 8.
            prior: probability of each class in [0, 1].

        Raises:
            ValueError: without a prior.
        """
        if prior is None:
            raise ValueError("this network refines a mask, and was given none; put a stage before it")
        count, num_classes = prior.shape[:2]
        masks = prior.flatten(0, 1)[:, None]
        features = self.encode(images.repeat_interleave(num_classes, 0), masks)
        logits = self.decoder(features, 2).unflatten(0, (count, num_classes))[:, :, 0]
        return logits if self.gate_px is None else keep_sure(logits, prior, self.gate_px)

    def encode(
        self, images: Float[Tensor, "N C h w"], masks: Float[Tensor, "N 1 h w"]
    ) -> Float[Tensor, "N F h/2 w/2"]:
        """Features of image and mask at half resolution."""
        found = self.encoder(torch.cat([images, 2 * masks - 1], dim=1))
        size = found[0].shape[-2:]
        small = [tap(features) for tap, features in zip(self.taps, found, strict=True)]
        # half-pixel: what a cell means does not depend on the size of the tile
        large = [interpolate(each, size, mode="bilinear", align_corners=False) for each in small]
        joined: Tensor = self.join(torch.cat(large, dim=1))
        return joined


class PointDecoder(nn.Module):
    """Answers at any place from the four nearest feature cells (a local implicit function).

    For an output pixel at `x` (in cells) and each of the cells `k` around it, the network is given the
    features of `k`, the offset `2 (x - k)` and the size of an output pixel, 2 / `scale`, along both axes; the
    four answers are weighted by the area between the pixel and the opposite cell.
    """

    def __init__(self, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels + 4, hidden, 1)
        self.rest = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, 1, 1),
        )

    def forward(self, features: Float[Tensor, "N F h w"], scale: int) -> Float[Tensor, "N 1 H W"]:
        """Logits on a grid `scale` times finer than the cells."""
        weight, channels = self.first.weight, features.shape[1]
        # linear in features and position: the features' part is found once per cell, not four times per pixel
        cells = conv2d(features, weight[:, :channels])
        rows, cols = (axis_neighbours(size, scale, features) for size in features.shape[-2:])
        total = features.new_zeros(())
        for row_index, row_offset, row_share in rows:
            for col_index, col_offset, col_share in cols:
                position = self._of_position(weight[:, channels:], row_offset, col_offset, scale)
                near = cells[:, :, row_index][:, :, :, col_index]
                total = total + self.rest(near + position) * (row_share[:, None] * col_share)
        return total

    def _of_position(
        self, weight: Tensor, row_offset: Tensor, col_offset: Tensor, scale: int
    ) -> Float[Tensor, "O H W"]:
        row, col, height, width = weight[:, :, 0, 0].unbind(1)
        assert self.first.bias is not None
        fixed = self.first.bias + (height + width) * (2 / scale)
        down = row[:, None, None] * row_offset[:, None]
        return down + col[:, None, None] * col_offset + fixed[:, None, None]


def axis_neighbours(
    num_cells: int, scale: int, like: Tensor
) -> list[tuple[Int64[Tensor, " H"], Float[Tensor, " H"], Float[Tensor, " H"]]]:
    """Of each output pixel along one axis: its two cells, the offsets to them, their shares (summing to 1).

    Beyond the outermost cells, both are the outermost one.
    """
    places = torch.arange(num_cells * scale, device=like.device)
    # positions within a cell repeat, and are computed from those alone: exactly the same in every tile
    phase = ((places % scale).to(like.dtype) + 0.5) / scale - 0.5
    cell = places // scale
    below = torch.where(phase < 0, cell - 1, cell)
    share = torch.where(phase < 0, phase + 1, phase)
    neighbours = []
    for step, part in ((0, 1 - share), (1, share)):
        index = (below + step).clamp(0, num_cells - 1)
        offset = 2 * (phase - (index - cell).to(like.dtype))
        neighbours.append((index, offset, part))
    return neighbours


def keep_sure(
    logits: Float[Tensor, "N K h w"], prior: Float[Tensor, "N K h w"], reach_px: int
) -> Float[Tensor, "N K h w"]:
    """The prior's own logits where no class within `reach_px` is unsure (0.05 to 0.95)."""
    unsure = ((prior > 0.05) & (prior < 0.95)).any(1, keepdim=True).to(logits.dtype)
    # a jump from sure to sure is as unsure as what lies between
    jumps = (max_pool2d(prior, 3, 1, 1) + max_pool2d(-prior, 3, 1, 1)).amax(1, keepdim=True) > 0.5
    near = max_pool2d(torch.maximum(unsure, jumps.to(logits.dtype)), 2 * reach_px + 1, 1, reach_px)
    return torch.where(near > 0, logits, torch.logit(prior, 0.02).to(logits.dtype))


class _Squeeze(nn.Sequential):
    """Fewer channels of one tap of the encoder."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )
