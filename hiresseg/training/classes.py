"""The classes of a training: their values in the label rasters, their names and colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from hiresseg.errors import RecipeError
from hiresseg.models.smp import class_color
from hiresseg.training.losses import IGNORE

UNKNOWN = 254
"""What `to_indices` makes of a value that no class has."""
MAX_VALUE = 65535
MAX_CLASSES = 254

_LINE = re.compile(
    r"(?:(?P<value>\d+)[\s,;:]+)?(?P<name>[^\d\s#,;:][^#,;:]*?)(?:[\s,;:]+#(?P<color>[0-9a-fA-F]{6}))?"
)


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class."""

    value: int
    """In the label rasters. 255 means "unknown" unless a class has it."""
    name: str
    color: tuple[int, int, int]


def read_classes(path: Path) -> tuple[LabelClass, ...]:
    """Classes from a text file with one a line: `VALUE NAME #RRGGBB`, of which only the name is needed.

    Without values they are 0, 1, 2, ... in the order of the lines. Empty lines count for nothing.

    Raises:
        RecipeError: if it cannot be read, or a line says something else.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{path} cannot be read as a list of classes ({error}); write it as text"
        ) from error
    found = []
    for line in filter(None, lines):
        match = _LINE.fullmatch(line)
        if match is None:
            raise RecipeError(
                f"{path}: {line!r:.80} is no class; write one a line as VALUE NAME #RRGGBB, for instance "
                f"'1 building #e63c28'"
            )
        found.append(match)
    if len({match["value"] is None for match in found}) > 1:
        raise RecipeError(f"{path}: some classes have a value and some have none; give one to all of them")
    classes = tuple(
        LabelClass(int(match["value"] or i), match["name"], _color(match["color"], i))
        for i, match in enumerate(found)
    )
    check_classes(classes, str(path))
    return classes


def check_classes(classes: Sequence[LabelClass], where: str) -> None:
    """Refuse classes that cannot be told apart.

    Raises:
        RecipeError: if there are fewer than two or too many, or a name or value stands there twice.
    """
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise RecipeError(
            f"{where}: a model tells 2 to {MAX_CLASSES} classes apart, got {len(classes)}; the background is "
            "one of them"
        )
    for what, entries in (("value", [str(c.value) for c in classes]), ("name", [c.name for c in classes])):
        twice = sorted({entry for entry in entries if entries.count(entry) > 1})
        if twice:
            raise RecipeError(f"{where}: the {what} {', '.join(twice)} stands there more than once")
    outside = [c.value for c in classes if not 0 <= c.value <= MAX_VALUE]
    if outside:
        raise RecipeError(f"{where}: values must lie between 0 and {MAX_VALUE}, got {outside}")


def classes_of_values(values: Sequence[int]) -> tuple[LabelClass, ...]:
    """Classes for the values found in label rasters that nobody has named.

    255 is none of them, unless 0 is all there is beside it: masks of black and white.
    """
    is_mask = set(values) == {0, IGNORE}
    named = [value for value in sorted(values) if is_mask or value != IGNORE]
    return tuple(
        LabelClass(value, "background" if value == 0 else f"class_{value}", _color(None, i))
        for i, value in enumerate(named)
    )


def index_table(classes: Sequence[LabelClass]) -> UInt8[np.ndarray, "65536"]:
    """The index of the class by value: 255 where unknown, `UNKNOWN` where no class has that value."""
    table = np.full(MAX_VALUE + 1, UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    for index, entry in enumerate(classes):
        table[entry.value] = index
    return table


def to_indices(
    values: Integer[np.ndarray, "*shape"], table: UInt8[np.ndarray, "65536"]
) -> UInt8[np.ndarray, "*shape"]:
    """Indices of classes from values of a label raster."""
    inside = np.clip(values, 0, MAX_VALUE)
    indices: np.ndarray = table[inside]
    if values.dtype.kind == "i" or values.dtype.itemsize > 2:
        indices[inside != values] = UNKNOWN
    return indices


def _color(text: str | None, index: int) -> tuple[int, int, int]:
    if text is None:
        return class_color(index)
    red, green, blue = bytes.fromhex(text)
    return red, green, blue
