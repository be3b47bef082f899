"""What a cascade is trained on, read whole: training strips are small."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, UInt8
from torch import Tensor

from hiresseg.geometry import Window
from hiresseg.training.crops import halve, read_strip
from hiresseg_pipelines.cascade_recipe import CascadeRecipe


@dataclass(frozen=True, slots=True)
class Material:
    """The labelled scene, and what its bands are normalised by."""

    image: UInt8[Tensor, "C H W"]
    labels: UInt8[Tensor, "H W"]
    mean: Float[Tensor, "C 1 1"]
    std: Float[Tensor, "C 1 1"]
    held_back: slice
    """Columns that no network is trained on."""

    def around_held_back(self, before_px: int) -> slice:
        """The held-back columns and some before them, for context."""
        return slice(max(0, self.held_back.start - before_px), self.held_back.stop)

    def normalise(self, images: Tensor, valid: Tensor | float = 1.0) -> Tensor:
        """As networks read it: 0 where there is no data."""
        return (images - self.mean) / self.std * valid


def load_material(recipe: CascadeRecipe) -> Material:
    """Reads the training scene whole."""
    image, labels = read_whole(recipe.data.image, recipe.data.labels)
    bands = image.float().flatten(1)
    mean, std = bands.mean(1)[:, None, None], bands.std(1)[:, None, None]
    return Material(image, labels, mean, std, slice(*recipe.data.held_back_cols))


def read_whole(image_path: str, labels_path: str) -> tuple[Tensor, Tensor]:
    """Image and labels of a whole raster pair."""
    import rasterio

    with rasterio.open(image_path) as image:
        height, width = image.shape
    return read_strip(image_path, labels_path, Window(0, 0, height, width))


def coarsen(image: UInt8[Tensor, "C H W"], level: int) -> UInt8[Tensor, "C h w"]:
    """The image at a level of its pyramid."""
    for _ in range(level):
        image = halve(image)
    return image
