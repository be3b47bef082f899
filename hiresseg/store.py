"""The run on disk: one zarr group per run, with its arrays, its record and its journal.

::

    run.zarr/zarr.json              the group; its attributes hold the record: what was run, on what, how
             labels/                (H, W) uint8, 255 = no data; one shard per block
             confidence/            (H, W) uint8, 0..254 -> 0..1, 255 = no data; on request
             stages/0/probabilities (K, h, w) uint8, 0..255 -> 0..1; only what a later stage reads
             stages/0/labels        (h, w) uint8, 255 = no data
             journal                a line per finished block, appended after its shards are durable

A block is done when its line is in the journal, and not before: zarr leaves out chunks of fill value, so the
presence of files says nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from jaxtyping import UInt8
from numpy import ndarray
from zarr.codecs import BytesCodec, GzipCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from hiresseg.deflate import GZIP_LEVEL
from hiresseg.durable import sync, write_durably
from hiresseg.errors import StoreError
from hiresseg.geometry import Block, Window
from hiresseg.journal import Journal
from hiresseg.lock import FolderLock
from hiresseg.records import group_metadata, read_record
from hiresseg.shards import decode_chunk, encode_shard, read_index

NODATA = 255
"""Label of a pixel that has no data."""


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One array of the run."""

    name: str
    """Path in the group."""
    num_channels: int
    """K, or 0 for an array of two dimensions."""
    height: int
    width: int
    chunk_px: int
    shard_px: int
    fill: int


class RunArray:
    """One array of a run, read and written by whole shards and chunks."""

    def __init__(self, group: Path, layout: ArrayLayout) -> None:
        self.layout = layout
        self.folder = group / layout.name
        self._indices: dict[tuple[int, int], dict[tuple[int, int], tuple[int, int]]] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.layout.height, self.layout.width

    @property
    def chunk_px(self) -> int:
        """Edge of a chunk."""
        return self.layout.chunk_px

    def metadata(self) -> bytes:
        """What its zarr.json says."""
        layout = self.layout
        leading = (layout.num_channels,) if layout.num_channels else ()
        files: dict[str, Buffer] = {}
        zarr.create_array(
            store=MemoryStore(files),
            shape=(*leading, layout.height, layout.width),
            chunks=(*leading, layout.chunk_px, layout.chunk_px),
            # the index stands at the end of a shard, which is zarr's default
            shards=(*leading, layout.shard_px, layout.shard_px),
            dtype="uint8",
            fill_value=layout.fill,
            filters=(),
            serializer=BytesCodec(),
            compressors=GzipCodec(level=GZIP_LEVEL),
        )
        return files["zarr.json"].to_bytes()

    def write_metadata(self) -> None:
        """Write zarr.json, unless it stands there as it should."""
        path, metadata = self.folder / "zarr.json", self.metadata()
        if not path.is_file() or path.read_bytes() != metadata:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_durably(path, metadata)

    def shard_path(self, row: int, col: int) -> Path:
        """The file of a shard."""
        leading = ("0",) if self.layout.num_channels else ()
        return self.folder.joinpath("c", *leading, str(row), str(col))

    def write_shard(self, row: int, col: int, values: UInt8[ndarray, "..."]) -> dict[str, list[int]]:
        """Write one shard durably; {path in the group: [bytes, CRC-32C]}, empty if it is all fill."""
        layout = self.layout
        data = encode_shard(
            values.reshape(-1, *values.shape[-2:]), layout.chunk_px, layout.shard_px, layout.fill
        )
        path = self.shard_path(row, col)
        self._indices.pop((row, col), None)
        if data is None:
            path.unlink(missing_ok=True)
            return {}
        write_durably(path, data)
        return {f"{layout.name}/{path.relative_to(self.folder)}": [len(data), google_crc32c.value(data)]}

    def _index(self, row: int, col: int) -> dict[tuple[int, int], tuple[int, int]]:
        index = self._indices.get((row, col))
        if index is None:
            path = self.shard_path(row, col)
            per_side = self.layout.shard_px // self.layout.chunk_px
            index = read_index(path, per_side) if path.exists() else {}
            if len(self._indices) > 256:
                self._indices.clear()
            self._indices[row, col] = index
        return index

    def read_chunk_gzip(self, row: int, col: int) -> bytes | None:
        """A chunk as it stands on disk, one gzip member; None where it is all fill."""
        per_side = self.layout.shard_px // self.layout.chunk_px
        shard = row // per_side, col // per_side
        place = self._index(*shard).get((row % per_side, col % per_side))
        if place is None:
            return None
        with self.shard_path(*shard).open("rb") as file:
            return os.pread(file.fileno(), place[1], place[0])

    def read_chunk(self, row: int, col: int) -> UInt8[ndarray, "..."] | None:
        """The pixels of a chunk, whole even at the edge; None where it is all fill.

        Raises:
            StoreError: if the chunk is damaged.
        """
        data = self.read_chunk_gzip(row, col)
        if data is None:
            return None
        try:
            values = decode_chunk(data, max(1, self.layout.num_channels), self.chunk_px)
        except ValueError as error:
            raise StoreError(
                f"{self.folder}: chunk ({row}, {col}) is damaged ({error}); "
                f"run the same command again to compute its block anew"
            ) from error
        return values if self.layout.num_channels else values[0]

    def read(self, window: Window) -> UInt8[ndarray, "K h w"]:
        """The pixels of a window that lies inside the array; K is 1 for an array of two dimensions."""
        channels = max(1, self.layout.num_channels)
        out = np.full((channels, window.height, window.width), self.layout.fill, np.uint8)
        edge = self.chunk_px
        tiles = window.coarsened(edge)
        for row in range(tiles.top, tiles.bottom):
            for col in range(tiles.left, tiles.right):
                chunk = self.read_chunk(row, col)
                if chunk is None:
                    continue
                place = Window(row * edge, col * edge, edge, edge)
                part = place.intersect(window)
                rows, cols = part.slices_in(place)
                chunk = chunk.reshape(channels, edge, edge)
                out[(slice(None), *part.slices_in(window))] = chunk[:, rows, cols]
        return out


