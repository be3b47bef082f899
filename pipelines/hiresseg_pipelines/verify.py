"""Proof that a finished run is whole: every pixel written by one block, unharmed, also in the outputs."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from hiresseg.errors import StoreError
from hiresseg.geometry import Block, TileGrid
from hiresseg.metrics import count_labels
from hiresseg.models import StageSpec
from hiresseg.stages import labels_of, stage_layouts
from hiresseg.store import RunArray, RunStore
from hiresseg.work import Stage

Key = tuple[int, int, int]
"""(stage, row, column) of a block."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what was wrong with it."""

    blocks: int
    pixels: int
    """Of the mask."""
    shards: int
    faults: tuple[str, ...]
    """In words; empty for a run that is whole."""

    def describe(self, folder: Path) -> str:
        """For people."""
        if self.faults:
            listed = "\n  ".join(self.faults[:20])
            more = f"\n  and {len(self.faults) - 20} more" if len(self.faults) > 20 else ""
            return f"{folder}: {len(self.faults)} faults\n  {listed}{more}"
        return (
            f"{folder}: whole: {self.pixels:,} pixels, each written by one of {self.blocks:,} blocks; "
            f"{self.shards:,} shards match their checksums, and the outputs match them"
        )


def verify_run(folder: Path) -> Verified:
    """Read a finished run's journal, shards and outputs, and compare them; writes nothing.

    Raises:
        StoreError: if there is no run in `folder`, or its record cannot be read.
    """
    store = RunStore(folder)
    stages = _recorded_stages(store)
    store.open_arrays(stage_layouts(stages, 1, confidence=(store.group / "confidence").is_dir()))
    entries: dict[Key, Mapping[str, Any]] = {}
    for entry in store.read_journal():
        # a block that was done again, after its shard was harmed, has a line for each time: the last counts
        entries[entry["stage"], entry["row"], entry["col"]] = entry
    blocks = {(stage.index, block.row, block.col): block for stage in stages for block in stage.blocks()}
    faults = [
        *_metadata_faults(store),
        *_coverage_faults(stages, blocks, entries),
        *_shard_faults(store, entries),
    ]
    if not faults:
        faults = [*_label_faults(store, stages, blocks, entries), *_output_faults(store, stages[-1])]
    grid = stages[-1].grid
    shards = sum(len(entry["files"]) for entry in entries.values())
    return Verified(len(blocks), grid.height * grid.width, shards, tuple(faults))


def _recorded_stages(store: RunStore) -> list[Stage]:
    recorded = store.read_record().get("stages")
    try:
        assert isinstance(recorded, list)
        return [_recorded_stage(store, recorded, index) for index in range(len(recorded))]
    except (OSError, LookupError, TypeError, ValueError, AssertionError) as error:
        raise StoreError(
            f"{store.group}: what it says of its stages is damaged ({error}); run the same command again"
        ) from error


def _recorded_stage(store: RunStore, recorded: list[Mapping[str, Any]], index: int) -> Stage:
    fields = recorded[index]
    spec = StageSpec(*(fields[name] for name in ("level", "tile_px", "overlap_px", "trim_px")))
    is_last = index == len(recorded) - 1
    name = "labels" if is_last else f"stages/{index}/labels"
    height, width = json.loads((store.group / name / "zarr.json").read_text())["shape"]
    grid = TileGrid(spec.tile_px, spec.overlap_px, height, width)
    # refuses what is no edge of a block
    grid.blocks(fields["block_px"])
    return Stage(index, spec, grid, fields["block_px"], is_last)


def _metadata_faults(store: RunStore) -> Iterator[str]:
    """Whether other programs are told of the group and each array what it is."""
    if not store.is_described():
        yield "zarr.json: is not what the run wrote; run the same command again"
    for name, array in store.arrays.items():
        try:
            found = json.loads((array.folder / "zarr.json").read_text())
            # of how many classes there are probabilities, only this says; its chunks say it again
            channels = found["shape"][0] if array.layout.num_channels else 0
            layout = replace(array.layout, num_channels=channels)
            is_sound = found == json.loads(RunArray(store.group, layout).metadata())
        except (OSError, LookupError, TypeError, ValueError):
            is_sound = False
        if not is_sound:
            yield f"{name}/zarr.json: is not what the run wrote; run the same command again"


