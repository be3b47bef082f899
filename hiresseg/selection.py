"""Which tiles the next stage looks at: those over which the stage before is torn, or sees a boundary."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy import ndarray

from hiresseg.geometry import TileGrid, Window
from hiresseg_kernels import pool_tiles

PIECE_PX = 1 << 18


def uncertainty(probabilities: UInt8[ndarray, "K h w"]) -> UInt8[ndarray, "h w"]:
    """How torn each pixel is, from 0 (sure) to 255 (two classes alike, or a boundary beside it).

    It is one minus the distance of the two best; with one channel, the other is what that leaves. A pixel
    whose right or lower neighbour has another class, and that neighbour, count as 255. Where no class has any
    probability nothing is known and nothing asked: 0.

    Args:
        probabilities: class probabilities, 0 to 255; of independent channels, `with_background`.
    """
    if len(probabilities) == 1:
        probabilities = with_background(probabilities)
    best_two = np.partition(probabilities, len(probabilities) - 2, axis=0)[-2:]
    torn = 255 - (best_two[1].astype(np.int16) - best_two[0])
    torn[best_two[1] == 0] = 0
    labels = probabilities.argmax(axis=0)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    torn[:, 1:][across] = torn[:, :-1][across] = 255
    torn[1:][down] = torn[:-1][down] = 255
    uncertain: ndarray = torn.astype(np.uint8)
    return uncertain


def with_background(probabilities: UInt8[ndarray, "K h w"]) -> UInt8[ndarray, "..."]:
    """Independent channels as classes, behind a first one that is none of them: what the likeliest leaves."""
    background = 255 - probabilities.max(axis=0, keepdims=True)
    return np.concatenate([background, probabilities])


def select_tiles(
    read_probabilities: Callable[[Window], UInt8[ndarray, "K h w"]],
    coarse_size: tuple[int, int],
    grid: TileGrid,
    factor: int,
    threshold: float,
) -> Bool[ndarray, "rows cols"]:
    """Tiles of a finer lattice that hold a pixel at least as torn as `threshold`.

    Reads the coarse answer in pieces of about `PIECE_PX` pixels, never whole.

    Args:
        read_probabilities: gives the probabilities (0 to 255) of a window of the coarse grid.
        coarse_size: height and width of the coarse grid.
        grid: the lattice of the stage to come.
        factor: pixels of that stage along the edge of one coarse pixel.
        threshold: from 0 (every tile) to 1 (only boundaries and ties).
    """
    whole = Window(0, 0, *coarse_size)
    selected = np.zeros((grid.rows, grid.cols), bool)
    down = max(1, 1024 // grid.tile_px)
    coarse_stride = -(-grid.stride_px // factor)
    across = max(1, PIECE_PX // (down * coarse_stride) // coarse_stride)
    for row in range(0, grid.rows, down):
        for col in range(0, grid.cols, across):
            rows = _footprints(grid, row, min(row + down, grid.rows), factor)
            cols = _footprints(grid, col, min(col + across, grid.cols), factor)
            top, left = int(rows[0, 0]) - 1, int(cols[0, 0]) - 1
            # one pixel more on each side, so that a boundary between two pieces is seen from both
            size = int(rows[-1, 1]) + 1 - top, int(cols[-1, 1]) + 1 - left
            piece = Window(top, left, *size).intersect(whole)
            torn = uncertainty(read_probabilities(piece))
            places = (torn, rows - piece.top, cols - piece.left)
            scores = pool_tiles(*(torch.from_numpy(array) for array in places)).numpy()
            selected[row : row + down, col : col + across] = scores >= round(255 * threshold)
    return selected


def selection_bytes(grid: TileGrid, factor: int, num_channels: int) -> int:
    """Most memory that `select_tiles` takes, for a plan."""
    piece_px = max(PIECE_PX, (grid.tile_px // factor + 4) ** 2)
    return 2 * piece_px * (2 * num_channels + 16)


def _footprints(grid: TileGrid, first: int, last: int, factor: int) -> ndarray:
    starts = np.arange(first, last, dtype=np.int64) * grid.stride_px
    return np.stack([starts // factor, -(-(starts + grid.tile_px) // factor)], axis=1)
