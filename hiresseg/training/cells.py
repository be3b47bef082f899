"""Which classes lie where: one pass over a label raster, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8
from numpy import ndarray

from hiresseg.geometry import Window
from hiresseg.metrics import count_labels
from hiresseg.scenes import Scene
from hiresseg.training.classes import UNKNOWN, to_indices

CELL_PX = 128
"""Edge of a cell; doubled until the counts fit into `_MAX_COUNTS`."""
_MAX_COUNTS = 16 << 20
_READ_PX = 4096


@dataclass(frozen=True, slots=True)
class Cells:
    """Pixels of each class in each cell of a lattice over a scene."""

    edge_px: int
    counts: Int32[ndarray, "rows cols K"]

    @property
    def pixels(self) -> ndarray:
        """Pixels of each class in all."""
        total: ndarray = self.counts.sum((0, 1), dtype=np.int64)
        return total


def count_cells(
    labels: Scene, table: UInt8[ndarray, "65536"], num_classes: int
) -> tuple[Cells, dict[int, int]]:
    """Counts the classes of a label raster.

    Args:
        labels: one band of integers.
        table: index of the class by value.
        num_classes: how many there are.

    Returns:
        The counts, and of each value that no class has the number of its pixels.
    """
    edge = CELL_PX
    while -(-labels.height // edge) * -(-labels.width // edge) * num_classes > _MAX_COUNTS:
        edge *= 2
    counts = np.zeros((-(-labels.height // edge), -(-labels.width // edge), num_classes), np.int32)
    strange: Counter[int] = Counter()
    for window in _pieces(labels, edge):
        values = labels.read(window)[0][0]
        indices = to_indices(values, table)
        if (indices == UNKNOWN).any():
            strange.update(_tally(values[indices == UNKNOWN]))
        for top in range(0, window.height, edge):
            for left in range(0, window.width, edge):
                cell = np.ascontiguousarray(indices[top : top + edge, left : left + edge])
                at = (window.top + top) // edge, (window.left + left) // edge
                counts[at] = count_labels(cell)[:num_classes]
    return Cells(edge, counts), dict(strange)


def find_values(labels: Scene) -> dict[int, int]:
    """Every value of a label raster, and its number of pixels."""
    found: Counter[int] = Counter()
    for window in _pieces(labels, CELL_PX):
        found.update(_tally(labels.read(window)[0][0]))
    return dict(found)


def _pieces(scene: Scene, edge: int) -> Iterator[Window]:
    extent = Window(0, 0, scene.height, scene.width)
    step = edge * max(1, _READ_PX // edge)
    for top in range(0, scene.height, edge):
        for left in range(0, scene.width, step):
            yield Window(top, left, edge, step).intersect(extent)


def _tally(values: ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return {int(value): int(count) for value, count in zip(found, counts, strict=True)}
