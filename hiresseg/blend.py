"""How tiles are joined: windows that sum to one, and know where the scene ends.

Along an axis the window of a tile rises over the first `overlap_px` pixels from 0 to 1 as sin², and the
window of the tile before it falls as one minus that, so the two sum to one and no division is needed.
`trim_px` pixels at either end of the overlap are left out of the ramp: there a network still feels its own
padding. At the scene's border a tile has no neighbour, and no ramp.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from hiresseg.geometry import TileGrid


def ramp(overlap_px: int, trim_px: int) -> Float32[ndarray, " o"]:
    """Weights in [0, 1] of a tile over the pixels that it shares with the tile before it."""
    if not 0 <= 2 * trim_px <= overlap_px:
        raise ValueError(
            f"trim_px must lie between 0 and half the overlap ({overlap_px // 2}), got {trim_px}"
        )
    length = overlap_px - 2 * trim_px
    rise = np.sin(0.5 * np.pi * (np.arange(length) + 0.5) / max(length, 1)) ** 2
    return np.concatenate([np.zeros(trim_px), rise, np.ones(trim_px)]).astype(np.float32)


def cell_weights(grid: TileGrid, index: int, num_tiles: int, trim_px: int) -> Float32[ndarray, " S"]:
    """Weight along one axis of the tile that begins where cell `index` begins; its predecessor has the rest.

    Args:
        grid: the lattice.
        index: row (or column) of the cell.
        num_tiles: rows (or columns) of tiles: a cell with this index has no tile of its own.
        trim_px: pixels at each end of the overlap that the ramp leaves out.
    """
    weights = np.ones(grid.stride_px, np.float32)
    if index == num_tiles:
        weights[: grid.overlap_px] = 0
    elif index > 0:
        weights[: grid.overlap_px] = ramp(grid.overlap_px, trim_px)
    return weights
