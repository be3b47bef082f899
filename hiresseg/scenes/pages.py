"""Decoded pixels of one level, kept until all who announced that they would read them have done so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import product
from pathlib import Path

import numpy as np

from hiresseg.geometry import Window
from hiresseg.scenes.layout import PageLayout
from hiresseg.scenes.scene import Pixels, Scene, Valid
from hiresseg.scenes.shelf import Page, Shelf, Shelved

PageIndex = tuple[int, int]
GroupIndex = tuple[int, int]
Decoding = Future[dict[PageIndex, Page]]

_MIN_GROUP_BYTES = 1 << 20


class Pages:
    """A bounded cache of decoded pixels of one level of a scene, for several threads.

    Readers announce their windows with `expect`. A page stays until as many reads as were announced for it
    have had it: in memory up to `memory_bytes`, beyond that in a scratch file, and without one it is decoded
    again. So memory is bounded, the answer never depends on it, and nothing is decoded twice while there is
    room. A read that was not announced works too, and keeps nothing; it counts as one of those that were.

    Args:
        scene: where pixels come from.
        level: pyramid level of all windows.
        memory_bytes: what kept pages may take. A thread that decodes holds `group_bytes` on top of them.
        scratch: folder for a temporary file; None for none.
    """

    def __init__(self, scene: Scene, level: int, *, memory_bytes: int, scratch: Path | None) -> None:
        self._scene, self._level = scene, level
        height, width = scene.size_at(level)
        pixel_bytes = scene.num_bands * scene.dtype.itemsize
        self._extent = Window(0, 0, height, width)
        self._layout = PageLayout.plan(
            (height, width), scene.decode_unit(level), pixel_bytes, max(_MIN_GROUP_BYTES, memory_bytes // 4)
        )
        rows, cols = self._layout.rows, self._layout.cols
        self._lock = threading.Lock()
        self._expected = np.zeros((rows.num_pages, cols.num_pages), np.int32)
        self._shelf = Shelf(memory_bytes, scratch, rows.page * cols.page, scene)
        self._kept: dict[PageIndex, Shelved] = {}
        self._decoding: dict[GroupIndex, Decoding] = {}
        self.group_bytes = self._layout.group_shape[0] * self._layout.group_shape[1] * (pixel_bytes + 1)
        """What a thread holds while it decodes, on top of the kept pages."""
        self.row_bytes = self._layout.group_shape[0] * width * (pixel_bytes + 1)
        """What a row of groups across the scene takes, in memory or put aside."""
        self.on_decode: Callable[[Window, Pixels, Valid], None] | None = None
        """Called with every page that is decoded, in the thread that does it; may not change the arrays."""

    @property
    def peak_bytes(self) -> int:
        """Most memory that pixels took at once: kept pages and groups being decoded."""
        return self._shelf.peak_bytes

    @property
    def bytes_spilled(self) -> int:
        """Bytes written to the scratch file so far."""
        return self._shelf.bytes_spilled

    def expect(self, window: Window) -> None:
        """Announce one coming `read` of the same window, which may reach outside the level."""
        rows, cols = self._layout.pages_over(window.intersect(self._extent))
        with self._lock:
            self._expected[rows.start : rows.stop, cols.start : cols.stop] += 1

    def read(self, window: Window) -> tuple[Pixels, Valid]:
        """The part of a window that lies inside the level; new arrays, which the caller may change.

        Raises:
            SceneError: if a source block cannot be decoded.
            StoreError: if the scratch file cannot be written or read.
        """
        inside = window.intersect(self._extent)
        pixels = np.empty((self._scene.num_bands, inside.height, inside.width), self._scene.dtype)
        valid: Valid = None
        for group in self._layout.groups_over(inside):
            for page in self._take(group, inside):
                part = page.window.intersect(inside)
                to, source = part.slices_in(inside), part.slices_in(page.window)
                pixels[:, *to] = 0 if page.pixels is None else page.pixels[:, *source]
                if page.pixels is None or page.valid is not None:
                    valid = np.ones(pixels.shape[1:], np.bool_) if valid is None else valid
                    valid[to] = False if page.valid is None else page.valid[source]
        return pixels, None if valid is None or valid.all() else valid

    def close(self) -> None:
        """Forget all pages and announcements, and let go of the scratch file."""
        with self._lock:
            kept, self._kept = self._kept, {}
            self._expected[:] = 0
        for shelved in kept.values():
            self._shelf.drop(shelved)
        self._shelf.close()

    def _take(self, group: GroupIndex, window: Window) -> list[Page]:
        """The pages of a group that meet a window, each counted as read once."""
        indices = list(product(*self._layout.pages_over(window.intersect(self._layout.group_window(group)))))
        decoding, is_mine = None, False
        with self._lock:
            found = {index: self._kept[index] for index in indices if index in self._kept}
            for index in indices:
                self._count_read(index)
            if len(found) < len(indices):
                is_mine = group not in self._decoding
                decoding = self._decoding.setdefault(group, Future())
        pages = []
        # first of all, since others may already wait for it
        if decoding is not None:
            fresh = self._decode(group, decoding) if is_mine else decoding.result()
            pages = [fresh[index] for index in indices if index not in found]
        return pages + [self._shelf.fetch(shelved) for shelved in found.values()]

    def _count_read(self, index: PageIndex) -> None:
        """One announced read less; pins the page for it, and drops it after the last."""
        self._expected[index] -= self._expected[index] > 0
        shelved = self._kept.get(index)
        if shelved is not None:
            self._shelf.pin(shelved)
            if not self._expected[index]:
                self._shelf.drop(self._kept.pop(index))

    def _decode(self, group: GroupIndex, decoding: Decoding) -> dict[PageIndex, Page]:
        self._shelf.hold(self.group_bytes)
        try:
            pages = self._decode_pages(group)
            # those who wait go on while this thread puts away what is still expected
            decoding.set_result(pages)
            for index, page in pages.items():
                self._keep(index, page)
        except BaseException as error:
            if not decoding.done():
                decoding.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._decoding[group]
            self._shelf.hold(-self.group_bytes)
        return pages

    def _decode_pages(self, group: GroupIndex) -> dict[PageIndex, Page]:
        window = self._layout.group_window(group)
        pixels, valid = self._scene.read(window, self._level)
        pages = {}
        for index in product(*self._layout.pages_over(window)):
            part = self._layout.page_window(index)
            rows, cols = part.slices_in(window)
            cut = pixels[:, rows, cols], None if valid is None else valid[rows, cols]
            pages[index] = Page.of(part, *cut)
            if self.on_decode:
                self.on_decode(part, *cut)
        return pages

    def _keep(self, index: PageIndex, page: Page) -> None:
        with self._lock:
            if not self._expected[index] or index in self._kept:
                return
        shelved = self._shelf.put(page)
        if shelved is None:
            return
        with self._lock:
            if self._expected[index]:
                self._kept[index] = shelved
                return
        # all who expected it were served while it was put away
        self._shelf.drop(shelved)
