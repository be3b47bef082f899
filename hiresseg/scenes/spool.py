"""PNG and JPEG decode from the top only: they are decoded once, line by line, and put aside in cells."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.scenes.cells import assemble_window
from hiresseg.scenes.scene import Pixels, Valid
from hiresseg.scratch import ScratchFile

BAND_BYTES = 4 << 20
"""What is decoded at a time, unless a single line takes more."""
CELL_PX = 512


class Spool:
    """A picture that is decoded from its top as far as it is asked for, each line once, for several threads.

    What is decoded lies in a scratch file without a name, so that any window can be read at any time, in
    memory that does not grow with the picture.

    Args:
        name: what the picture is called in errors.
        size: its rows and columns.
        num_bands: bands of what `decode` gives.
        dtype: sample type of what `decode` gives.
        decode: gives the pixels of whole lines; called for one band of lines after the other.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        num_bands: int,
        dtype: np.dtype,
        decode: Callable[[Window], tuple[Pixels, Valid]],
    ) -> None:
        self._name, self._size, self._decode = name, size, decode
        self._num_bands, self._dtype = num_bands, dtype
        self.cell = cell_of(size, num_bands * dtype.itemsize)
        self._slot_bytes = self.cell[0] * self.cell[1] * (num_bands * dtype.itemsize + 1)
        self._lock = threading.Lock()
        self._scratch: ScratchFile | None = None
        self._slots: list[int] = []
        self._decoded_rows = 0

    def read(self, window: Window) -> tuple[Pixels, Valid]:
        """Pixels and validity of a window inside the picture, of at least one pixel.

        Raises:
            SceneError: if a line cannot be decoded, or the disk has no room for the decoded picture.
            StoreError: if the scratch file cannot be written or read.
        """
        # lines that are there are read while another thread decodes
        if window.bottom > self._decoded_rows:
            with self._lock:
                while window.bottom > self._decoded_rows:
                    self._decode_band()
        return assemble_window(window, self._size, self.cell, self._fetch)

    def close(self) -> None:
        """Let go of the scratch file; a later read decodes again."""
        with self._lock:
            if self._scratch:
                self._scratch.close()
            self._scratch, self._slots, self._decoded_rows = None, [], 0

    def _decode_band(self) -> None:
        if self._scratch is None:
            self._scratch = ScratchFile(self._folder_with_room(), self._slot_bytes)
        extent = Window(0, 0, *self._size)
        rows, cols = self.cell
        band = Window(self._decoded_rows, 0, rows, self._size[1]).intersect(extent)
        pixels, valid = self._decode(band)
        slots = []
        for left in range(0, band.width, cols):
            part = np.ascontiguousarray(pixels[:, :, left : left + cols])
            mask = np.ones(part.shape[1:], np.bool_) if valid is None else valid[:, left : left + cols]
            slots.append(self._scratch.take_slot())
            self._scratch.write(slots[-1], part.tobytes() + mask.tobytes())
        self._slots += slots
        self._decoded_rows = band.bottom

    def _fetch(self, cell: Window) -> tuple[Pixels, Valid]:
        assert self._scratch is not None
        across = -(-self._size[1] // self.cell[1])
        slot = self._slots[cell.top // self.cell[0] * across + cell.left // self.cell[1]]
        pixel_bytes = self._num_bands * cell.num_pixels * self._dtype.itemsize
        content = np.empty(pixel_bytes + cell.num_pixels, np.uint8)
        self._scratch.read_into(slot, content.data)
        pixels = content[:pixel_bytes].view(self._dtype).reshape(self._num_bands, cell.height, cell.width)
        valid = content[pixel_bytes:].view(np.bool_).reshape(cell.height, cell.width)
        return pixels, None if valid.all() else valid

    def _folder_with_room(self) -> Path:
        folder = _scratch_folder()
        rows, cols = (-(-edge // part) for edge, part in zip(self._size, self.cell, strict=True))
        needed, free = rows * cols * self._slot_bytes, shutil.disk_usage(folder).free
        if needed > free:
            raise SceneError(
                f"{self._name}: can only be decoded as a whole, which takes {needed >> 20} MiB of disk, and "
                f"{folder} has {free >> 20} MiB; set TMPDIR to a larger disk, or convert the scene with "
                "`gdal_translate -of COG`"
            )
        return folder


def cell_of(size: tuple[int, int], pixel_bytes: int) -> tuple[int, int]:
    """Rows and columns of the cells in which a picture of `size` is put aside."""
    height, width = size
    rows = min(CELL_PX, max(1, BAND_BYTES // (width * (pixel_bytes + 1))))
    return min(rows, height), min(CELL_PX, width)


def _scratch_folder() -> Path:
    # where /tmp is a file system in memory, /var/tmp is none
    folder = Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 - the file gets no name
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
