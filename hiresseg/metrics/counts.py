"""How many pixels have each value."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import no_type_check

import numpy as np
from jaxtyping import Int64, UInt8
from numpy import ndarray


def count_labels(labels: UInt8[ndarray, "h w"]) -> Int64[ndarray, "256"]:
    """Pixels of each value."""
    counts: ndarray = _counter()(labels)
    return counts


@cache
def _counter() -> Callable[[ndarray], ndarray]:
    import numba

    # four rows of counts in turn: a run of one class would otherwise wait for the same counter at every pixel
    # not checked at run time: a wrapped function is none that numba could compile
    @no_type_check
    @numba.njit(nogil=True, cache=True)
    def count(labels: ndarray) -> ndarray:
        counts: ndarray = np.zeros((4, 256), np.int64)
        height, width = labels.shape
        for row in range(height):
            for col in range(0, width - 3, 4):
                counts[0, labels[row, col]] += 1
                counts[1, labels[row, col + 1]] += 1
                counts[2, labels[row, col + 2]] += 1
                counts[3, labels[row, col + 3]] += 1
            for col in range(width - width % 4, width):
                counts[0, labels[row, col]] += 1
        total: ndarray = counts.sum(axis=0)
        return total

    counter: Callable[[ndarray], ndarray] = count
    return counter
