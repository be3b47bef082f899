"""Records of two runs, compared field by field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from hiresseg.errors import RecipeError


def _are_entries(value: object) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)


def compare_records(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str = "") -> list[str]:
    """The fields that differ, each as `name: there -> here`."""
    differing = []
    for key in sorted(set(ours) | set(theirs)):
        here, there = ours.get(key), theirs.get(key)
        if _are_entries(here) and _are_entries(there) and len(here) == len(there):
            here, there = ({str(i): entry for i, entry in enumerate(each)} for each in (here, there))
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            differing += compare_records(here, there, f"{path}{key}.")
        elif here != there:
            differing.append(f"{path}{key}: {there!r} there, {here!r} now")
    return differing


def refuse_other_record(folder: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raise unless both records describe the same run.

    Raises:
        RecipeError: naming the fields that differ.
    """
    differing = compare_records(ours, theirs)
    if differing:
        listed = "\n  ".join(differing[:12])
        raise RecipeError(
            f"{folder}: holds a run that differs in\n  {listed}\n"
            f"give another folder with -o, or --overwrite to start anew"
        )
