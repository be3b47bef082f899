"""Where things are: rectangles of pixels, the lattice of tiles, the map. Integers and affine, nothing else.

The lattice of a stage, along one axis (tile 6, overlap 2, so stride 4; a scene of 15 pixels)::

    pixel   0 1 2 3 4 5 6 7 8 9 . . . . 14
    tile 0  o o o o o o
    tile 1          o o o o o o
    tile 2                  o o o o o o
    tile 3                          o o o . . .      runs over the edge: the scene is padded, never shifted
    cell    0 0 0 0 1 1 1 1 2 2 2 2 3 3 3

Tile `i` begins at `i * stride`. Cell `i` is the stride-long piece that begins there too: its first
`overlap_px` pixels also lie in tile `i - 1`, the others in tile `i` alone. A cell is what one step of the
blend writes, and a block is a rectangle of cells, so a pixel belongs to one cell, one block and one shard.
Where a scene ends inside the last overlap there is one more cell than there are tiles: it is fed by the
tile before it alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from affine import Affine


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels at one level; may reach outside the scene, and may be empty."""

    top: int
    """First row."""
    left: int
    """First column."""
    height: int
    """Number of rows, at least 0."""
    width: int
    """Number of columns, at least 0."""

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ValueError(f"a window cannot have a negative size, got {self.height} x {self.width}")

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The column after the last."""
        return self.left + self.width

    @property
    def num_pixels(self) -> int:
        """Pixels inside."""
        return self.height * self.width

    def intersect(self, other: Window) -> Window:
        """The common part; empty (height or width 0) where there is none."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        height = max(0, min(self.bottom, other.bottom) - top)
        width = max(0, min(self.right, other.right) - left)
        return Window(top, left, height, width)

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """The rows and columns of this window within an array that holds `outer`."""
        top, left = self.top - outer.top, self.left - outer.left
        return slice(top, top + self.height), slice(left, left + self.width)

    def coarsened(self, factor: int) -> Window:
        """The smallest window of a `factor` times coarser grid that covers this one."""
        top, left = self.top // factor, self.left // factor
        return Window(top, left, -(-self.bottom // factor) - top, -(-self.right // factor) - left)


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of cells: what one task computes, writes and restarts."""

    row: int
    """Row of the block among the blocks of its stage."""
    col: int
    """Column of the block among the blocks of its stage."""
    cell_rows: tuple[int, int]
    """First cell row and the one after the last."""
    cell_cols: tuple[int, int]
    """First cell column and the one after the last."""
    window: Window
    """The pixels it writes, clipped to the scene."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The lattice of square tiles over an image of `height` x `width`; neighbours share `overlap_px`."""

    tile_px: int
    overlap_px: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_px <= self.tile_px // 2:
            raise ValueError(
                f"overlap_px must lie between 0 and half a tile ({self.tile_px // 2}), got {self.overlap_px}"
            )
        if self.stride_px % 16:
            raise ValueError(
                f"tile_px - overlap_px must be a multiple of 16, since it is the size of an output tile; "
                f"got {self.tile_px} - {self.overlap_px} = {self.stride_px}"
            )
        if self.height < 1 or self.width < 1:
            raise ValueError(f"an image has at least one pixel, got {self.height} x {self.width}")

    @property
    def stride_px(self) -> int:
        """Distance between the origins of neighbouring tiles."""
        return self.tile_px - self.overlap_px

    @property
    def rows(self) -> int:
        """Number of tile rows."""
        return max(1, math.ceil((self.height - self.overlap_px) / self.stride_px))

    @property
    def cols(self) -> int:
        """Number of tile columns."""
        return max(1, math.ceil((self.width - self.overlap_px) / self.stride_px))

    @property
    def cell_rows(self) -> int:
        """Number of cell rows: `rows`, or one more where the scene ends inside the last overlap."""
        return math.ceil(self.height / self.stride_px)

    @property
    def cell_cols(self) -> int:
        """Number of cell columns: `cols`, or one more where the scene ends inside the last overlap."""
        return math.ceil(self.width / self.stride_px)

    def tile(self, row: int, col: int) -> Window:
        """The pixels that tile (row, col) sees; runs over the scene's lower and right edge."""
        return Window(row * self.stride_px, col * self.stride_px, self.tile_px, self.tile_px)

    def has_tile(self, row: int, col: int) -> bool:
        """Whether (row, col) is a tile of the lattice."""
        return 0 <= row < self.rows and 0 <= col < self.cols

    def chunk_px(self, near_px: int = 512) -> int:
        """Edge of the output's chunks: near `near_px`, a whole number of cells or a whole part of one.

        A chunk is also a tile of the final GeoTIFF, so its edge is a multiple of 16.
        """
        stride = self.stride_px
        if stride <= near_px:
            return stride * max(1, round(near_px / stride))
        parts = [n for n in range(1, stride // 16 + 1) if stride % n == 0 and (stride // n) % 16 == 0]
        # a stride that divides badly is better left whole than cut into crumbs
        edges = [stride // n for n in parts if stride // n >= near_px // 2]
        return min(edges, key=lambda edge: max(edge / near_px, near_px / edge))

    @property
    def block_unit_px(self) -> int:
        """What the edge of a block is a multiple of: whole cells, and whole chunks."""
        return math.lcm(self.stride_px, self.chunk_px())

    def block_near(self, block_px: int) -> int:
        """The largest edge of a block that is not above `block_px`, and at least one unit."""
        return max(1, block_px // self.block_unit_px) * self.block_unit_px

    def blocks(self, block_px: int) -> list[Block]:
        """All blocks in row-major order, each of `block_px` x `block_px` (less at the lower and right edge).

        Raises:
            ValueError: if `block_px` is no multiple of both the stride and the chunk.
        """
        if block_px < 1 or block_px % self.block_unit_px:
            raise ValueError(f"block_px must be a multiple of {self.block_unit_px}, got {block_px}")
        step = block_px // self.stride_px
        return [
            self._block(row, col, step)
            for row in range(math.ceil(self.cell_rows / step))
            for col in range(math.ceil(self.cell_cols / step))
        ]

    def _block(self, row: int, col: int, step: int) -> Block:
        rows = row * step, min((row + 1) * step, self.cell_rows)
        cols = col * step, min((col + 1) * step, self.cell_cols)
        top, left = rows[0] * self.stride_px, cols[0] * self.stride_px
        bottom, right = min(rows[1] * self.stride_px, self.height), min(cols[1] * self.stride_px, self.width)
        return Block(row, col, rows, cols, Window(top, left, bottom - top, right - left))

    def tiles_of(self, block: Block) -> Iterator[tuple[int, int]]:
        """Indices of the tiles whose cells lie in `block`, in lattice order."""
        for row in range(block.cell_rows[0], min(block.cell_rows[1], self.rows)):
            for col in range(block.cell_cols[0], min(block.cell_cols[1], self.cols)):
                yield row, col


@dataclass(frozen=True, slots=True)
class Gcp:
    """A ground control point: pixel position and map position."""

    row: float
    col: float
    x: float
    y: float
    z: float
    id: str
    info: str


@dataclass(frozen=True, slots=True)
class Georef:
    """Where a grid of pixels lies on the map; every part may be absent."""

    crs_wkt: str | None = None
    """Coordinate reference system as WKT, of the transform or of the control points."""
    transform: Affine | None = None
    """From (column, row) of a pixel's corner to map units; None where the scene has none."""
    gcps: tuple[Gcp, ...] = ()
    """Ground control points, where there is no transform."""
    is_point: bool = False
    """Whether the file says that a pixel's value is that of a point (AREA_OR_POINT=Point)."""
    metre_per_unit: float | None = None
    """Metres in one map unit; None for degrees, or without a CRS."""
    tags: tuple[tuple[int, int, int, bytes], ...] = ()
    """The scene's own TIFF fields that say so: code, type, number of values, values (little-endian).

    They are believed only where they read back as what is said above."""

    def at_level(self, level: int) -> Georef:
        """The same place on a grid that is 2 ** level times coarser."""
        if self.transform is None or level == 0:
            return self
        a, b, c, d, e, f = self.transform[:6]
        edge = 2.0**level
        coarse = Affine(a * edge, b * edge, c, d * edge, e * edge, f)
        return replace(self, transform=coarse)

    def of(self, window: Window) -> Georef:
        """The georeference of a part of the grid."""
        if self.transform is None:
            return self
        a, b, c, d, e, f = self.transform[:6]
        left, top = window.left, window.top
        moved = Affine(a, b, a * left + b * top + c, d, e, d * left + e * top + f)
        return replace(self, transform=moved)

    @property
    def pixel_size_m(self) -> float | None:
        """Edge of a pixel in metres (the square root of its area), or None where it is unknown."""
        if self.transform is None or self.metre_per_unit is None:
            return None
        return math.sqrt(abs(self.transform.determinant)) * self.metre_per_unit

    @property
    def pixel_area_m2(self) -> float | None:
        """Area of a pixel on the map, or None where it is unknown."""
        size = self.pixel_size_m
        return None if size is None else size * size
