"""Means of square blocks of pixels, of which only the valid ones count."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Shaped

from hiresseg.geometry import Window

_ALL_VALID = np.zeros((0, 0), np.bool_)


class BlockMeans:
    """The means of all blocks of `2 ** shift` squared pixels of a window, from pieces in any cut.

    Sums of integers are exact, so the cut does not matter; sums of floats run over the pieces in the order
    given, so that order must not depend on the window.
    """

    def __init__(self, num_bands: int, window: Window, shift: int, dtype: np.dtype) -> None:
        self._window, self._shift, self._dtype = window, shift, dtype
        accumulator = np.float64 if dtype.kind == "f" else np.int64
        self._sums = np.zeros((num_bands, window.height, window.width), accumulator)
        self._counts = np.zeros((window.height, window.width), np.int64)

    def add(
        self, at: Window, pixels: Shaped[np.ndarray, "C h w"], valid: Bool[np.ndarray, "h w"] | None
    ) -> None:
        """Take in a piece that lies at `at`, in fine pixels; it must be 0 where it is not valid."""
        if valid is not None and not valid.any():
            return
        top, left = at.top - (self._window.top << self._shift), at.left - (self._window.left << self._shift)
        mask = _ALL_VALID if valid is None else valid
        _add_piece(pixels, mask, (top, left, self._shift), self._sums, self._counts)

    def finish(self) -> tuple[Shaped[np.ndarray, "C h w"], Bool[np.ndarray, "h w"] | None]:
        """The means, integers rounded to the nearest (halves up), and the blocks with a valid pixel."""
        if self._dtype.kind == "f":
            means = (self._sums / np.maximum(self._counts, 1)).astype(self._dtype)
        else:
            means = np.empty(self._sums.shape, self._dtype)
            # a shift is many times faster than a division; 0 where there can be no full block
            bits = 2 * self._shift if self._shift < 31 else 0
            _divide(self._sums, self._counts, bits, means)
        valid = self._counts > 0
        return means, None if valid.all() else valid


# not checked at run time: a wrapped function is none that numba could compile
@no_type_check
@numba.njit(nogil=True, cache=True)
def _add_piece(pixels, valid, place, sums, counts):  # noqa: ANN001, ANN202
    top, left, shift = place
    num_bands, height, width = pixels.shape
    is_masked = valid.size > 0
    for row in range(height):
        to_row = (top + row) >> shift
        start = 0
        while start < width:
            cell = (left + start) >> shift
            stop = min(((cell + 1) << shift) - left, width)
            if is_masked:
                for col in range(start, stop):
                    counts[to_row, cell] += valid[row, col]
            else:
                counts[to_row, cell] += stop - start
            for band in range(num_bands):
                total = sums[band, to_row, cell]
                for col in range(start, stop):
                    # what is not valid is 0 and adds nothing
                    total += pixels[band, row, col]
                sums[band, to_row, cell] = total
            start = stop


@no_type_check
@numba.njit(nogil=True, cache=True)
def _divide(sums, counts, bits, means):  # noqa: ANN001, ANN202
    full = 1 << bits
    for band in range(sums.shape[0]):
        for row in range(sums.shape[1]):
            for col in range(sums.shape[2]):
                total, count = sums[band, row, col], max(counts[row, col], 1)
                if count == full:
                    means[band, row, col] = (total + (full >> 1)) >> bits
                else:
                    mean = total // count
                    means[band, row, col] = mean + (2 * (total - mean * count) >= count)
