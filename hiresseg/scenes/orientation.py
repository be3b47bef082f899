"""How a photograph is turned to be upright: its pixels are stored as the camera was held."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from affine import Affine

from hiresseg.geometry import Georef, Window


@dataclass(frozen=True, slots=True)
class Orientation:
    """What makes stored pixels upright: swap rows and columns, then flip."""

    is_transposed: bool = False
    flips_rows: bool = False
    flips_cols: bool = False

    @classmethod
    def of_exif(cls, value: str | None) -> Orientation:
        """Of the EXIF tag Orientation, 1 to 8; whatever is none of these turns nothing."""
        return cls(*_OF_EXIF.get(value or "1", (False, False, False)))

    @property
    def is_upright(self) -> bool:
        """Whether nothing is to be done."""
        return self == Orientation()

    def turn_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the upright picture from those of the stored one, or the other way."""
        return (size[1], size[0]) if self.is_transposed else size

    def stored_window(self, window: Window, size: tuple[int, int]) -> Window:
        """Where the pixels of `window` of an upright picture of `size` are stored."""
        top = size[0] - window.bottom if self.flips_rows else window.top
        left = size[1] - window.right if self.flips_cols else window.left
        if self.is_transposed:
            return Window(left, top, window.width, window.height)
        return Window(top, left, window.height, window.width)

    def turn(self, array: np.ndarray) -> np.ndarray:
        """Stored pixels, whose last two axes are rows and columns, made upright."""
        if self.is_upright:
            return array
        turned = array.swapaxes(-1, -2) if self.is_transposed else array
        turned = turned[..., ::-1, :] if self.flips_rows else turned
        return np.ascontiguousarray(turned[..., ::-1] if self.flips_cols else turned)

    def turn_georef(self, georef: Georef, size: tuple[int, int]) -> Georef:
        """The georeference of the upright picture of `size`: each pixel keeps its place on the map."""
        if self.is_upright:
            return georef
        height, width = size
        points = []
        for gcp in georef.gcps:
            row, col = (gcp.col, gcp.row) if self.is_transposed else (gcp.row, gcp.col)
            row, col = height - row if self.flips_rows else row, width - col if self.flips_cols else col
            points.append(replace(gcp, row=row, col=col))
        transform = None if georef.transform is None else self._turn_transform(georef.transform, size)
        return replace(georef, transform=transform, gcps=tuple(points))

    def _turn_transform(self, transform: Affine, size: tuple[int, int]) -> Affine:
        a, b, c, d, e, f = transform[:6]
        if self.is_transposed:
            a, b, d, e = b, a, e, d
        if self.flips_rows:
            b, e, c, f = -b, -e, c + b * size[0], f + e * size[0]
        if self.flips_cols:
            a, d, c, f = -a, -d, c + a * size[1], f + d * size[1]
        return Affine(a, b, c, d, e, f)


_OF_EXIF = {
    "2": (False, False, True),
    "3": (False, True, True),
    "4": (False, True, False),
    "5": (True, False, False),
    "6": (True, False, True),
    "7": (True, True, True),
    "8": (True, True, False),
}
