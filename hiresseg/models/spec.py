"""What a model says about itself, and the one function that all models become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from jaxtyping import Float

if TYPE_CHECKING:
    # reading what a model says about itself must not wait for torch
    from torch import Tensor

Activation = Literal["softmax", "sigmoid"]


@runtime_checkable
class Segmenter(Protocol):
    """Looks at a batch of tiles: `(images, prior) -> logits`. Anything callable like this will do."""

    def __call__(
        self, images: Float[Tensor, "N C t t"], prior: Float[Tensor, "N K t t"] | None
    ) -> Float[Tensor, "N K t t"]:
        """Logits of each tile.

        Args:
            images: normalised bands; 0 where a pixel has no data or lies outside the scene.
            prior: class probabilities of the previous stage in [0, 1], upsampled to the tile; None in the
                first stage.
        """
        ...


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """One value of the output raster."""

    name: str
    color: tuple[int, int, int]
    """Red, green, blue, 0 to 255."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One sweep of one network."""

    level: int
    """Pyramid level it works at: pixels are 2 ** level times those of the scene."""
    tile_px: int
    """Edge of a tile, in pixels of that level."""
    overlap_px: int
    """Pixels that neighbouring tiles share, in pixels of that level."""
    trim_px: int = 0
    """Outermost pixels of a tile that are never used where a neighbour has them (at most overlap_px // 2)."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model needs, what it gives, and where it comes from."""

    name: str
    bands: tuple[str, ...]
    """Names of the bands it reads, in order."""
    classes: tuple[ClassInfo, ...]
    """One per value of the output. With `sigmoid` the first is none of the others, and has no logit."""
    activation: Activation
    mean: tuple[float, ...]
    """Per band, in the units of the scene: images are `(value - mean) / std`."""
    std: tuple[float, ...]
    stages: tuple[StageSpec, ...]
    dtypes: tuple[str, ...] = ("uint8",)
    """Sample types for which mean and std hold; others need a normalisation from the scene itself."""
    pixel_size_m: tuple[float, float] | None = None
    """Smallest and largest pixel size that it was trained at."""
    refine_above: float = 0.5
    """A tile of a later stage is run where the stage before is less sure than this (0 sure, 1 torn)."""
    licence: str = "not stated"
    description: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Measured figures of merit, as the card gives them."""
    digest: str = ""
    """SHA-256 of the folder's weights and configuration."""

    @property
    def num_logits(self) -> int:
        """Channels that the network gives: one per class, less the background under `sigmoid`."""
        return len(self.classes) - (self.activation == "sigmoid")


@dataclass(frozen=True, slots=True)
class Model:
    """A specification and the networks that live up to it, one per stage."""

    spec: ModelSpec
    segmenters: tuple[Segmenter, ...]
