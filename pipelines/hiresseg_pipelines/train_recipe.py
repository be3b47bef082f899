"""The recipe of a cascade: a TOML file, read strictly into values."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hiresseg.errors import RecipeError
from hiresseg.models.spec import StageSpec


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


Part = TypeVar("Part", DataPart, ModelPart, StagePart)


def read_recipe(path: Path) -> CascadeRecipe:
    """Reads a recipe.

    Raises:
        RecipeError: if it is no TOML, or a key is missing, unknown or of another type.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read as a recipe ({error}); write it as TOML") from error
    sections = {field.name for field in dataclasses.fields(CascadeRecipe)}
    if set(document) != sections:
        raise RecipeError(f"{path} must have the sections {sorted(sections)}, got {sorted(document)}")
    return CascadeRecipe(
        _part(DataPart, document["data"], f"{path}: data"),
        _part(ModelPart, document["model"], f"{path}: model"),
        _part(StagePart, document["coarse"], f"{path}: coarse"),
        _part(StagePart, document["refine"], f"{path}: refine"),
    )


def _part(kind: type[Part], values: Any, where: str) -> Part:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    needed = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if not isinstance(values, dict) or not needed <= set(values) <= set(fields):
        raise RecipeError(f"{where} must have the keys {sorted(needed)}, got {values!r:.200}; write them all")
    return kind(
        **{name: _value(fields[name].type, value, f"{where}.{name}") for name, value in values.items()}
    )


def _value(kind: Any, value: Any, where: str) -> Any:
    """The value as its field wants it; annotations are texts here."""
    inner = {"str": str, "int": int, "float": float}.get(
        str(kind).removeprefix("tuple[").split(",")[0].rstrip("]")
    )
    several = isinstance(value, list)
    values = value if isinstance(value, list) else [value]
    fits = several == str(kind).startswith("tuple")
    if (
        inner is None
        or not fits
        or any(isinstance(v, bool) or not isinstance(v, inner | int) for v in values)
    ):
        raise RecipeError(f"{where} must be of type {kind}, got {value!r:.80}")
    return tuple(inner(v) for v in values) if several else inner(value)
