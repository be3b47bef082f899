"""The record of a run: written with a checksum, read back, compared field by field with another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import google_crc32c

from hiresseg.errors import RecipeError, StoreError

FORMAT = 3


def group_metadata(record: Mapping[str, Any]) -> bytes:
    """What zarr.json of a run's group says, its record among it."""
    record = {**record, "format": FORMAT}
    attributes = {"hiresseg": {**record, "crc32c": _checksum(record)}}
    metadata = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(metadata, indent=1, sort_keys=True).encode()


def read_record(group: Path) -> dict[str, Any]:
    """The record in the zarr.json of a group.

    Raises:
        StoreError: if there is none that this version can read, or it is not as it was written.
    """
    try:
        record = json.loads((group / "zarr.json").read_text())["attributes"]["hiresseg"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(
            f"{group}: is not a run of hiresseg; give another folder with -o, or --overwrite"
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise StoreError(
            f"{group}: was written by another version of hiresseg; use --overwrite or another folder"
        )
    if record.pop("crc32c", None) != _checksum(record):
        raise StoreError(
            f"{group}: its record was damaged or changed by hand; use --overwrite or another folder"
        )
    return record


def _checksum(record: Mapping[str, Any]) -> str:
    return f"{google_crc32c.value(json.dumps(record, sort_keys=True).encode()):08x}"


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
