"""What the rest of hiresseg knows of a scene."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Shaped

from hiresseg.geometry import Georef, Window

Pixels = Shaped[np.ndarray, "C h w"]
Valid = Bool[np.ndarray, "h w"] | None


@runtime_checkable
class Scene(Protocol):
    """Pixels of one image at every pyramid level, read by window; opens lazily and pickles as its address.

    Level `n` is the scene on a grid that is `2 ** n` times coarser. All methods may be called from several
    threads at once, and what a read returns does not depend on how the level is cut into windows.
    """

    uri: str
    """Where it lies."""
    height: int
    """Rows at level 0."""
    width: int
    """Columns at level 0."""
    num_bands: int
    """Bands that a read returns."""
    dtype: np.dtype
    """Sample type of what a read returns."""
    georef: Georef
    """Where level 0 lies on the map."""
    band_names: tuple[str, ...]
    """One name per band, in the order of a read."""
    has_gaps: bool
    """Whether there can be pixels that are not valid."""

    @property
    def bytes_decoded(self) -> int:
        """Bytes of source pixels that all threads have decoded so far, counted in whole source blocks."""
        ...

    def size_at(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level: those of level 0 divided by `2 ** level`, rounded up."""
        ...

    def stored_level(self, level: int) -> int:
        """The level whose pixels are decoded to answer a read at `level`: `level` itself or a finer one."""
        ...

    def decode_unit(self, level: int) -> tuple[int, int]:
        """Rows and columns, in pixels of `level`, of what decodes at once: a source block or a strip."""
        ...

    def read(self, window: Window, level: int = 0) -> tuple[Pixels, Valid]:
        """Pixels of a window.

        Args:
            window: in pixels of `level`; must lie inside the level.
            level: pyramid level.

        Returns:
            The bands in the scene's dtype, 0 where they are not valid, and which pixels are valid; None
            where all of them are.

        Raises:
            SceneError: if the window does not lie inside the level, or cannot be decoded.
        """
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What tells this state of the scene from another, as JSON-able values; cheap however large it is."""
        ...

    def close(self) -> None:
        """Let go of files; a later read opens them again."""
        ...
