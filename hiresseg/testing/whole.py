"""The definition of a stage, over whole arrays: what the engine is measured against."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from hiresseg.blend import ramp
from hiresseg.geometry import TileGrid, Window
from hiresseg.models.spec import Activation, Model
from hiresseg.testing.scenes import ArrayScene
from hiresseg_kernels.reference import activate


def segment_whole(
    scene: ArrayScene,
    model: Model,
    stage: int = 0,
    *,
    prior: Float[ndarray, "K H W"] | None = None,
    selected: Bool[ndarray, "rows cols"] | None = None,
) -> Float[ndarray, "K H W"]:
    """The definition of a stage: class probabilities of a whole level, in float64, as simply as can be.

    Args:
        scene: small.
        model: its segmenters are called with one tile at a time.
        stage: which of them.
        prior: the stage before, upsampled to this level.
        selected: tiles to look at; None for all.

    Returns:
        Probabilities; NaN where no tile answers and there is no prior.
    """
    spec = model.spec.stages[stage]
    pixels, valid = scene.read(Window(0, 0, *scene.size_at(spec.level)), spec.level)
    height, width = pixels.shape[1:]
    grid = TileGrid(spec.tile_px, spec.overlap_px, height, width)
    known = np.ones((height, width), bool) if valid is None else valid
    mean, std = (np.array(values, np.float64)[:, None, None] for values in (model.spec.mean, model.spec.std))
    images = np.where(known, (pixels - mean) / std, 0)
    padded_size = (
        max(grid.rows * grid.stride_px + grid.tile_px, height),
        max(grid.cols * grid.stride_px + grid.tile_px, width),
    )
    padding = ((0, 0), (0, padded_size[0] - height), (0, padded_size[1] - width))
    images, priors = np.pad(images, padding), None if prior is None else np.pad(prior, padding, mode="edge")
    total = np.zeros((1, *padded_size))
    mixed = np.zeros((model.spec.num_logits, *padded_size))
    for row in range(grid.rows):
        for col in range(grid.cols):
            window = grid.tile(row, col)
            rows, cols = slice(window.top, window.bottom), slice(window.left, window.right)
            if not known[rows, cols].any() or not (selected is None or selected[row, col]):
                continue
            shown = None if priors is None else torch.from_numpy(priors[None, :, rows, cols]).float()
            logits = model.segmenters[stage](torch.from_numpy(images[None, :, rows, cols]).float(), shown)
            weights = _tile_weights(grid, row, grid.rows, spec.trim_px)[:, None] * _tile_weights(
                grid, col, grid.cols, spec.trim_px
            )
            mixed[:, rows, cols] += weights * activate(logits.double(), model.spec.activation)[0].numpy()
            total[:, rows, cols] += weights
    mixed, total = mixed[:, :height, :width], total[:, :height, :width]
    if prior is not None:
        kept: ndarray = mixed + (1 - total) * prior
        return kept
    answered: ndarray = np.divide(mixed, total, out=np.full_like(mixed, np.nan), where=total > 0)
    return answered


def _tile_weights(grid: TileGrid, index: int, count: int, trim_px: int) -> Float[ndarray, " t"]:
    weights = np.ones(grid.tile_px)
    rise = ramp(grid.overlap_px, trim_px).astype(np.float64)
    if index > 0:
        weights[: grid.overlap_px] *= rise
    if index < count - 1:
        weights[grid.stride_px :] *= 1 - rise
    return weights


def decide(probabilities: Float[ndarray, "K H W"], activation: Activation) -> UInt8[ndarray, "H W"]:
    """The label of each pixel, from its probabilities."""
    best = probabilities.argmax(axis=0)
    if activation == "sigmoid":
        best = np.where(probabilities.max(axis=0) < 0.5, 0, best + 1)
    labels: ndarray = best.astype(np.uint8)
    return labels
