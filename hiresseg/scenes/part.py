"""A rectangle of a scene as a scene of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.scenes.scene import Pixels, Scene, Valid

ALIGNED_PX = 256
"""A part begins at a multiple of this, so that its coarser levels are parts of those of the whole."""


class PartOfScene:
    """What lies in a window of another scene.

    Args:
        whole: the scene; stays open as long as this one is read, and is closed with it.
        window: at level 0, inside the scene; begins at multiples of `ALIGNED_PX`.

    Raises:
        SceneError: if the window is empty, not inside the scene, or not aligned.
    """

    def __init__(self, whole: Scene, window: Window) -> None:
        inside = window.intersect(Window(0, 0, whole.height, whole.width))
        if inside != window or not window.num_pixels or window.top % ALIGNED_PX or window.left % ALIGNED_PX:
            raise SceneError(
                f"{whole.uri}: {window} is no part of {whole.height} x {whole.width} pixels that begins at "
                f"multiples of {ALIGNED_PX}; choose another"
            )
        self._whole, self._window = whole, window
        self.uri = f"{whole.uri}#rows={window.top}:{window.bottom},cols={window.left}:{window.right}"
        self.height, self.width = window.height, window.width
        self.num_bands, self.dtype = whole.num_bands, whole.dtype
        self.band_names, self.has_gaps = whole.band_names, whole.has_gaps
        self.georef = whole.georef.of(window)

    @property
    def bytes_decoded(self) -> int:
        """What the whole scene has decoded so far."""
        return self._whole.bytes_decoded

    def size_at(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level."""
        return -(-self.height >> level), -(-self.width >> level)

    def stored_level(self, level: int) -> int:
        """The level that the whole scene decodes."""
        return self._whole.stored_level(level)

    def decode_unit(self, level: int) -> tuple[int, int]:
        """What the whole scene decodes at once."""
        rows, cols = self._whole.decode_unit(level)
        height, width = self.size_at(level)
        return min(rows, height), min(cols, width)

    def read(self, window: Window, level: int = 0) -> tuple[Pixels, Valid]:
        """Pixels and validity of a window; see `Scene.read`.

        Raises:
            SceneError: if the window does not lie inside the part, or the level is too coarse for it.
        """
        if window != window.intersect(Window(0, 0, *self.size_at(level))):
            raise SceneError(f"{self.uri}: {window} is not inside level {level}; clip it")
        if np.gcd(self._window.top, self._window.left) % (1 << level):
            raise SceneError(f"{self.uri}: begins between two pixels of level {level}; read a finer one")
        top, left = self._window.top >> level, self._window.left >> level
        moved = Window(window.top + top, window.left + left, window.height, window.width)
        return self._whole.read(moved, level)

    def fingerprint(self) -> dict[str, Any]:
        """That of the whole, and where the part lies."""
        where = self._window
        return {**self._whole.fingerprint(), "part": [where.top, where.left, where.height, where.width]}

    def close(self) -> None:
        """Close the whole scene."""
        self._whole.close()
