"""How far it is from each pixel to the nearest one of another class, exact, up to a reach.

One sweep answers for all radii at once: a pixel lies in the boundary band of radius `r` (the morphological
gradient of the label map with a structuring element of that radius is not zero there) exactly where the
distance is at most `r`. The column pass keeps, per pixel, the nearest label of its column and the nearest
other than that; so the row pass knows the nearest of any other class, whatever its own is, in one sweep
however many classes there are.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Int16, Int32
from numpy import ndarray

BEYOND = 1 << 24
"""Distance of what lies out of reach, and of pixels that are not known."""

Metric = Literal["square", "ellipse"]


def distance_to_other(
    labels: Int16[ndarray, "h w"], reach_px: int, metric: Metric = "square"
) -> Int32[ndarray, "h w"]:
    """Distance of each pixel to the nearest pixel of another class.

    Args:
        labels: class of each pixel; negative is not known, which is no class and nobody's other.
        reach_px: what is farther comes out as BEYOND; at most 30,000.
        metric: `square` for the larger of rows and columns between them: so many 3 x 3 erosions. `ellipse`
            for the least `r` whose elliptical kernel of 2 r + 1 pixels, as OpenCV draws it, holds both.
    """
    distances: ndarray = np.full(labels.shape, BEYOND, np.int32)
    if labels.size == 0 or _is_uniform(labels):
        return distances
    # compiled: imported only where there is something to measure
    from hiresseg.metrics.sweeps import cross, join, sweep

    labels = np.ascontiguousarray(labels)
    above, below = (tuple(np.empty(labels.shape, np.int16) for _ in range(3)) for _ in range(2))
    sweep(labels, reach_px, True, *above)
    sweep(labels, reach_px, False, *below)
    join(*above, *below)
    cross(labels, reach_px, metric == "ellipse", *above, distances)
    return distances


def _is_uniform(labels: Int16[ndarray, "h w"]) -> bool:
    highest = labels.max()
    return bool(highest < 0 or ((labels == highest) | (labels < 0)).all())
