"""Overviews: each level half as large as the one before, from it alone.

Fill stands for "no answer" and never wins against an answer. Padding beyond the scene's edge is fill too, so
the edge needs no special case.
"""

from typing import Final, no_type_check

import numba
import numpy as np

from hiresseg.sinks.meaning import FILL

# validators and viewers ask for overviews beyond this size, however large the tiles are
_LARGEST_WITHOUT_OVERVIEWS_PX: Final = 512

_FILL = np.uint8(FILL)
_ZERO, _HALF, _ONE, _FOUR, _FILL_VALUE = (np.float32(x) for x in (0, 0.5, 1, 4, FILL))


def plan_levels(height: int, width: int, tile_px: int) -> list[tuple[int, int]]:
    """Sizes (rows, columns) of all levels, the full resolution first, until a level fits one tile.

    Args:
        height: rows of the scene.
        width: columns of the scene.
        tile_px: edge of a tile.
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > min(tile_px, _LARGEST_WITHOUT_OVERVIEWS_PX):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


# not checked at run time: a wrapped function is none that numba could compile
@no_type_check
@numba.njit(nogil=True, cache=True)
def halve_labels(tile, out):  # noqa: ANN001, ANN201
    """Write the most frequent class of each 2 x 2 square into `out`.

    Of equally frequent classes the first in reading order wins. Fill comes out only where all four are fill.

    Args:
        tile: class indices, uint8 (2 h, 2 w).
        out: uint8 (h, w); may be a view of something larger.
    """
    for row in range(out.shape[0]):
        upper, lower, result = tile[2 * row], tile[2 * row + 1], out[row]
        for col in range(out.shape[1]):
            a, b, c, d = upper[2 * col], upper[2 * col + 1], lower[2 * col], lower[2 * col + 1]
            # selects in place of branches, weakest claim first, can be vectorised: 8 times faster
            winner = a if a != _FILL else (b if b != _FILL else (c if c != _FILL else d))
            winner = c if (c == d) & (c != _FILL) else winner
            winner = b if ((b == c) | (b == d)) & (b != _FILL) else winner
            winner = a if ((a == b) | (a == c) | (a == d)) & (a != _FILL) else winner
            result[col] = winner


@no_type_check
@numba.njit(nogil=True, cache=True)
def halve_values(tile, out):  # noqa: ANN001, ANN201
    """Write the mean of what is valid in each 2 x 2 square into `out`, halves rounded up.

    Args:
        tile: values 0 to 254 or fill, uint8 (2 h, 2 w).
        out: uint8 (h, w), fill where all four are fill; may be a view of something larger.
    """
    for row in range(out.shape[0]):
        upper, lower, result = tile[2 * row], tile[2 * row + 1], out[row]
        for col in range(out.shape[1]):
            a, b, c, d = upper[2 * col], upper[2 * col + 1], lower[2 * col], lower[2 * col + 1]
            # single precision holds these sums exactly, and vectors of it divide fast
            holes = (
                np.float32(a == _FILL)
                + np.float32(b == _FILL)
                + np.float32(c == _FILL)
                + np.float32(d == _FILL)
            )
            total = np.float32(a) + np.float32(b) + np.float32(c) + np.float32(d) - _FILL_VALUE * holes
            valid = _FOUR - holes
            mean = np.uint8(total / max(valid, _ONE) + _HALF)
            result[col] = mean if valid > _ZERO else _FILL
