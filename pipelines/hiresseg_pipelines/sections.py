"""Sections of a TOML file, read strictly into dataclasses: every key known, every value of its type."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from hiresseg.errors import RecipeError

Part = TypeVar("Part")


def read_document(path: Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        RecipeError: if it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read as a recipe ({error}); write it as TOML") from error


def read_section(kind: type[Part], values: Any, where: str) -> Part:
    """One section as its dataclass.

    Args:
        kind: a dataclass of texts, numbers, truths, tuples of these, literals and mappings.
        values: what the file says.
        where: how messages call it.

    Raises:
        RecipeError: if a key is missing or unknown, or a value of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    needed = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if not isinstance(values, dict) or not needed <= set(values) <= set(fields):
        optional = f", may have {sorted(set(fields) - needed)}" if set(fields) - needed else ""
        raise RecipeError(
            f"{where} must have the keys {sorted(needed)}{optional}, got {values!r:.200}; write them so"
        )
    hints = get_type_hints(kind)
    return kind(
        **{name: _read_value(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    )


def _read_value(kind: Any, value: Any, where: str) -> Any:
    inner = get_args(kind)
    if get_origin(kind) is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) == len(value) and all(map(_fits, kinds, value)):
            return tuple(each(v) for each, v in zip(kinds, value, strict=True))
    elif get_origin(kind) is Literal:
        if value in inner:
            return value
        raise RecipeError(f"{where} must be one of {', '.join(map(str, inner))}, got {value!r:.80}")
    elif get_origin(kind) is Mapping:
        if isinstance(value, dict):
            return value
    elif get_origin(kind) is None and _fits(kind, value):
        return kind(value)
    name = str(kind) if inner else kind.__name__
    raise RecipeError(f"{where} must be of type {name.replace('typing.', '')}, got {value!r:.80}")


def _fits(kind: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (float, int) if kind is float else kind)
