"""Checks of values from a JSON file: each returns the value with its type, or says what is wrong."""

from __future__ import annotations

import json
import math
import reprlib

from hiresseg.errors import ModelError


def parse_object(data: bytes, name: str) -> dict[str, object]:
    """The JSON object in `data`, read strictly: UTF-8, no key twice, no NaN or Infinity.

    Raises:
        ModelError: if `data` is anything else; `name` is how the message calls it.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{name} is not valid JSON ({error}); write it anew, for instance with save_model"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{name} must hold a JSON object, got {_short(value)}")
    return value


def check_object(
    value: object, name: str, required: frozenset[str], optional: frozenset[str] | None
) -> dict[str, object]:
    """An object with all `required` keys and no others than those and the `optional`; None for any."""
    if not isinstance(value, dict):
        raise ModelError(f"{name} must be a JSON object, got {_short(value)}")
    missing = sorted(required - value.keys())
    unknown = [] if optional is None else sorted(value.keys() - required - optional)
    if missing:
        raise ModelError(f"{name} lacks {', '.join(missing)}; add them")
    if unknown:
        known = ", ".join(sorted(required | (optional or frozenset())))
        raise ModelError(f"{name} has unknown keys {_short(unknown)}; known are {known}")
    return value


def check_list(value: object, name: str, low: int, high: int) -> list[object]:
    """A list of `low` to `high` entries."""
    if not isinstance(value, list) or not low <= len(value) <= high:
        size = f"{low}" if low == high else f"{low} to {high}"
        found = f"{len(value)} entries" if isinstance(value, list) else _short(value)
        raise ModelError(f"{name} must be a list of {size} entries, got {found}")
    return value


def check_integer(value: object, name: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ModelError(f"{name} must be a whole number from {low} to {high}, got {_short(value)}")
    return value


def check_number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from `low` to `high`; true and false are none."""
    # a number too large for a float is caught by its range, before the conversion could overflow
    limit = 1e300
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not -limit <= value <= limit
        or not low <= value <= high
    ):
        bounds = (
            ""
            if low == -math.inf
            else f" from {low:g} to {high:g}"
            if high < math.inf
            else f" from {low:g} up"
        )
        raise ModelError(f"{name} must be a finite number{bounds}, got {_short(value)}")
    return float(value)


def check_text(value: object, name: str, max_length: int = 128) -> str:
    """A line of printable characters, not empty and not longer than `max_length`."""
    if not isinstance(value, str) or not 0 < len(value) <= max_length or not value.isprintable():
        raise ModelError(
            f"{name} must be a text of 1 to {max_length} printable characters, got {_short(value)}"
        )
    return value


def check_choice(value: object, name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ModelError(f"{name} must be one of {', '.join(choices)}, got {_short(value)}")
    return value


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"key {_short(next(name for name in names if names.count(name) > 1))} stands there twice"
        )
    return unique


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _short(value: object) -> str:
    return reprlib.repr(value)
