"""What may happen to a crop without changing what it shows: torchvision turns, zooms and recolours it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from numpy.random import Generator
from torch import Tensor

from hiresseg.training.losses import IGNORE
from hiresseg.training.samples import Sampler, Samples


@dataclass(frozen=True, slots=True)
class ViewRule:
    """Which views of a scene are drawn."""

    crop_px: int = 256
    flip: bool = True
    """Mirrored both ways: for pictures from above; turn it off where up is up."""
    rotate: bool = True
    """By any angle; needs crops that are half as large again, and blank corners are labelled 255."""
    zoom: tuple[float, float] = (0.8, 1.25)
    """Smallest and largest factor on the size of things."""
    colour: float = 0.2
    """How far light, contrast, saturation (and hue, a quarter as far) may go; 0 leaves them."""
    blur: float = 0.1
    """Share of views that are out of focus."""

    @property
    def read_px(self) -> int:
        """Edge of what is read for a crop."""
        if self.rotate or self.zoom != (1.0, 1.0):
            return 2 * math.ceil(self.crop_px * 0.75)
        return self.crop_px


@dataclass(frozen=True, slots=True)
class Views:
    """A batch that a network can be shown."""

    images: Float[Tensor, "N C t t"]
    """Normalised; 0 where there are no data."""
    labels: UInt8[Tensor, "N t t"]


def draw_views(
    sampler: Sampler,
    rule: ViewRule,
    count: int,
    rng: Generator,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
) -> Views:
    """`count` views. The same states of `rng` and of torch's own generator give the same views.

    Args:
        sampler: where crops come from.
        rule: what may happen to them.
        count: how many.
        rng: decides where they lie.
        normalisation: mean and deviation of each band.
    """
    return change_views(sampler.draw(rule.read_px, count, rng), rule, normalisation)


def change_views(
    samples: Samples, rule: ViewRule, normalisation: tuple[tuple[float, ...], tuple[float, ...]]
) -> Views:
    """Views of crops of `rule.read_px`; torch's generator decides what happens to each."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    image, mask = tv_tensors.Image, tv_tensors.Mask
    steps: list[torch.nn.Module] = []
    if rule.flip:
        steps += [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    if rule.read_px != rule.crop_px:
        fill = {image: 0.0, mask: IGNORE}
        degrees = 180.0 if rule.rotate else 0.0
        turn = v2.RandomAffine(
            degrees, scale=rule.zoom, interpolation=v2.InterpolationMode.BILINEAR, fill=fill
        )
        steps += [v2.RandomApply([turn], 0.75), v2.CenterCrop(rule.crop_px)]
    place = v2.Compose(steps) if steps else v2.Identity()
    mean, std = (torch.tensor(part)[:, None, None] for part in normalisation)
    changed = []
    for picture, valid, labels in zip(samples.images, samples.valid, samples.labels, strict=True):
        # bands and their validity move together; what turns in from outside has no data
        both, moved = place(image(torch.cat([picture, valid[None].float()])), mask(labels))
        seen = both[-1:] > 0.999
        bands = both[:-1].as_subclass(Tensor)
        coloured = _change_colours(bands, rule, None if samples.is_rgb else std)
        changed.append(((coloured - mean) / std * seen, torch.where(seen[0], moved, IGNORE)))
    images, masks = zip(*changed, strict=True)
    return Views(torch.stack(images), torch.stack(masks).to(torch.uint8))


def _change_colours(picture: Tensor, rule: ViewRule, std: Tensor | None) -> Tensor:
    """`std` is that of bands that are no colours; None says that they are red, green and blue in bytes."""
    from torchvision.transforms import v2

    far = rule.colour
    if far and std is None:
        jitter = v2.ColorJitter(far, far, far, far / 4)
        picture = jitter(picture / 255) * 255
    elif far and std is not None:
        # other sensors have no hue: each band is a little brighter, and all of them together
        gain = 1 + far * (2 * torch.rand(picture.shape[0], 1, 1) - 1)
        shift = far * (2 * torch.rand(1, 1, 1) - 1) * std
        picture = picture * gain + shift
    if rule.blur:
        picture = v2.RandomApply([v2.GaussianBlur(5, (0.3, 1.5))], rule.blur)(picture)
    return picture
