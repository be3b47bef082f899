"""Random views of a labelled strip, turned, mirrored, zoomed and cut anywhere, from a pyramid in memory.

A strip is held as one `uint8` stack (bands, label, validity, priors) per level; a crop reads the few source
pixels around it from the level nearest to its pixel size, so that a view at four times the pixel costs no
more than one at full size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from hiresseg.geometry import Window
from hiresseg.training.losses import IGNORE

NUM_LEVELS = 4
"""Levels of a strip's pyramid: pixels up to 16 times as large can be drawn without speckle."""


@dataclass(frozen=True, slots=True)
class CropRule:
    """Which views are drawn."""

    size_px: int
    """Edge of a crop, in its own pixels."""
    pixel_px: float = 1.0
    """Source pixels along the edge of a crop's pixel: 4 for a network that works at level 2."""
    zoom: tuple[float, float] = (0.67, 2.0)
    """Smallest and largest factor on `pixel_px`, drawn evenly in its logarithm."""
    native_share: float = 0.5
    """Share of crops whose zoom stays within a tenth of 1."""
    cutout_share: float = 0.15
    """Share of crops of which a rectangle is blanked as if the scene had no data there."""


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch of views."""

    images: Float[Tensor, "N C t t"]
    """Bands in the units of the strip; 0 where there is no data."""
    valid: Float[Tensor, "N 1 t t"]
    """1 where there is data, else 0."""
    labels: UInt8[Tensor, "N t t"]
    """0, 1, or 255 where unknown."""
    priors: Float[Tensor, "N P t t"]
    """Probabilities in [0, 1] of each prior the strip carries."""


class Strip:
    """A labelled image in memory, with its pyramid.

    Args:
        image: bands, 0 to 255.
        labels: 0 background, 1 foreground, 255 unknown.
        priors: earlier answers about the same pixels, as probability times 255; may be none.
    """

    def __init__(
        self,
        image: UInt8[Tensor, "C H W"],
        labels: UInt8[Tensor, "H W"],
        priors: UInt8[Tensor, "P H W"] | None = None,
    ) -> None:
        self.num_bands = image.shape[0]
        truth = (labels == 1).to(torch.uint8) * 255
        known = (labels != IGNORE).to(torch.uint8) * 255
        planes = [image, truth[None], known[None]] + ([] if priors is None else [priors])
        self.levels = [torch.cat(planes)]
        for _ in range(NUM_LEVELS - 1):
            self.levels.append(halve(self.levels[-1]))

    def draw(self, rule: CropRule, count: int, rng: Generator) -> Crops:
        """`count` random views; the same generator state gives the same views."""
        planes = torch.stack([self._draw_one(rule, rng) for _ in range(count)])
        for view in planes:
            if rng.random() < rule.cutout_share:
                _blank(view, rng)
        bands = self.num_bands
        known = planes[:, bands + 1] > 254.99
        labels = torch.where(known, (planes[:, bands] > 127.5).to(torch.uint8), IGNORE)
        images = planes[:, :bands] * known[:, None]
        return Crops(images, known[:, None].float(), labels.to(torch.uint8), planes[:, bands + 2 :] / 255)

    def _draw_one(self, rule: CropRule, rng: Generator) -> Tensor:
        pixel_px = rule.pixel_px * _draw_zoom(rule, rng)
        level = min(max(0, math.floor(math.log2(pixel_px) + 0.25)), NUM_LEVELS - 1)
        source = self.levels[level]
        matrix = _draw_turn(rng) * pixel_px / 2**level
        # a third of the crop may reach over the edge: scenes have edges, but few pixels lie there
        inset = rule.size_px * pixel_px / 2**level / 3
        return _view(source, matrix, _draw_centre(source, inset, rng), rule.size_px)


def halve(planes: UInt8[Tensor, "P H W"]) -> UInt8[Tensor, "P h w"]:
    """The next level: means of 2 x 2 pixels, rounded; an odd last row or column is left out."""
    return avg_pool2d(planes.float()[None], 2)[0].round().to(torch.uint8)


def read_strip(image_path: str, labels_path: str, window: Window) -> tuple[Tensor, Tensor]:
    """Reads image `(C, h, w)` and labels `(h, w)`, both `uint8`, of one window of a raster pair.

    Raises:
        ValueError: if the two rasters differ in size, or are not of bytes.
    """
    import rasterio
    from rasterio.windows import Window as RasterWindow

    where = RasterWindow(window.left, window.top, window.width, window.height)
    with rasterio.open(image_path) as image, rasterio.open(labels_path) as labels:
        if image.shape != labels.shape or {*image.dtypes, *labels.dtypes} != {"uint8"}:
            raise ValueError(
                f"image and labels must be byte rasters of one size, got {image.shape} {image.dtypes} in "
                f"{image_path} and {labels.shape} {labels.dtypes} in {labels_path}; convert them first"
            )
        return torch.from_numpy(image.read(window=where)), torch.from_numpy(labels.read(1, window=where))


def _draw_zoom(rule: CropRule, rng: Generator) -> float:
    low, high = (0.9, 1.1) if rng.random() < rule.native_share else rule.zoom
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _draw_turn(rng: Generator) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A rotation, half of the time by a quarter turn, with a mirror image half of the time."""
    angle = math.pi / 2 * rng.integers(4) if rng.random() < 0.5 else rng.uniform(0, 2 * math.pi)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin * mirror], [sin, cos * mirror]])


def _draw_centre(source: Tensor, inset: float, rng: Generator) -> tuple[float, float]:
    height, width = source.shape[1:]
    down, right = min(inset, height / 2), min(inset, width / 2)
    return rng.uniform(down, height - down), rng.uniform(right, width - right)


def _view(
    source: Tensor,
    matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    centre: tuple[float, float],
    size_px: int,
) -> Tensor:
    """Bilinear samples `(P, t, t)` around `centre` (row, column); 0 outside the source."""
    axis = torch.arange(size_px, dtype=torch.float32) - (size_px - 1) / 2
    offsets = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    where = offsets @ torch.from_numpy(matrix.T.copy()).float() + torch.tensor(centre)
    top, left = (max(0, int(where[..., i].min()) - 2) for i in (0, 1))
    bottom, right = (min(source.shape[1 + i], int(where[..., i].max()) + 3) for i in (0, 1))
    near = source[:, top:bottom, left:right].float()
    scale = torch.tensor([bottom - top, right - left])
    unit = (where - torch.tensor([top, left])) * 2 / scale - 1
    return grid_sample(near[None], unit.flip(-1)[None], mode="bilinear", align_corners=False)[0]


def _blank(planes: Tensor, rng: Generator) -> None:
    """Zeroes a random rectangle or edge strip of a view, in place."""
    size = planes.shape[-1]
    height, width = rng.integers(size // 16, size // 3, 2)
    if rng.random() < 0.5:
        height = size
    top, left = rng.integers(-height // 2, size), rng.integers(-width // 2, size)
    planes[:, max(0, top) : top + height, max(0, left) : left + width] = 0
