"""Pixels as a file stores them, decoded in the way that its format allows."""

from __future__ import annotations

import threading

import numpy as np
from jaxtyping import Bool
from rasterio.io import DatasetReader
from rasterio.windows import Window as GdalWindow

from hiresseg.geometry import Window
from hiresseg.scenes.cells import assemble_window
from hiresseg.scenes.files import SEQUENTIAL
from hiresseg.scenes.handles import Handles
from hiresseg.scenes.header import Header, Stored
from hiresseg.scenes.scene import Pixels, Valid
from hiresseg.scenes.spool import Spool
from hiresseg.scenes.validity import merge_validity


class Reader:
    """Decodes windows of what one file stores, for several threads.

    TIFF and JPEG 2000 decode any window. PNG and JPEG decode from the top only, so they are put aside once.
    A VRT resamples its sources relative to the window that it is asked for, so it is always asked for the
    same ones.
    """

    def __init__(self, name: str, handles: Handles, header: Header) -> None:
        self._handles, self._header = handles, header
        self._counting = threading.Lock()
        self.bytes_decoded = 0
        """Bytes of pixels in all blocks that were read so far."""
        self._full = header.stored[0]
        size = header.orientation.turn_size((self._full.height, self._full.width))
        self._spool: Spool | None = None
        if handles.driver in SEQUENTIAL:
            self._spool = Spool(
                name, size, len(header.band_names), header.dtype, lambda rows: self._decode(self._full, rows)
            )

    def read(self, stored: Stored, window: Window) -> tuple[Pixels, Valid]:
        """Pixels and validity of a window inside a stored resolution, of at least one pixel.

        Raises:
            SceneError: if it cannot be decoded.
        """
        if self._spool and stored.overview is None:
            turn = self._header.orientation
            pixels, valid = self._spool.read(turn.stored_window(window, (stored.height, stored.width)))
            self._count(stored, window)
            return turn.turn(pixels), None if valid is None else turn.turn(valid)
        if self._handles.driver == "VRT":
            size = stored.height, stored.width
            return assemble_window(window, size, stored.block, lambda cell: self._decode(stored, cell))
        return self._decode(stored, window)

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        self._handles.close()
        if self._spool:
            self._spool.close()

    def _decode(self, stored: Stored, window: Window) -> tuple[Pixels, Valid]:
        doing = (
            f"decoding rows {window.top} to {window.bottom}, columns {window.left} to {window.right} "
            f"of level {stored.level}"
        )
        with self._handles.lend(stored.overview, doing=doing) as dataset:
            return self._read_valid(dataset, stored, window)

    def _read_valid(self, dataset: DatasetReader, stored: Stored, window: Window) -> tuple[Pixels, Valid]:
        at = GdalWindow(window.left, window.top, window.width, window.height)
        rule, bands = self._header.rule, self._header.bands
        valid: Bool[np.ndarray, "h w"] | None = None
        if rule.mask_bands:
            valid = (dataset.read_masks(rule.mask_bands, window=at) != 0).all(axis=0)
        if rule.alpha and self._header.is_planar:
            valid = merge_validity(valid, dataset.read(rule.alpha, window=at) != 0)
        if valid is not None and not valid.any():
            shape = len(self._header.band_names), window.height, window.width
            return np.zeros(shape, self._header.dtype), valid
        if rule.alpha and not self._header.is_planar:
            # one decode gives both: alpha lies in the same blocks
            pixels = dataset.read([*bands, rule.alpha], window=at)
            valid = merge_validity(valid, pixels[-1] != 0)
            pixels = pixels[:-1]
        else:
            pixels = dataset.read(bands, window=at)
        if not self._spool or stored.overview is not None:
            self._count(stored, window)
        valid = merge_validity(valid, rule.of_pixels(pixels))
        if self._header.palette:
            pixels, opaque = self._header.palette.expand(pixels[0])
            valid = merge_validity(valid, opaque)
        pixels = pixels.astype(self._header.dtype, copy=False)
        if valid is not None:
            # what lies beneath a mask must not depend on whether a window was skipped or read
            np.copyto(pixels, 0, where=~valid)
        return pixels, valid

    def _count(self, stored: Stored, window: Window) -> None:
        rows, cols = stored.block
        top, left = window.top // rows * rows, window.left // cols * cols
        bottom = min(-(-window.bottom // rows) * rows, stored.height)
        right = min(-(-window.right // cols) * cols, stored.width)
        pixel_bytes = len(self._header.band_names) * self._header.dtype.itemsize
        with self._counting:
            self.bytes_decoded += (bottom - top) * (right - left) * pixel_bytes