def _coverage_faults(
    stages: list[Stage], blocks: Mapping[Key, Block], entries: Mapping[Key, Mapping[str, Any]]
) -> Iterator[str]:
    """Whether the finished blocks cover each level, every pixel once."""
    for key in blocks.keys() - entries.keys():
        yield f"stage {key[0] + 1}: block ({key[1]}, {key[2]}) is not finished; run the same command again"
    for key in entries.keys() - blocks.keys():
        yield f"stage {key[0] + 1}: the journal has block ({key[1]}, {key[2]}), which is none of the run"
    for stage in stages:
        grid = stage.grid
        windows = [blocks[key].window for key in entries if key in blocks and key[0] == stage.index]
        rows, cols = np.zeros(grid.height + 1, np.int64), np.zeros(grid.width + 1, np.int64)
        for window in windows:
            rows[[window.top, window.bottom]] += [window.width, -window.width]
            cols[[window.left, window.right]] += [window.height, -window.height]
        # as many pixels in every row and column as there are: with blocks that do not overlap, each one once
        is_covered = (rows.cumsum()[:-1] == grid.width).all() and (cols.cumsum()[:-1] == grid.height).all()
        if len(windows) == sum(key[0] == stage.index for key in blocks) and not is_covered:
            yield f"stage {stage.index + 1}: its blocks do not cover it once"


def _shard_faults(store: RunStore, entries: Mapping[Key, Mapping[str, Any]]) -> Iterator[str]:
    """Whether each shard belongs to one block, and is as it was written."""
    owners = Counter(name for entry in entries.values() for name in entry["files"])
    for name, count in owners.items():
        if count > 1:
            yield f"{name}: written by {count} blocks"
    for entry in entries.values():
        for name, (size, checksum) in entry["files"].items():
            path = store.group / name
            data = path.read_bytes() if path.is_file() else None
            if data is None:
                yield f"{name}: is missing; run the same command again"
            elif (len(data), google_crc32c.value(data)) != (size, checksum):
                yield f"{name}: does not match its checksum; run the same command again"
    for array in store.arrays.values():
        for path in array.folder.glob("c/**/*"):
            if path.is_file() and str(path.relative_to(store.group)) not in owners:
                yield f"{path.relative_to(store.group)}: was written by no block"


def _label_faults(
    store: RunStore,
    stages: list[Stage],
    blocks: Mapping[Key, Block],
    entries: Mapping[Key, Mapping[str, Any]],
) -> Iterator[str]:
    """Whether the labels of each block are as many of each class as its line says."""
    for key, entry in entries.items():
        labels = store.arrays[labels_of(stages[key[0]])].read(blocks[key].window)[0]
        found = {str(label): int(count) for label, count in enumerate(count_labels(labels)) if count}
        if found != entry["pixels"]:
            yield f"stage {key[0] + 1}: block ({key[1]}, {key[2]}) holds other labels than its line says"


def _output_faults(store: RunStore, stage: Stage) -> Iterator[str]:
    """Whether the GeoTIFFs hold what the arrays do."""
    for name in ("labels", "confidence"):
        path = store.folder / f"{name}.tif"
        if name not in store.arrays:
            continue
        if not path.is_file():
            yield f"{path.name}: is missing; run the same command again"
            continue
        try:
            yield from _differing_blocks(store, stage, name, path)
        except RasterioError as error:
            yield f"{path.name}: cannot be read ({error})"


def _differing_blocks(store: RunStore, stage: Stage, name: str, path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        # a plain grid of pixels is a legitimate scene
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(path, driver="GTiff")
    with dataset:
        if dataset.shape != (stage.grid.height, stage.grid.width):
            yield f"{path.name}: has the shape {dataset.shape}, not that of the run"
            return
        for block in stage.blocks():
            at = block.window
            there = dataset.read(1, window=RasterWindow(at.left, at.top, at.width, at.height))
            if not np.array_equal(there, store.arrays[name].read(at)[0]):
                yield f"{path.name}: block ({block.row}, {block.col}) differs from what was computed"


def verify(folder: Path) -> str:
    """What `hiresseg verify` says of a run that is whole.

    Raises:
        StoreError: with the faults of one that is not.
    """
    verified = verify_run(folder)
    if verified.faults:
        raise StoreError(verified.describe(folder))
    return verified.describe(folder)
