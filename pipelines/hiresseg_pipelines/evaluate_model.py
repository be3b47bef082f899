"""A model's answer to an image, as a map; and the same once more with its lattice shifted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from hiresseg.forward import ForwardSetting
from hiresseg.geometry import Window
from hiresseg.metrics import SeamCounts
from hiresseg.metrics.comparison import WINDOW_PX, grow, windows_of
from hiresseg.models import Model, ModelSpec
from hiresseg.scenes import Scene
from hiresseg.scenes.scene import Pixels, Valid
from hiresseg.sinks import FILL
from hiresseg.stages import stream
from hiresseg_pipelines.evaluate_maps import ArrayMap

Advance = Callable[[int], None]


def segment_scene(
    scene: Scene, model: Model, setting: ForwardSetting, file: Path, advance: Advance
) -> ArrayMap:
    """Labels of a scene, kept in `file` rather than in memory."""
    labels: ndarray = np.lib.format.open_memmap(
        file, mode="w+", dtype=np.uint8, shape=(scene.height, scene.width)
    )
    for answer in stream(scene, model, setting=setting):
        labels[answer.window.slices_in(Window(0, 0, *labels.shape))] = answer.labels
        advance(answer.window.num_pixels)
    return ArrayMap(labels, FILL)


def measure_seams(
    scene: Scene, model: Model, setting: ForwardSetting, first: ArrayMap, file: Path, advance: Advance
) -> SeamCounts:
    """What changes when the lattice moves: the scene is segmented again, with nothing added above and left.

    Args:
        scene: as it was segmented.
        model: the same.
        setting: the same.
        first: its answer.
        file: where the second answer is kept.
        advance: told the pixels that are done.
    """
    shift_px = shift_of(model.spec)
    moved = segment_scene(ShiftedScene(scene, shift_px), model, setting, file, advance)
    whole = Window(0, 0, scene.height, scene.width)
    counts = SeamCounts()
    for window in windows_of(scene.height, scene.width, WINDOW_PX):
        around = grow(window, counts.band_px).intersect(whole)
        there = Window(around.top + shift_px, around.left + shift_px, around.height, around.width)
        counts.add(first.read(around), moved.read(there), window.slices_in(around))
    return counts


def shift_of(spec: ModelSpec) -> int:
    """The shift that moves the lattice of each stage as near to half a stride as one shift can.

    Half a stride, not half a tile: tiles that overlap by half would come to lie where they were.
    """
    step = 2 ** max(stage.level for stage in spec.stages)
    strides = [(stage.tile_px - stage.overlap_px) * 2**stage.level for stage in spec.stages]

    def worst(shift_px: int) -> float:
        return float(max(abs(shift_px % stride / stride - 0.5) for stride in strides))

    return min(range(step, max(strides) + step, step), key=worst)


class ShiftedScene:
    """A scene with `shift_px` rows and columns of nothing before its first.

    Args:
        scene: the scene; stays open.
        shift_px: a multiple of `2 ** level` for every level that is read.
    """

    def __init__(self, scene: Scene, shift_px: int) -> None:
        self._scene, self._shift_px = scene, shift_px
        self.uri, self.georef, self.dtype = scene.uri, scene.georef, scene.dtype
        self.height, self.width = scene.height + shift_px, scene.width + shift_px
        self.num_bands, self.band_names, self.has_gaps = scene.num_bands, scene.band_names, True

    @property
    def bytes_decoded(self) -> int:
        """Those of the scene."""
        return self._scene.bytes_decoded

    def size_at(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level."""
        return -(-self.height >> level), -(-self.width >> level)

    def stored_level(self, level: int) -> int:
        """That of the scene."""
        return self._scene.stored_level(level)

    def decode_unit(self, level: int) -> tuple[int, int]:
        """That of the scene."""
        return self._scene.decode_unit(level)

    def read(self, window: Window, level: int = 0) -> tuple[Pixels, Valid]:
        """Pixels of a window, and which of them are the scene's and valid there."""
        before = self._shift_px >> level
        height, width = self._scene.size_at(level)
        inside = Window(window.top - before, window.left - before, window.height, window.width)
        part = inside.intersect(Window(0, 0, height, width))
        pixels: ndarray = np.zeros((self.num_bands, window.height, window.width), self.dtype)
        valid: ndarray = np.zeros((window.height, window.width), np.bool_)
        if part.num_pixels:
            rows, cols = part.slices_in(inside)
            pixels[:, rows, cols], some = self._scene.read(part, level)
            valid[rows, cols] = True if some is None else some
        return pixels, None if valid.all() else valid

    def fingerprint(self) -> dict[str, Any]:
        """That of the scene, and the shift."""
        return {**self._scene.fingerprint(), "shift_px": self._shift_px}

    def close(self) -> None:
        """The scene stays open."""
