"""The recipe of a cascade: a TOML file, read strictly into values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hiresseg.errors import RecipeError
from hiresseg.models.spec import StageSpec
from hiresseg_pipelines.sections import read_document, read_section


@dataclass(frozen=True, slots=True)
class DataPart:
    """Where pixels and truth are; rasters of bytes, labels 0, 1 and 255 (unknown)."""

    image: str
    labels: str
    held_back_cols: tuple[int, int]
    """First column and the one after the last of the strip that no network is trained on."""
    validation_image: str
    validation_labels: str


@dataclass(frozen=True, slots=True)
class ModelPart:
    """What the model says about itself, and where it is written."""

    folder: str
    name: str
    class_name: str
    color: tuple[int, int, int]
    pixel_size_m: tuple[float, float]
    refine_above: float
    licence: str
    description: str


@dataclass(frozen=True, slots=True)
class StagePart:
    """One network: the lattice it is run on, its widths, and how it is trained."""

    level: int
    tile_px: int
    overlap_px: int
    trim_px: int
    widths: tuple[int, ...]
    steps: int
    crop_px: int
    batch: int
    learning_rate: float
    fold_steps: int = 0
    """Updates of the networks that answer for the half of the rows they were not trained on."""

    @property
    def lattice(self) -> StageSpec:
        """How it is run."""
        return StageSpec(self.level, self.tile_px, self.overlap_px, self.trim_px)


@dataclass(frozen=True, slots=True)
class CascadeRecipe:
    """All that a training depends on."""

    data: DataPart
    model: ModelPart
    coarse: StagePart
    refine: StagePart


SECTIONS = frozenset({"data", "model", "coarse", "refine"})


def read_recipe(path: Path) -> CascadeRecipe:
    """Reads a recipe.

    Raises:
        RecipeError: if it is no TOML, or a key is missing, unknown or of another type.
    """
    document = read_document(path)
    if set(document) != SECTIONS:
        raise RecipeError(f"{path} must have the sections {sorted(SECTIONS)}, got {sorted(document)}")
    return CascadeRecipe(
        read_section(DataPart, document["data"], f"{path}: data"),
        read_section(ModelPart, document["model"], f"{path}: model"),
        read_section(StagePart, document["coarse"], f"{path}: coarse"),
        read_section(StagePart, document["refine"], f"{path}: refine"),
    )
