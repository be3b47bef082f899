"""How long a run will take: forwards from the calibration, reading and writing from small samples."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from hiresseg.geometry import Window
from hiresseg.plan import Plan
from hiresseg.scenes import Scene, open_scene
from hiresseg.shards import encode_shard

_SAMPLE_BYTES = 8 << 20
_CHUNK_PX = 512


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of wall time by purpose, for all tiles: what a cascade leaves out is not known yet."""

    forwards: float
    reading: float
    writing: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.forwards + self.reading + self.writing


def estimate_run(scene: Scene, bands: Sequence[int] | None, plan: Plan, workers: int) -> Estimate:
    """Add up a plan's seconds. Decodes a few megabytes, at the middle of the scene, with a handle of its own.

    Args:
        scene: the scene; it counts nothing of what is decoded here.
        bands: the bands that are read.
        plan: its tiles, bytes and pixels.
        workers: blocks at the same time; reading and writing are spread over them.
    """
    read_bytes = sum(stage.read_bytes for stage in plan.stages)
    pixels = plan.stages[-1].height * plan.stages[-1].width
    return Estimate(
        forwards=plan.seconds,
        reading=read_bytes * measure_read_seconds(scene, bands) / workers,
        writing=pixels * measure_write_seconds() / workers,
    )


def measure_read_seconds(scene: Scene, bands: Sequence[int] | None) -> float:
    """Seconds per byte of decoded pixels, on one thread."""
    height, width = scene.size_at(0)
    unit_rows, unit_cols = scene.decode_unit(0)
    pixel_bytes = scene.num_bands * scene.dtype.itemsize
    cols = min(width, max(unit_cols, 1024 // unit_cols * unit_cols))
    rows = min(height, max(1, _SAMPLE_BYTES // (unit_rows * cols * pixel_bytes)) * unit_rows)
    top, left = (height - rows) // 2 // unit_rows * unit_rows, (width - cols) // 2 // unit_cols * unit_cols
    with closing(open_scene(scene.uri, bands=bands)) as sample:
        started = time.perf_counter()
        sample.read(Window(top, left, rows, cols))
        return (time.perf_counter() - started) / sample.bytes_decoded if sample.bytes_decoded else 0.0


def measure_write_seconds() -> float:
    """Seconds per pixel of the mask, on one thread: into the store, into the GeoTIFF, and read back."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 4, (_CHUNK_PX // 16, _CHUNK_PX // 16)), np.ones((16, 16))).astype(
        np.uint8
    )
    started = time.perf_counter()
    encode_shard(labels[None], _CHUNK_PX, _CHUNK_PX, 255)
    stored = time.perf_counter() - started
    started = time.perf_counter()
    zlib.decompress(zlib.compress(labels.tobytes()))
    exported = time.perf_counter() - started
    # the overviews have a third of the pixels again
    return (stored + exported * 4 / 3) / labels.size
