"""How a level is cut into pages to keep, and into groups of pages that decode at once.

Along one axis, with source blocks of 2 pixels, groups of 4 and pages of 3 (real ones: some hundreds)::

    pixel    0 1 2 3 4 5 6 7 8 9
    block    a a b b c c d d e e
    group    0 0 0 0 1 1 1 1 2 2     a whole number of blocks, so that none is decoded twice
    page     0 0 0 1 2 2 2 3 4 4     never across groups
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hiresseg.geometry import Window

MIN_PAGE_PX = 512
MAX_PAGE_PX = 1024


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a level."""

    size: int
    """Pixels in all."""
    group: int
    """Pixels that decode at once."""
    page: int
    """Pixels of a page."""

    @property
    def pages_per_group(self) -> int:
        """Pages in a group; less in the last one."""
        return math.ceil(self.group / self.page)

    @property
    def num_pages(self) -> int:
        """Pages in all, counting those that the last group lacks."""
        return math.ceil(self.size / self.group) * self.pages_per_group

    def groups(self, start: int, stop: int) -> range:
        """Indices of the groups that meet the pixels `start` to `stop`, of which there is at least one."""
        return range(start // self.group, (stop - 1) // self.group + 1)

    def pages(self, start: int, stop: int) -> range:
        """Indices of the pages that meet the pixels `start` to `stop`, of which there is at least one."""
        return range(self._page_at(start), self._page_at(stop - 1) + 1)

    def group_span(self, group: int) -> tuple[int, int]:
        """First pixel of a group and the one after its last."""
        return group * self.group, min((group + 1) * self.group, self.size)

    def page_span(self, page: int) -> tuple[int, int]:
        """First pixel of a page and the one after its last."""
        group, within = divmod(page, self.pages_per_group)
        start = group * self.group + within * self.page
        return start, min(start + self.page, self.group_span(group)[1])

    def _page_at(self, pixel: int) -> int:
        group, within = divmod(pixel, self.group)
        return group * self.pages_per_group + within // self.page


@dataclass(frozen=True, slots=True)
class PageLayout:
    """Both axes of a level."""

    rows: Axis
    cols: Axis

    @classmethod
    def plan(
        cls, size: tuple[int, int], unit: tuple[int, int], pixel_bytes: int, group_bytes: int
    ) -> PageLayout:
        """Pages of about 512 to 1024 pixels in groups of whole units.

        A group takes `group_bytes` or less where several units would make it up; one unit may take more.
        """
        num_cols = _units_to(MIN_PAGE_PX, unit[1], size[1])
        line_bytes = unit[0] * min(unit[1] * num_cols, size[1]) * pixel_bytes
        # long strips: fewer of them at once, so that a group stays small
        num_rows = max(1, min(_units_to(MIN_PAGE_PX, unit[0], size[0]), group_bytes // line_bytes))
        return cls(_cut_axis(size[0], unit[0] * num_rows), _cut_axis(size[1], unit[1] * num_cols))

    @property
    def group_shape(self) -> tuple[int, int]:
        """Rows and columns of the largest group."""
        return min(self.rows.group, self.rows.size), min(self.cols.group, self.cols.size)

    def group_window(self, group: tuple[int, int]) -> Window:
        """The pixels of a group."""
        return _window(self.rows.group_span(group[0]), self.cols.group_span(group[1]))

    def page_window(self, page: tuple[int, int]) -> Window:
        """The pixels of a page."""
        return _window(self.rows.page_span(page[0]), self.cols.page_span(page[1]))

    def groups_over(self, window: Window) -> Iterator[tuple[int, int]]:
        """The groups that meet a window inside the level, in row-major order."""
        if window.num_pixels:
            for row in self.rows.groups(window.top, window.bottom):
                for col in self.cols.groups(window.left, window.right):
                    yield row, col

    def pages_over(self, window: Window) -> tuple[range, range]:
        """Rows and columns of the pages that meet a window inside the level."""
        if not window.num_pixels:
            return range(0), range(0)
        return self.rows.pages(window.top, window.bottom), self.cols.pages(window.left, window.right)


def _units_to(wanted_px: int, unit_px: int, size_px: int) -> int:
    return math.ceil(min(wanted_px, size_px) / unit_px)


def _cut_axis(size_px: int, group_px: int) -> Axis:
    parts = math.ceil(min(group_px, size_px) / MAX_PAGE_PX)
    return Axis(size_px, group_px, math.ceil(min(group_px, size_px) / parts))


def _window(rows: tuple[int, int], cols: tuple[int, int]) -> Window:
    return Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0])