class RunStore:
    """A run's folder, held open and locked by one process.

    Args:
        folder: the output folder; the group is `run.zarr` in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.group = folder / "run.zarr"
        self.arrays: dict[str, RunArray] = {}
        self._journal = Journal(self.group / "journal")
        self._lock = FolderLock(folder)

    @property
    def scratch(self) -> Path:
        """Folder for what does not outlive the process; emptied when a run is begun or gone on with."""
        return self.group / ".scratch"

    def lock(self) -> None:
        """Take the folder for this process; the system lets go of it when the process ends, however it ends.

        Raises:
            StoreError: if it cannot be made or written, or another process runs in it.
        """
        self._lock.take()

    def refuse_foreign(self, *, overwrite: bool) -> None:
        """Make sure that nothing is replaced that is not of a run.

        Args:
            overwrite: whether a run's files may be replaced.

        Raises:
            StoreError: naming what stands in the way.
        """
        if self.exists() and not self._is_foreign():
            return
        found = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}
        inside = set()
        if self.group.is_dir():
            # a run that was killed before its record stood
            inside = {path.name for path in self.group.iterdir() if path.name[0] != "."} - GROUP_NAMES
            found.discard(self.group.name)
        foreign = sorted([*(found - OUTPUT_NAMES), *(f"{self.group.name}/{name}" for name in inside)])
        if foreign:
            raise StoreError(
                f"{self.folder}: holds files that are not of a run ({', '.join(foreign[:3])}); "
                f"give another folder with -o"
            )
        if found and not overwrite:
            raise StoreError(
                f"{self.folder}: holds {', '.join(sorted(found))}, and no run that they could be of; "
                f"give another folder with -o, or --overwrite to replace them"
            )

    def refuse_input(self, path: Path) -> None:
        """Make sure that what a run reads is not among what it replaces.

        Args:
            path: the scene, or the model's folder.

        Raises:
            StoreError: if it is.
        """
        resolved, group = path.resolve(), self.group.resolve()
        ours = [self.folder / name for name in OUTPUT_NAMES]
        is_output = any(name.exists() and resolved.exists() and name.samefile(resolved) for name in ours)
        if is_output or group in (resolved, *resolved.parents):
            raise StoreError(
                f"{path}: would be replaced by the output of the run in {self.folder}; "
                f"give another folder with -o"
            )

    def exists(self) -> bool:
        """Whether a run has been begun here."""
        return (self.group / "zarr.json").exists()

    def _is_foreign(self) -> bool:
        """Whether the group is somebody else's: sound, and says nothing of a run."""
        try:
            metadata = json.loads((self.group / "zarr.json").read_text())
            return "zarr_format" in metadata and "hiresseg" not in metadata.get("attributes", {})
        except (OSError, ValueError, AttributeError, TypeError):
            return False

    def read_record(self) -> dict[str, Any]:
        """The record of the run that stands here.

        Raises:
            StoreError: if there is none that this version can read.
        """
        return read_record(self.group)

    def is_described(self) -> bool:
        """Whether the group's zarr.json says to the letter what this version would write of its record."""
        path: Path = self.group / "zarr.json"
        return path.read_bytes() == group_metadata(self.read_record())

    def create(self, record: Mapping[str, Any], layouts: Sequence[ArrayLayout]) -> None:
        """Begin a run: metadata of all arrays, an empty journal, and the record last, which makes it a run.

        Whatever run stood there is removed, its record first: a half removed run is none.
        """
        try:
            self._remove()
            self.group.mkdir(parents=True, exist_ok=True)
            for layout in layouts:
                RunArray(self.group, layout).write_metadata()
            self._journal.path.touch()
            self.scratch.mkdir()
            write_durably(self.group / "zarr.json", group_metadata(record))
        except StoreError:
            raise
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(
                f"{self.group}: cannot be written ({reason}); free the disk or give another folder with -o"
            ) from error
        self.open_arrays(layouts)

    def resume(self, layouts: Sequence[ArrayLayout]) -> None:
        """Go on with the run that stands here: away with what a killed process left half written."""
        for pattern in (f".{name}*.partial" for name in OUTPUT_NAMES):
            for partial in self.folder.glob(pattern):
                partial.unlink(missing_ok=True)
        for partial in self.group.rglob(".*.partial"):
            partial.unlink(missing_ok=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(exist_ok=True)
        self.open_arrays(layouts)
        # other programs read by the metadata; this one does not, and would not notice harm
        for array in self.arrays.values():
            array.write_metadata()
        if not self.is_described():
            write_durably(self.group / "zarr.json", group_metadata(self.read_record()))

    def open_arrays(self, layouts: Sequence[ArrayLayout]) -> None:
        """Make the arrays reachable under `arrays`."""
        self.arrays = {layout.name: RunArray(self.group, layout) for layout in layouts}

    def finished_blocks(self) -> dict[tuple[int, int, int], dict[str, Any]]:
        """Journal entry of every block, by (stage, row, col), whose shards are there and unharmed.

        A block whose shard is missing or does not match its CRC-32C is not finished.
        """
        finished = {(entry["stage"], entry["row"], entry["col"]): entry for entry in self.read_journal()}
        return {key: entry for key, entry in finished.items() if self._is_unharmed(entry["files"])}

    def read_journal(self) -> list[dict[str, Any]]:
        """All lines of the journal, in the order in which they were written; changes nothing."""
        return self._journal.read()

    def _is_unharmed(self, files: Mapping[str, Sequence[int]]) -> bool:
        for name, (size, checksum) in files.items():
            path = self.group / name
            if (
                not path.is_file()
                or path.stat().st_size != size
                or google_crc32c.value(path.read_bytes()) != checksum
            ):
                return False
        return True

    def finish_block(
        self, stage: int, block: Block, arrays: Mapping[str, ndarray], facts: Mapping[str, Any]
    ) -> None:
        """Write a block's shards, then its line in the journal; both are on disk when this returns.

        Raises:
            StoreError: if one of them cannot be written; the block is not finished then.
        """
        files: dict[str, list[int]] = {}
        for name, values in arrays.items():
            files |= self.arrays[name].write_shard(block.row, block.col, values)
        self._journal.append({"stage": stage, "row": block.row, "col": block.col, "files": files, **facts})

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock.is_held and self.scratch.is_dir():
            shutil.rmtree(self.scratch, ignore_errors=True)
        self._lock.release()

    def _remove(self) -> None:
        if not self.group.exists():
            return
        (self.group / "zarr.json").unlink(missing_ok=True)
        sync(self.group)
        for path in self.group.iterdir():
            if path.name not in GROUP_NAMES and not path.name.startswith("."):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


OUTPUT_NAMES = frozenset({"labels.tif", "confidence.tif", "preview.png", "report.json"})
"""Files that a run leaves beside its group."""

GROUP_NAMES = frozenset({"labels", "confidence", "stages", "journal", "thumbnail.npy", "thumbnail-valid.npy"})
"""What stands in a group, beside the record and hidden files."""
