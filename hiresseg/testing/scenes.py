"""A scene that is an array."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from numpy import ndarray

from hiresseg.errors import SceneError
from hiresseg.geometry import Georef, Window
from hiresseg.scenes.block_means import BlockMeans
from hiresseg.scenes.scene import Pixels, Valid


class ArrayScene:
    """A scene whose level 0 is an array.

    Args:
        pixels: all bands; not copied.
        valid: which pixels mean something; None for all.
        unit_px: edge of what counts as decoded at once.
    """

    def __init__(
        self,
        pixels: Shaped[ndarray, "C H W"],
        valid: Bool[ndarray, "H W"] | None = None,
        *,
        uri: str = "array",
        unit_px: int = 64,
        georef: Georef | None = None,
    ) -> None:
        self.uri, self.georef = uri, georef or Georef()
        self.num_bands, self.height, self.width = pixels.shape
        self.dtype = pixels.dtype
        self.band_names = tuple(f"band {n + 1}" for n in range(self.num_bands))
        self.has_gaps = valid is not None
        self.is_closed = False
        self._pixels = pixels if valid is None else np.where(valid, pixels, np.zeros((), pixels.dtype))
        self._valid, self._unit_px = valid, unit_px
        self._counting = threading.Lock()
        self._bytes_decoded = 0

    @property
    def bytes_decoded(self) -> int:
        """Bytes of level 0 under all windows read so far."""
        return self._bytes_decoded

    def size_at(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level."""
        return -(-self.height // 2**level), -(-self.width // 2**level)

    def stored_level(self, level: int) -> int:  # noqa: ARG002 - the protocol asks for it
        """Level 0: there is no other."""
        return 0

    def decode_unit(self, level: int) -> tuple[int, int]:
        """A square of `unit_px` pixels of level 0."""
        edge = max(1, self._unit_px >> level)
        height, width = self.size_at(level)
        return min(edge, height), min(edge, width)

    def read(self, window: Window, level: int = 0) -> tuple[Pixels, Valid]:
        """Pixels and validity of a window.

        Raises:
            SceneError: if it does not lie inside the level.
        """
        if window != window.intersect(Window(0, 0, *self.size_at(level))):
            raise SceneError(
                f"{self.uri}: {window} is not inside level {level} of {self.size_at(level)}; clip it"
            )
        factor = 2**level
        fine = Window(*(factor * edge for edge in (window.top, window.left, window.height, window.width)))
        fine = fine.intersect(Window(0, 0, self.height, self.width))
        rows, cols = slice(fine.top, fine.bottom), slice(fine.left, fine.right)
        pixels = self._pixels[:, rows, cols]
        valid = None if self._valid is None else self._valid[rows, cols]
        with self._counting:
            self._bytes_decoded += pixels.nbytes
        if level == 0:
            return pixels.copy(), None if valid is None or valid.all() else valid.copy()
        means = BlockMeans(self.num_bands, window, level, self.dtype)
        means.add(fine, pixels, valid)
        return means.finish()

    def fingerprint(self) -> dict[str, Any]:
        """The size and the sum."""
        return {"size": list(self._pixels.shape), "sum": float(self._pixels.astype(np.float64).sum())}

    def close(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True
