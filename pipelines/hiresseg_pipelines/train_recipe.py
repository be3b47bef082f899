"""The recipe of a model of one network: a TOML file, read strictly into values, and written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hiresseg.errors import RecipeError
from hiresseg.training.classes import LabelClass, check_classes
from hiresseg.training.criteria import Criterion
from hiresseg.training.loop import Schedule
from hiresseg.training.views import ViewRule
from hiresseg_pipelines.sections import read_section


@dataclass(frozen=True, slots=True)
class DataPart:
    """Where pixels and truth are: folders of files that go by the same name, or one file each."""

    images: str
    labels: str
    validation_images: str = ""
    """Scenes that no network is trained on; without them a part of those above is held back."""
    validation_labels: str = ""
    held_back: float = 0.2
    """Share of the scenes, or of the one scene, that is held back for validation."""
    bands: tuple[int, ...] = ()
    """Bands of the images, from 1; all but alpha if none are named."""
    batch: int = 8
    """Crops in a batch."""
    balance: float = 0.5
    """Share of crops that fall on a class drawn evenly, so that rare ones are seen."""


@dataclass(frozen=True, slots=True)
class ModelPart:
    """What the model says about itself, how it is run, and where it is written."""

    folder: str
    name: str
    licence: str = "not stated"
    description: str = ""
    tile_px: int = 512
    overlap_px: int = 64
    trim_px: int = 16


@dataclass(frozen=True, slots=True)
class NetworkPart:
    """Which network; bands and classes come from the data."""

    library: Literal["hiresseg", "smp"] = "hiresseg"
    name: str = "FCN"
    weights: str = "none"
    """What it begins with: `none`, `imagenet` (the encoder's, fetched by smp), or a model folder."""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """All that a training depends on, but the data themselves."""

    data: DataPart
    model: ModelPart
    classes: tuple[LabelClass, ...]
    network: NetworkPart
    schedule: Schedule
    views: ViewRule = field(default_factory=ViewRule)
    loss: Criterion = field(default_factory=Criterion)


_PARTS: Mapping[str, type[Any]] = {
    "data": DataPart,
    "model": ModelPart,
    "network": NetworkPart,
    "schedule": Schedule,
    "views": ViewRule,
    "loss": Criterion,
}
_NEEDED = frozenset({"data", "model", "classes", "network", "schedule"})


def parse_recipe(document: Mapping[str, Any], where: str) -> TrainRecipe:
    """Check a recipe, and give it types.

    Args:
        document: the parsed TOML.
        where: how messages call it.

    Raises:
        RecipeError: if a key is missing, unknown, of another type or out of range.
    """
    known = {*_PARTS, "classes"}
    if not _NEEDED <= set(document) <= known:
        raise RecipeError(
            f"{where} must have the sections {sorted(_NEEDED)}, may have {sorted(known - _NEEDED)}, got "
            f"{sorted(document)}"
        )
    entries = document["classes"]
    if not isinstance(entries, list):
        raise RecipeError(f"{where}: classes must be written as [[classes]], one for each")
    classes = tuple(
        read_section(LabelClass, entry, f"{where}: classes[{i}]") for i, entry in enumerate(entries)
    )
    check_classes(classes, where)
    parts = {
        name: read_section(kind, document[name], f"{where}: {name}")
        for name, kind in _PARTS.items()
        if name in document
    }
    recipe = TrainRecipe(classes=classes, **parts)
    _check_ranges(recipe, where)
    return recipe


def write_recipe(recipe: TrainRecipe) -> str:
    """The TOML text from which `parse_recipe` makes the same."""
    lines = []
    for name in _PARTS:
        part = getattr(recipe, name)
        lines.append(f"[{name}]")
        lines += [f"{key} = {_toml(getattr(part, key))}" for key in _keys(part)]
        lines.append("")
    for entry in recipe.classes:
        lines += ["[[classes]]", *(f"{key} = {_toml(getattr(entry, key))}" for key in _keys(entry)), ""]
    return "\n".join(lines)


def _check_ranges(recipe: TrainRecipe, where: str) -> None:
    weights = recipe.loss.class_weights
    rules = {
        "data.held_back must lie between 0 and 0.9": 0 < recipe.data.held_back <= 0.9,
        "data.balance must lie between 0 and 1": 0 <= recipe.data.balance <= 1,
        "data.batch must be at least 1": recipe.data.batch >= 1,
        "data.validation_images and validation_labels go together": (
            bool(recipe.data.validation_images) == bool(recipe.data.validation_labels)
        ),
        "views.crop_px must be a multiple of 32": recipe.views.crop_px > 0 and recipe.views.crop_px % 32 == 0,
        "views.zoom must be the smallest and the largest factor, both positive": (
            0 < recipe.views.zoom[0] <= recipe.views.zoom[1]
        ),
        "schedule.steps, accumulate and validate_every must be at least 1": (
            min(recipe.schedule.steps, recipe.schedule.accumulate, recipe.schedule.validate_every) >= 1
        ),
        "schedule.learning_rate must be positive": 0 < recipe.schedule.learning_rate < math.inf,
        "schedule.ema_steps must be at least 1": recipe.schedule.ema_steps >= 1,
        "loss.class_weights must be one positive number for each class, or none": (
            not weights or (len(weights) == len(recipe.classes) and min(weights) > 0)
        ),
        "loss.label_smoothing must lie between 0 and 1": 0 <= recipe.loss.label_smoothing < 1,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise RecipeError(f"{where}: {'; '.join(broken)}; correct that")


def _keys(part: Any) -> list[str]:
    return [entry.name for entry in dataclasses.fields(part)]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON's texts, numbers and truths are TOML's as well
    return json.dumps(value, ensure_ascii=False)


def read_train_recipe(path: Path) -> TrainRecipe:
    """Reads a recipe.

    Raises:
        RecipeError: as `parse_recipe`, or if it is no TOML.
    """
    from hiresseg_pipelines.sections import read_document

    return parse_recipe(read_document(path), str(path))
