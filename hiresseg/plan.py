"""What a run will do, added up before it starts: tiles, bytes, memory, disk, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import psutil

from hiresseg.errors import ResourceError
from hiresseg.forward import Calibration
from hiresseg.scenes import Pages, Scene
from hiresseg.scenes.handles import GDAL_CACHE_MIB
from hiresseg.scenes.raster import PIECE_BYTES
from hiresseg.selection import selection_bytes
from hiresseg.stages import BORDERS_BYTES, PAGES_BYTES
from hiresseg.thumbnail import THUMBNAIL_PX
from hiresseg.work import Stage


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage of a plan."""

    index: int
    level: int
    height: int
    width: int
    tile_px: int
    overlap_px: int
    tiles: int
    """Tiles of the lattice: one forward each; for a later stage the most that can be selected."""
    blocks: int
    block_px: int
    read_bytes: int
    """Bytes of source pixels to decode; likewise at most."""
    seconds: float
    """From the calibration, with every tile run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do and need."""

    stages: tuple[StagePlan, ...]
    scene_bytes: int
    """Bytes of the scene's pixels, decoded."""
    memory: Mapping[str, int]
    """Bytes of memory by purpose. Their sum bounds what is in use, whatever the size of the scene; holes in
    the heap come on top: `docs/measurements.md` says how much."""
    disk_bytes: int
    """Bytes on disk if nothing could be compressed."""
    setting: str

    @property
    def memory_bytes(self) -> int:
        """All of it."""
        return sum(self.memory.values())

    @property
    def seconds(self) -> float:
        """All stages, with every tile run."""
        return sum(stage.seconds for stage in self.stages)

    def check_memory(self, max_bytes: int | None) -> None:
        """Refuse what does not fit.

        Raises:
            ResourceError: with the sum.
        """
        if max_bytes is None or self.memory_bytes <= max_bytes:
            return
        parts = "\n".join(f"  {size / 2**20:10,.0f} MiB  {name}" for name, size in self.memory.items())
        raise ResourceError(
            f"the run needs {self.memory_bytes / 2**20:,.0f} MiB, and --max-memory allows "
            f"{max_bytes / 2**20:,.0f} MiB:\n{parts}\n"
            f"allow more, or use fewer --workers or a smaller --block"
        )


def plan_run(
    scene: Scene, stages: Sequence[Stage], calibration: Calibration, *, num_logits: int, confidence: bool
) -> Plan:
    """Add up a run; reads and writes nothing.

    The memory of imports, model and forwards is what this process holds now, after the calibration has run
    the network in every thread: freed activations stay with the process and are used again.
    """
    setting = calibration.setting
    sample_bytes = scene.num_bands * scene.dtype.itemsize
    stage_plans = []
    for stage, tile_seconds in zip(stages, calibration.tile_seconds, strict=True):
        grid = stage.grid
        stored_height, stored_width = scene.size_at(scene.stored_level(stage.spec.level))
        tiles = grid.rows * grid.cols
        stage_plans.append(
            StagePlan(
                stage.index,
                stage.spec.level,
                grid.height,
                grid.width,
                grid.tile_px,
                grid.overlap_px,
                tiles,
                len(stage.blocks()),
                stage.block_px,
                stored_height * stored_width * sample_bytes,
                tiles * tile_seconds,
            )
        )
    block_bytes = max(
        _block_bytes(stage, num_logits, sample_bytes, setting.batch, confidence=confidence)
        for stage in stages
    )
    memory = {
        "imports, model, and a forward in each worker": psutil.Process().memory_info().rss,
        f"blocks under way, one for each of {setting.workers} workers": setting.workers * block_bytes,
        f"pixels that {setting.workers} workers are decoding": setting.workers
        * max(_decode_bytes(scene, stage) for stage in stages),
        "decoded pixels waiting for their last reader": PAGES_BYTES,
        "GDAL's own cache of source blocks": GDAL_CACHE_MIB << 20,
        "strips on their way to the next block": BORDERS_BYTES,
        "small picture for the preview": THUMBNAIL_PX**2 * min(3, scene.num_bands) * scene.dtype.itemsize,
        "writing the GeoTIFF": 8 * max(stage.grid.width for stage in stages) * stages[-1].grid.chunk_px() // 4
        + (16 << 20),
    }
    if len(stages) > 1:
        memory["choosing the tiles of the next stage"] = max(
            selection_bytes(stage.grid, 2 ** (before.spec.level - stage.spec.level), num_logits)
            for before, stage in pairwise(stages)
        )
    pixels = scene.height * scene.width
    kept = sum((1 + num_logits) * stage.grid.height * stage.grid.width for stage in stages[:-1])
    aside = max(_aside_bytes(scene, stage, num_logits) for stage in stages)
    disk_bytes = int(pixels * (1 + confidence) * (1 + 4 / 3)) + kept + aside
    return Plan(tuple(stage_plans), pixels * sample_bytes, memory, disk_bytes, setting.describe())


def _decode_bytes(scene: Scene, stage: Stage) -> int:
    """Bytes that one worker holds while it decodes: what comes from the file, and the pages cut from it."""
    pages = Pages(scene, stage.spec.level, memory_bytes=PAGES_BYTES, scratch=None)
    is_reduced = scene.stored_level(stage.spec.level) < stage.spec.level
    return 2 * (pages.group_bytes + (PIECE_BYTES if is_reduced else 0))


def _aside_bytes(scene: Scene, stage: Stage, num_logits: int) -> int:
    """Bytes that wait in scratch files, at most: strips below a row of blocks, and its pages."""
    strips = stage.grid.width * stage.grid.overlap_px * num_logits * 4
    pages = Pages(scene, stage.spec.level, memory_bytes=PAGES_BYTES, scratch=None)
    return max(0, strips - BORDERS_BYTES) + max(0, pages.row_bytes - PAGES_BYTES)


def _block_bytes(stage: Stage, num_logits: int, sample_bytes: int, batch: int, *, confidence: bool) -> int:
    """Bytes that one worker holds for a block, beside the forward."""
    grid, edge = stage.grid, stage.block_px
    outputs = edge * edge * (1 + confidence + (0 if stage.is_last else num_logits))
    band = grid.tile_px * (edge + grid.overlap_px) * (sample_bytes + 1)
    strips = 2 * (edge // grid.stride_px + 1) * num_logits * grid.overlap_px * grid.tile_px * 4
    tiles = batch * grid.tile_px**2 * 4 * (sample_bytes + 3 * num_logits)
    # a finished block stands a second time while it is encoded
    return 2 * outputs + band + strips + tiles
