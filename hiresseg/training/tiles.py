"""A whole strip through one network, tile by tile, in memory: what training needs of a run, and no more.

The lattice and the blend are those of a run, so that answers and scores found here are those found there.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import pad

from hiresseg.blend import ramp
from hiresseg.geometry import TileGrid
from hiresseg.models.spec import Segmenter, StageSpec


def segment_strip(
    segmenter: Segmenter,
    images: Float[Tensor, "C H W"],
    stage: StageSpec,
    *,
    prior: Float[Tensor, "1 H W"] | None = None,
    selected: Bool[ndarray, "rows cols"] | None = None,
) -> Float[Tensor, "1 H W"]:
    """Probability of the foreground.

    Args:
        segmenter: in evaluation mode, with one logit.
        images: normalised bands at the stage's level.
        stage: the lattice.
        prior: probability before; it stays where no tile is selected.
        selected: tiles that are run; None is all.

    Raises:
        ValueError: if tiles are selected without a prior to stand beneath the others.
    """
    if selected is not None and prior is None:
        raise ValueError("a selection of tiles needs a prior for the other tiles, got none; pass one")
    height, width = images.shape[1:]
    grid = TileGrid(stage.tile_px, stage.overlap_px, height, width)
    beneath = torch.zeros(1, height, width) if prior is None else prior
    # what a tile sees outside the strip, as in a run: no data, and a prior whose edge goes on
    right = max(0, grid.cols * grid.stride_px + grid.overlap_px - width)
    below = max(0, grid.rows * grid.stride_px + grid.overlap_px - height)
    outside = (0, right, 0, below)
    images = pad(images, outside)
    seen = None if prior is None else pad(prior[None], outside, mode="replicate")[0]
    out = pad(beneath, outside)
    change = torch.zeros_like(out)
    for row in range(grid.rows):
        for col in range(grid.cols):
            if selected is None or selected[row, col]:
                rows, cols = grid.tile(row, col).slices_in(grid.tile(0, 0))
                tile_prior = None if seen is None else seen[None, :, rows, cols]
                with torch.inference_mode():
                    prob = torch.sigmoid(segmenter(images[None, :, rows, cols], tile_prior))[0]
                weights = np.outer(
                    _weights(grid, stage, row, grid.rows), _weights(grid, stage, col, grid.cols)
                )
                change[:, rows, cols] += torch.from_numpy(weights) * (prob - out[:, rows, cols])
    return (out + change)[:, :height, :width].clamp(0, 1)


def _weights(grid: TileGrid, stage: StageSpec, index: int, count: int) -> ndarray:
    """Of one tile along one axis: no ramp where there is no neighbour."""
    weights = np.ones(grid.tile_px, np.float32)
    rise = ramp(grid.overlap_px, stage.trim_px)
    if index > 0:
        weights[: grid.overlap_px] = rise
    if index < count - 1:
        weights[grid.stride_px :] = 1 - rise
    return weights
