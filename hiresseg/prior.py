"""The previous stage's answer, seen from a finer lattice."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from hiresseg.geometry import Window
from hiresseg.store import NODATA, RunArray


class Prior:
    """Class probabilities of a coarser stage, upsampled bilinearly with half-pixel alignment.

    Args:
        array: probabilities, 0 to 255, of the coarse grid.
        factor: pixels of the finer grid along the edge of one coarse pixel; a power of two.
        labels: labels of the coarse grid, 255 where it has no data; None if it has data everywhere.
    """

    def __init__(self, array: RunArray, factor: int, labels: RunArray | None = None) -> None:
        self.array = array
        self.factor = factor
        self.labels = labels

    def read(self, window: Window) -> Float[Tensor, "1 K h w"]:
        """Probabilities in [0, 1] over a window of the finer grid, which may reach outside the scene.

        The value of a pixel does not depend on the window that it was read with, nor on coarse pixels
        without data, as long as one beside it has some.
        """
        factor = self.factor
        # one coarse pixel more on each side: the neighbours of the outermost ones
        coarse = window.coarsened(factor)
        rows = np.arange(coarse.top - 1, coarse.bottom + 1).clip(0, self.array.shape[0] - 1)
        cols = np.arange(coarse.left - 1, coarse.right + 1).clip(0, self.array.shape[1] - 1)
        top, left = int(rows[0]), int(cols[0])
        inside = Window(top, left, int(rows[-1]) - top + 1, int(cols[-1]) - left + 1)
        values = self.array.read(inside)[:, rows - top][:, :, cols - left]
        probabilities = self._upsample(values)
        if self.labels is not None and factor > 1:
            known = (self.labels.read(inside) != NODATA)[:, rows - top][:, :, cols - left]
            if not known.all():
                share = self._upsample(known)
                # the others are 0 there, and must not pull down what lies beside them
                probabilities = torch.where((share > 0) & (share < 1), probabilities / share, probabilities)
        down, right = window.top - (coarse.top - 1) * factor, window.left - (coarse.left - 1) * factor
        return probabilities[:, :, down : down + window.height, right : right + window.width] / 255

    def _upsample(self, values: ndarray) -> Float[Tensor, "1 K h w"]:
        fine = torch.from_numpy(values).to(torch.float32)[None]
        if self.factor == 1:
            return fine
        # sums of whole numbers with weights that are multiples of 1 / (2 factor) are exact up to a factor of
        # 128: no order of summation, and so no window, can move a bit
        return torch.nn.functional.interpolate(
            fine, scale_factor=self.factor, mode="bilinear", align_corners=False
        )
