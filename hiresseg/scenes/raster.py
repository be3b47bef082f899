"""Scenes of local files, tiled or striped or of one piece, with overviews or without, through GDAL."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.scenes.block_means import BlockMeans
from hiresseg.scenes.files import driver_of, local_file
from hiresseg.scenes.fingerprint import fingerprint_file, fingerprint_sources
from hiresseg.scenes.handles import Handles
from hiresseg.scenes.header import Stored, read_header
from hiresseg.scenes.reader import Reader
from hiresseg.scenes.refusals import refuse_files, refuse_source
from hiresseg.scenes.scene import Pixels, Valid
from hiresseg.scenes.vrt import read_vrt

PIECE_BYTES = 16 << 20
"""What a coarse level is made from at a time, where the file has no overview of it."""
_SUMS_BYTES = 16 << 20


class RasterScene:
    """A local TIFF, JPEG 2000, PNG, JPEG or VRT as a scene.

    Args:
        uri: path of the file.
        bands: indices of the bands to read, from 1, in any order; all but alpha if None.
        as_stored: whether numbers are read as they stand in the file, whatever its palette, masks and nodata
            value make of them: for label rasters.

    Raises:
        SceneError: if the file is missing, unreadable, or of a kind that is not taken.
    """

    def __init__(
        self, uri: str | Path, *, bands: Sequence[int] | None = None, as_stored: bool = False
    ) -> None:
        self._path = local_file(uri)
        refuse_files(self._path)
        driver = driver_of(self._path)
        vrt = read_vrt(self._path) if driver == "VRT" else None
        self._sources = vrt.sources if vrt else ()
        for source in self._sources:
            refuse_source(source)
        self._handles = Handles(self._path, driver, vrt.text if vrt else None)
        header = read_header(self._path, self._handles, bands)
        self._as_stored, self._header = as_stored, header.as_stored() if as_stored else header
        self.uri = str(self._path)
        self.height, self.width = self._header.stored[0].height, self._header.stored[0].width
        self.num_bands = len(self._header.band_names)
        self.dtype = self._header.dtype
        self.georef = self._header.georef
        self.band_names = self._header.band_names
        self.has_gaps = self._header.has_gaps
        self._reader = Reader(self.uri, self._handles, self._header)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.uri, self._header.bands, self._as_stored)

    def __repr__(self) -> str:
        return f"RasterScene({self.uri!r}, bands={self._header.bands})"

    @property
    def bytes_decoded(self) -> int:
        """Bytes of source pixels that all threads have decoded so far, counted in whole source blocks.

        Of a PNG or JPEG, which is decoded once and put aside, those that were read back.
        """
        return self._reader.bytes_decoded

    def size_at(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level: those of level 0 divided by `2 ** level`, rounded up."""
        return -(-self.height >> level), -(-self.width >> level)

    def stored_level(self, level: int) -> int:
        """The level whose pixels are decoded to answer a read at `level`."""
        return self._source_of(level).level

    def decode_unit(self, level: int) -> tuple[int, int]:
        """Rows and columns, in pixels of `level`, of what decodes at once."""
        stored = self._source_of(level)
        rows, cols = (_coarse_unit(edge, level - stored.level) for edge in stored.block)
        height, width = self.size_at(level)
        return min(rows, height), min(cols, width)

    def read(self, window: Window, level: int = 0) -> tuple[Pixels, Valid]:
        """Pixels and validity of a window; see `Scene.read`.

        Raises:
            SceneError: if the window does not lie inside the level, or cannot be decoded.
        """
        height, width = self.size_at(level)
        if level < 0 or window != window.intersect(Window(0, 0, height, width)):
            raise SceneError(
                f"{self.uri}: {window} is not inside level {level} of {height} x {width}; clip it"
            )
        if window.num_pixels == 0:
            return np.zeros((self.num_bands, window.height, window.width), self.dtype), None
        stored = self._source_of(level)
        if stored.level == level:
            return self._decode(stored, window)
        # 32 bits hold any size, so all coarser levels are the same one pixel
        return self._reduce(stored, window, min(level - stored.level, 32))

    def fingerprint(self) -> dict[str, Any]:
        """What tells this state of the file, and of what lies beside it, from another."""
        state = {**fingerprint_file(self._path), "bands": list(self._header.bands)}
        return {**state, "sources": fingerprint_sources(self._sources)} if self._sources else state

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        self._reader.close()

    def _source_of(self, level: int) -> Stored:
        return next(stored for stored in reversed(self._header.stored) if stored.level <= max(level, 0))

    def _reduce(self, stored: Stored, window: Window, shift: int) -> tuple[Pixels, Valid]:
        pixels = np.empty((self.num_bands, window.height, window.width), self.dtype)
        valid = np.ones((window.height, window.width), np.bool_)
        for part in self._bands_of(window, stored.level + shift):
            means = BlockMeans(self.num_bands, part, shift, self.dtype)
            fine = Window(*(edge << shift for edge in (part.top, part.left, part.height, part.width)))
            for piece in self._pieces_of(stored, fine.intersect(Window(0, 0, stored.height, stored.width))):
                means.add(piece, *self._decode(stored, piece))
            rows, _ = part.slices_in(window)
            pixels[:, rows], some = means.finish()
            valid[rows] = True if some is None else some
        return pixels, None if valid.all() else valid

    def _bands_of(self, window: Window, level: int) -> Iterator[Window]:
        """`window` cut into bands of whole decode units, of which sums take bounded memory."""
        unit, _ = self.decode_unit(level)
        rows = unit * max(1, _SUMS_BYTES // (unit * window.width * self.num_bands * 8))
        for top in range(window.top // rows * rows, window.bottom, rows):
            yield Window(top, window.left, rows, window.width).intersect(window)

    def _pieces_of(self, stored: Stored, window: Window) -> Iterator[Window]:
        """`window` cut along a lattice that is the same for all windows, so that sums run in one order."""
        rows, cols = stored.block
        cols *= max(1, 1024 // cols)
        line_bytes = rows * min(cols, stored.width) * self.num_bands * self.dtype.itemsize
        rows *= max(1, min(1024 // rows, PIECE_BYTES // line_bytes))
        for top in range(window.top // rows * rows, window.bottom, rows):
            for left in range(window.left // cols * cols, window.right, cols):
                yield Window(top, left, rows, cols).intersect(window)

    def _decode(self, stored: Stored, window: Window) -> tuple[Pixels, Valid]:
        return self._reader.read(stored, window)


def _coarse_unit(block_px: int, shift: int) -> int:
    exact = block_px // math.gcd(block_px, 1 << shift)
    # a block that no power of two divides meets the coarse grid too seldom: rather decode its edge twice
    return exact if exact <= 1024 else -(-block_px >> shift)


def _reopen(uri: str, bands: tuple[int, ...], as_stored: bool) -> RasterScene:
    return RasterScene(uri, bands=bands, as_stored=as_stored)
