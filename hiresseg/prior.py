"""The previous stage's answer, seen from a finer lattice."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hiresseg.geometry import Window
from hiresseg.store import RunArray


class Prior:
    """Class probabilities of a coarser stage, upsampled bilinearly with half-pixel alignment.

    Args:
        array: probabilities, 0 to 255, of the coarse grid.
        factor: pixels of the finer grid along the edge of one coarse pixel; a power of two.
    """

    def __init__(self, array: RunArray, factor: int) -> None:
        self.array = array
        self.factor = factor

    def read(self, window: Window) -> Float[Tensor, "1 K h w"]:
        """Probabilities in [0, 1] over a window of the finer grid, which may reach outside the scene.

        The value of a pixel does not depend on the window that it was read with.
        """
        factor = self.factor
        # one coarse pixel more on each side: the neighbours of the outermost ones
        coarse = window.coarsened(factor)
        rows = np.arange(coarse.top - 1, coarse.bottom + 1).clip(0, self.array.shape[0] - 1)
        cols = np.arange(coarse.left - 1, coarse.right + 1).clip(0, self.array.shape[1] - 1)
        top, left = int(rows[0]), int(cols[0])
        values = self.array.read(Window(top, left, int(rows[-1]) - top + 1, int(cols[-1]) - left + 1))
        values = values[:, rows - top][:, :, cols - left]
        probabilities = torch.from_numpy(values).to(torch.float32)[None]
        if factor > 1:
            # sums of whole numbers with weights that are multiples of 1 / (2 factor) are exact up to a factor
            # of 128: no order of summation, and so no window, can move a bit
            probabilities = torch.nn.functional.interpolate(
                probabilities, scale_factor=factor, mode="bilinear", align_corners=False
            )
        down, right = window.top - (coarse.top - 1) * factor, window.left - (coarse.left - 1) * factor
        return probabilities[:, :, down : down + window.height, right : right + window.width] / 255
