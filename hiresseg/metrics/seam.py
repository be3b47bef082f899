"""How much of an answer is owed to where the tiles happened to lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16
from numpy import ndarray

from hiresseg.metrics.nearest import distance_to_other


@dataclass(slots=True)
class SeamCounts:
    """Pixels whose label changes when the lattice of tiles is shifted: none, for exact models."""

    band_px: int = 4
    """Pixels this near a boundary of the first answer are counted by themselves too."""
    pixels: int = 0
    changed: int = 0
    near_pixels: int = 0
    near_changed: int = 0

    def add(
        self,
        first: Int16[ndarray, "h w"],
        second: Int16[ndarray, "h w"],
        core: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """Count a window of two answers, with `band_px` around it where the image goes on; -1 is none."""
        near = (distance_to_other(first, self.band_px) <= self.band_px)[core]
        differs, is_known = (first != second)[core], (first >= 0)[core]
        self.pixels += int(np.count_nonzero(is_known))
        self.changed += int(np.count_nonzero(differs & is_known))
        self.near_pixels += int(np.count_nonzero(near))
        self.near_changed += int(np.count_nonzero(near & differs))

    def merge(self, other: SeamCounts) -> None:
        """Add another part."""
        self.pixels += other.pixels
        self.changed += other.changed
        self.near_pixels += other.near_pixels
        self.near_changed += other.near_changed

    @property
    def share(self) -> float:
        """Share of all pixels that change."""
        return self.changed / max(1, self.pixels)

    @property
    def near_share(self) -> float:
        """Share of the pixels near boundaries that change."""
        return self.near_changed / max(1, self.near_pixels)
