"""Palette images: each index is looked up in the file's colour table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from rasterio.io import DatasetReader

BAND_NAMES = ("red", "green", "blue")


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """Red, green, blue and alpha of every index that the sample type can hold."""

    colors: UInt8[np.ndarray, "n 4"]

    @classmethod
    def of(cls, dataset: DatasetReader, band: int) -> Palette:
        """The colour table of a band of uint8 or uint16; an index that it lacks is opaque black."""
        table = dataset.colormap(band)
        colors = np.zeros((np.iinfo(dataset.dtypes[band - 1]).max + 1, 4), np.uint8)
        colors[:, 3] = 255
        for index, color in table.items():
            if 0 <= index < len(colors):
                colors[index] = color
        return cls(colors)

    @property
    def has_transparent(self) -> bool:
        """Whether an index means that there is nothing to see."""
        return not self.colors[:, 3].all()

    def expand(
        self, indices: Shaped[np.ndarray, "h w"]
    ) -> tuple[UInt8[np.ndarray, "3 h w"], Bool[np.ndarray, "h w"] | None]:
        """Colours, and which pixels are not wholly transparent; None where none is."""
        colors = np.stack([self.colors[:, band][indices] for band in range(3)])
        return colors, self.colors[:, 3][indices] != 0 if self.has_transparent else None
