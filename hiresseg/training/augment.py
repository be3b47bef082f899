"""Other light, other cameras, other codecs: what may happen to a crop's bands without changing its labels."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


def disturb_colours(images: Float[Tensor, "N 3 h w"], rng: Generator) -> Float[Tensor, "N 3 h w"]:
    """Random light, colour, gamma, shading, blur, noise and JPEG damage, each image for itself.

    Args:
        images: red, green, blue, 0 to 255.
        rng: the same state gives the same result.

    Returns:
        Whole numbers from 0 to 255, as a camera and a file would hold them.
    """
    return torch.stack([_disturb_one(image, rng) for image in images]).round_().clamp_(0, 255)


def _disturb_one(image: Tensor, rng: Generator) -> Tensor:
    image = torch.einsum("ij,jhw->ihw", _draw_colour_matrix(rng), image)
    image = image * rng.uniform(0.75, 1.3) + rng.uniform(-15, 15)
    image = 255 * (image / 255).clamp(0, 1) ** math.exp(rng.uniform(-0.35, 0.35))
    if rng.random() < 0.3:
        image = image * _draw_shading((image.shape[1], image.shape[2]), rng)
    if rng.random() < 0.35:
        image = _blur(image, rng.uniform(0.3, 1.2))
    if rng.random() < 0.3:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = image + torch.from_numpy(noise) * rng.uniform(1, 8)
    if rng.random() < 0.25:
        image = _compress(image, int(rng.integers(35, 95)))
    return image


def _draw_colour_matrix(rng: Generator) -> Tensor:
    """Saturation, hue and white balance are linear in RGB: one matrix for the three."""
    saturation, hue = rng.uniform(0.5, 1.4), rng.normal(0, 0.12)
    cos, sin = saturation * math.cos(hue), saturation * math.sin(hue)
    chroma = torch.tensor([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    balance = torch.diag(torch.from_numpy(np.exp(rng.normal(0, 0.06, 3))).float())
    matrix: Tensor = balance @ _FROM_YIQ @ chroma @ _TO_YIQ
    return matrix


def _draw_shading(size_px: tuple[int, int], rng: Generator) -> Tensor:
    """A smooth field of gains, as clouds or a vignette make it."""
    knots = torch.from_numpy(rng.uniform(0.7, 1.25, (1, 1, 4, 4))).float()
    return interpolate(knots, size=size_px, mode="bicubic", align_corners=False)[0]


def _blur(image: Tensor, sigma_px: float) -> Tensor:
    steps = torch.arange(-3.0, 4.0)
    kernel = torch.exp(-(steps**2) / (2 * sigma_px**2))
    kernel = (kernel / kernel.sum()).expand(image.shape[0], 1, 1, 7)
    across = conv2d(pad(image[None], (3, 3, 3, 3), mode="reflect"), kernel, groups=image.shape[0])
    return conv2d(across, kernel.transpose(2, 3), groups=image.shape[0])[0]


def _compress(image: Tensor, quality: int) -> Tensor:
    from PIL import Image

    pixels = image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float()
