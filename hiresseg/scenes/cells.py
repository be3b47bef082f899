"""A window put together from the cells of a lattice, so that the answer does not depend on the window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hiresseg.geometry import Window
from hiresseg.scenes.scene import Pixels, Valid


def assemble_window(
    window: Window,
    size: tuple[int, int],
    cell: tuple[int, int],
    fetch: Callable[[Window], tuple[Pixels, Valid]],
) -> tuple[Pixels, Valid]:
    """The pixels of a window, of which there is at least one.

    Args:
        window: must lie inside a picture of `size`.
        size: rows and columns of the picture.
        cell: rows and columns of a cell.
        fetch: gives the pixels of one cell, cut at the edge of the picture.
    """
    extent = Window(0, 0, *size)
    rows, cols = cell
    pixels: Pixels | None = None
    valid = np.ones((window.height, window.width), np.bool_)
    for top in range(window.top // rows * rows, window.bottom, rows):
        for left in range(window.left // cols * cols, window.right, cols):
            whole = Window(top, left, rows, cols).intersect(extent)
            found, counts = fetch(whole)
            if whole == window:
                return found, counts
            if pixels is None:
                pixels = np.empty((len(found), window.height, window.width), found.dtype)
            part = whole.intersect(window)
            to, source = part.slices_in(window), part.slices_in(whole)
            pixels[:, *to] = found[:, *source]
            if counts is not None:
                valid[to] = counts[source]
    assert pixels is not None
    return pixels, None if valid.all() else valid
