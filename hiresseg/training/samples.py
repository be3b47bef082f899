"""Random crops of labelled scenes of any size, read by window: no scene is ever held whole."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor

from hiresseg.geometry import Window
from hiresseg.training.cells import Cells
from hiresseg.training.classes import to_indices
from hiresseg.training.losses import IGNORE
from hiresseg.training.pairs import Pair

_READERS = 4


@dataclass(frozen=True, slots=True)
class Samples:
    """A batch of crops as they stand in the scenes."""

    images: Float[Tensor, "N C t t"]
    """Bands in the units of the scene; 0 where there are no data."""
    valid: Bool[Tensor, "N t t"]
    labels: UInt8[Tensor, "N t t"]
    """Index of the class, 255 where unknown or without data."""
    is_rgb: bool
    """Whether the bands are red, green and blue in bytes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a crop lies."""

    pair: int
    window: Window
    """May reach outside the scene."""


class Sampler:
    """Draws crops. A part of them falls on a class that is drawn first, so that rare classes are seen.

    Args:
        pairs: images and labels.
        cells: of each pair, where its classes lie.
        table: index of the class by value of the label raster.
        balance: share of crops that fall on a class drawn evenly; the others fall on labelled pixels evenly.

    Raises:
        ValueError: if no pixel is labelled.
    """

    def __init__(
        self, pairs: Sequence[Pair], cells: Sequence[Cells], table: UInt8[ndarray, "65536"], balance: float
    ) -> None:
        self._pairs, self._cells, self._table, self._balance = pairs, cells, table, balance
        flat = np.concatenate([c.counts.reshape(-1, c.counts.shape[2]) for c in cells])
        self._first = np.cumsum([0, *(c.counts.shape[0] * c.counts.shape[1] for c in cells)])
        self._present = np.flatnonzero(flat.any(0)).tolist()
        if not self._present:
            raise ValueError("no pixel of these scenes is labelled; label some")
        self._of_class = {k: np.cumsum(flat[:, k], dtype=np.float64) for k in self._present}
        self._of_any = np.cumsum(flat.sum(1), dtype=np.float64)

    def place(self, size_px: int, rng: Generator) -> Place:
        """Where a crop of `size_px` could lie; the same generator state gives the same place."""
        chances = self._of_any
        if rng.random() < self._balance:
            chances = self._of_class[int(rng.choice(self._present))]
        index = int(np.searchsorted(chances, rng.random() * chances[-1], side="right"))
        pair = int(np.searchsorted(self._first, index, side="right")) - 1
        cells, image = self._cells[pair], self._pairs[pair].image
        row, col = divmod(index - int(self._first[pair]), cells.counts.shape[1])
        top, left = (
            _settle(cell * cells.edge_px + rng.uniform(0, cells.edge_px) - size_px / 2, size_px, length)
            for cell, length in ((row, image.height), (col, image.width))
        )
        return Place(pair, Window(top, left, size_px, size_px))

    def draw(self, size_px: int, count: int, rng: Generator) -> Samples:
        """`count` crops of `size_px`."""
        places = [self.place(size_px, rng) for _ in range(count)]
        with ThreadPoolExecutor(_READERS) as pool:
            images, valid, labels = zip(*pool.map(self._read, places), strict=True)
        first = self._pairs[0].image
        is_rgb = first.num_bands == 3 and first.dtype == np.uint8
        return Samples(torch.stack(images), torch.stack(valid), torch.stack(labels), is_rgb)

    def _read(self, place: Place) -> tuple[Tensor, Tensor, Tensor]:
        pair, window = self._pairs[place.pair], place.window
        inside = window.intersect(Window(0, 0, pair.image.height, pair.image.width))
        at = inside.slices_in(window)
        image = np.zeros((pair.image.num_bands, window.height, window.width), np.float32)
        known = np.zeros((window.height, window.width), np.bool_)
        labels = np.full(known.shape, IGNORE, np.uint8)
        pixels, valid = pair.image.read(inside)
        image[:, *at] = pixels
        known[at] = True if valid is None else valid
        labels[at] = to_indices(pair.labels.read(inside)[0][0], self._table)
        labels[~known] = IGNORE
        return torch.from_numpy(image), torch.from_numpy(known), torch.from_numpy(labels)


def _settle(start: float, size_px: int, length: int) -> int:
    """Where a crop begins along one axis: an eighth of it may reach over an edge, since scenes have edges."""
    over = size_px // 8
    if size_px - 2 * over >= length:
        return (length - size_px) // 2
    return round(min(max(start, -over), length + over - size_px))
