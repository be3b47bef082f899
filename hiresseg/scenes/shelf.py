"""Where decoded pages are kept: in memory up to a bound, beyond it in a scratch file."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hiresseg.geometry import Window
from hiresseg.pool import Pool
from hiresseg.scenes.scene import Pixels, Scene, Valid
from hiresseg.scratch import ScratchFile


@dataclass(frozen=True, slots=True)
class Page:
    """Decoded pixels of a rectangle of a level."""

    window: Window
    pixels: Pixels | None
    """None where no pixel is valid."""
    valid: Valid
    """None where all pixels are valid, or none is."""

    @classmethod
    def of(cls, window: Window, pixels: Pixels, valid: Valid) -> Page:
        """A page with no more than is needed to tell its pixels."""
        if valid is None or valid.all():
            return cls(window, pixels, None)
        return cls(window, pixels, valid) if valid.any() else cls(window, None, None)

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return sum(array.nbytes for array in (self.pixels, self.valid) if array is not None)

    def copied_to(self, pool: Pool) -> Page:
        """The page in memory of its own: keeping it must not keep the larger array that it was cut from."""
        pixels, valid = (None if a is None else _copy_to(pool, a) for a in (self.pixels, self.valid))
        return Page(self.window, pixels, valid)


@dataclass(slots=True)
class Shelved:
    """A page that is kept."""

    window: Window
    page: Page | None
    """None where it lies in the scratch file."""
    num_bytes: int = 0
    """Memory that it takes."""
    slot: int = -1
    has_mask: bool = False
    readers: int = 0
    """Threads that are about to fetch it: its slot may not be used again before they have."""
    is_dropped: bool = False


class Shelf:
    """Keeps pages, for several threads.

    Args:
        memory_bytes: what pages in memory may take together.
        scratch: folder for the scratch file; None for none.
        page_px: pixels of the largest page.
        scene: whose pages they are.
    """

    def __init__(self, memory_bytes: int, scratch: Path | None, page_px: int, scene: Scene) -> None:
        self._memory_bytes = memory_bytes
        self._num_bands, self._dtype = scene.num_bands, scene.dtype
        slot_bytes = page_px * (scene.num_bands * scene.dtype.itemsize + 1)
        self._scratch = ScratchFile(scratch, slot_bytes) if scratch else None
        self._pool = Pool()
        self._lock = threading.Lock()
        self._kept_bytes = self._held_bytes = 0
        self.peak_bytes = 0
        """Most memory that was taken at once, by kept pages and by what was announced with `hold`."""
        self.bytes_spilled = 0
        """Bytes written to the scratch file so far."""

    def put(self, page: Page) -> Shelved | None:
        """Keep a page; None where there is no room for it.

        Raises:
            StoreError: if the scratch file cannot be written.
        """
        num_bytes = page.num_bytes
        with self._lock:
            has_room = self._kept_bytes + num_bytes <= self._memory_bytes
            self._kept_bytes += num_bytes if has_room else 0
            self._note_peak()
        if has_room:
            return Shelved(page.window, page.copied_to(self._pool), num_bytes=num_bytes)
        return None if self._scratch is None else self._spill(page, self._scratch)

    def pin(self, shelved: Shelved) -> None:
        """Announce a `fetch`, so that a `drop` in between does no harm."""
        with self._lock:
            shelved.readers += 1

    def fetch(self, shelved: Shelved) -> Page:
        """The page; must have been pinned.

        Raises:
            StoreError: if the scratch file cannot be read.
        """
        try:
            return shelved.page or self._unspill(shelved)
        finally:
            with self._lock:
                shelved.readers -= 1
                self._free_if_last(shelved)

    def drop(self, shelved: Shelved) -> None:
        """Keep a page no longer; once only."""
        with self._lock:
            shelved.is_dropped = True
            self._kept_bytes -= shelved.num_bytes
            self._free_if_last(shelved)

    def hold(self, num_bytes: int) -> None:
        """Count memory that is taken elsewhere; negative when it is given back."""
        with self._lock:
            self._held_bytes += num_bytes
            self._note_peak()

    def close(self) -> None:
        """Let go of the scratch file; what lies in it is lost."""
        if self._scratch:
            self._scratch.close()

    def _spill(self, page: Page, scratch: ScratchFile) -> Shelved:
        arrays = [np.ascontiguousarray(a) for a in (page.pixels, page.valid) if a is not None]
        slot = scratch.take_slot()
        scratch.write(slot, b"".join(a.data.cast("B") for a in arrays))
        with self._lock:
            self.bytes_spilled += page.num_bytes
        return Shelved(page.window, None, slot=slot, has_mask=page.valid is not None)

    def _unspill(self, shelved: Shelved) -> Page:
        assert self._scratch is not None
        height, width = shelved.window.height, shelved.window.width
        pixel_bytes = self._num_bands * height * width * self._dtype.itemsize
        content = np.empty(pixel_bytes + height * width * shelved.has_mask, np.uint8)
        self._scratch.read_into(shelved.slot, content.data)
        pixels = content[:pixel_bytes].view(self._dtype).reshape(self._num_bands, height, width)
        valid = content[pixel_bytes:].view(np.bool_).reshape(height, width) if shelved.has_mask else None
        return Page(shelved.window, pixels, valid)

    def _free_if_last(self, shelved: Shelved) -> None:
        if self._scratch and shelved.page is None and shelved.is_dropped and not shelved.readers:
            self._scratch.free_slot(shelved.slot)

    def _note_peak(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._kept_bytes + self._held_bytes)


def _copy_to(pool: Pool, array: np.ndarray) -> np.ndarray:
    own: np.ndarray = pool.take(array.nbytes).view(array.dtype).reshape(array.shape)
    np.copyto(own, array)
    return own
