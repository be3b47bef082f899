"""Where things are, against counting pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hiresseg.geometry import Gcp, Georef, TileGrid, Window


@st.composite
def axes(draw):
    """(tile, overlap, size), with sizes that crowd around the lattice."""
    stride = 16 * draw(st.integers(1, 4))
    overlap = draw(st.one_of(st.just(0), st.just(stride), st.integers(0, stride)))
    near = draw(st.sampled_from([1, stride + overlap, draw(st.integers(1, 5)) * stride]))
    return stride + overlap, overlap, max(1, near + draw(st.integers(-2, 2)))


windows = st.builds(Window, st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 9), st.integers(0, 9))


def pixels_of(window):
    rows, cols = range(window.top, window.bottom), range(window.left, window.right)
    return {(row, col) for row in rows for col in cols}


@settings(max_examples=80, deadline=None)
@given(axes())
@example((48, 16, 48))
@example((48, 16, 49))
@example((48, 16, 32))
@example((48, 16, 33))
@example((48, 16, 79))
@example((48, 16, 81))
@example((32, 16, 1))
def test_tiles_cover_an_axis_and_none_is_superfluous(axis):
    tile, overlap, size = axis
    grid = TileGrid(tile, overlap, size, 1)
    covered = np.zeros(size, int)
    for row in range(grid.rows):
        window = grid.tile(row, 0)
        assert (window.height, window.width) == (tile, tile)
        assert window.top < size
        before = covered.copy()
        covered[window.top : window.bottom] += 1
    assert covered.min() >= 1
    assert covered.max() <= 2
    # without its last tile the lattice would not reach the end
    assert before[-1] == 0
    assert grid.cols == 1


@settings(max_examples=60, deadline=None)
@given(axes(), st.integers(0, 200))
def test_the_two_axes_do_not_know_each_other(axis, width):
    tile, overlap, size = axis
    tall, wide = TileGrid(tile, overlap, size, width + 1), TileGrid(tile, overlap, width + 1, size)
    assert (tall.rows, tall.cols) == (wide.cols, wide.rows)
    assert (tall.cell_rows, tall.cell_cols) == (wide.cell_cols, wide.cell_rows)


@settings(max_examples=40, deadline=None)
@given(axes(), axes(), st.integers(1, 2))
@example((48, 16, 1056), (48, 16, 1057), 1)
def test_every_pixel_has_one_block_and_every_tile_too(axis, other, units):
    tile, overlap, height = axis
    # three blocks and a little wide
    grid = TileGrid(tile, overlap, height, other[2] + 1500)
    edge = grid.block_unit_px * units
    blocks = grid.blocks(edge)
    count = np.zeros((grid.height, grid.width), np.uint8)
    tiles = []
    for block in blocks:
        inside = block.window.slices_in(Window(0, 0, grid.height, grid.width))
        count[inside] += 1
        assert block.window.num_pixels == count[inside].size > 0
        assert (block.window.top, block.window.left) == (block.row * edge, block.col * edge)
        assert block.window.top == block.cell_rows[0] * grid.stride_px
        assert block.window.left == block.cell_cols[0] * grid.stride_px
        mine = list(grid.tiles_of(block))
        assert mine == sorted(mine)
        tiles += mine
    assert (count == 1).all()
    assert [(block.row, block.col) for block in blocks] == sorted((block.row, block.col) for block in blocks)
    assert sorted(tiles) == [(row, col) for row in range(grid.rows) for col in range(grid.cols)]
    assert all(grid.has_tile(*tile) for tile in tiles)
    assert not grid.has_tile(grid.rows, 0)
    assert not grid.has_tile(0, -1)


@settings(max_examples=60, deadline=None)
@given(axes())
def test_a_cell_beyond_the_tiles_lies_in_the_last_overlap(axis):
    tile, overlap, size = axis
    grid = TileGrid(tile, overlap, size, 1)
    assert grid.cell_rows - grid.rows in {0, 1}
    if grid.cell_rows > grid.rows:
        assert grid.tile(grid.rows - 1, 0).bottom >= size
    assert (grid.cell_rows - 1) * grid.stride_px < size <= grid.cell_rows * grid.stride_px


@settings(max_examples=80, deadline=None)
@example(91, 0)
@given(st.integers(1, 160), st.integers(0, 4096))
def test_chunks_suit_both_the_lattice_and_a_tiff(sixteenths, overlap):
    stride = 16 * sixteenths
    grid = TileGrid(stride + min(overlap, stride), min(overlap, stride), 10, 10)
    chunk = grid.chunk_px()
    assert chunk % 16 == 0
    assert chunk % stride == 0 or stride % chunk == 0
    # a chunk of few pixels would cost more in its index than in its pixels
    assert 256 <= chunk <= max(768, stride)
    assert grid.block_unit_px % chunk == 0 == grid.block_unit_px % stride
    near = grid.block_near(3000)
    assert near % grid.block_unit_px == 0
    assert near <= max(3000, grid.block_unit_px)
    assert near + grid.block_unit_px > 3000


def test_a_lattice_in_numbers():
    grid = TileGrid(512, 64, 10_000, 512)
    assert (grid.stride_px, grid.rows, grid.cols) == (448, 23, 1)
    # the second cell is the last 64 columns, which the first tile alone covers
    assert (grid.cell_rows, grid.cell_cols) == (23, 2)
    assert grid.tile(22, 0) == Window(9856, 0, 512, 512)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((64, 33, 9, 9), "overlap_px must lie between 0 and half a tile \\(32\\), got 33"),
        ((64, -16, 9, 9), "overlap_px must lie between 0"),
        ((64, 8, 9, 9), "multiple of 16.* got 64 - 8 = 56"),
        ((64, 16, 0, 9), "at least one pixel, got 0 x 9"),
    ],
)
def test_refuses_a_lattice_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        TileGrid(*arguments)


def test_refuses_blocks_that_cut_chunks():
    grid = TileGrid(64, 16, 2000, 2000)
    assert grid.block_unit_px == 528
    for edge in (48, 0, 500):
        with pytest.raises(ValueError, match=f"multiple of 528, got {edge}"):
            grid.blocks(edge)


@settings(max_examples=100, deadline=None)
@given(windows, windows)
def test_windows_meet_where_their_pixels_do(one, other):
    common = one.intersect(other)
    assert pixels_of(common) == pixels_of(one) & pixels_of(other)
    assert pixels_of(common) == pixels_of(other.intersect(one))
    assert one.num_pixels == len(pixels_of(one))


@settings(max_examples=60, deadline=None)
@given(windows, st.sampled_from([1, 2, 4]))
def test_a_coarser_window_covers_and_no_more(window, factor):
    wanted = {(row // factor, col // factor) for row, col in pixels_of(window)}
    coarse = window.coarsened(factor)
    assert wanted <= pixels_of(coarse)
    if wanted:
        assert pixels_of(coarse) == wanted


def test_slices_find_a_window_in_an_array():
    outer, inner = Window(10, 20, 30, 40), Window(12, 25, 3, 4)
    at = np.indices((100, 100))[:, 10:40, 20:60]
    rows, cols = inner.slices_in(outer)
    assert at[:, rows, cols][:, 0, 0].tolist() == [12, 25]
    assert at[:, rows, cols].shape == (2, 3, 4)


def test_a_window_has_no_negative_size():
    with pytest.raises(ValueError, match="-1 x 3"):
        Window(0, 0, -1, 3)


def map_of(transform, col, row):
    a, b, c, d, e, f = transform[:6]
    return a * col + b * row + c, d * col + e * row + f


def test_a_part_of_the_map_lies_where_its_pixels_lie():
    transform = Affine(0.5, 0.1, 1000, 0.2, -0.5, 9000)
    georef = Georef("crs", transform, metre_per_unit=2.0)
    part = georef.of(Window(30, 40, 5, 5))
    assert map_of(part.transform, 1, 2) == pytest.approx(map_of(transform, 41, 32))
    coarse = georef.at_level(3)
    assert map_of(coarse.transform, 2, 1) == pytest.approx(map_of(transform, 16, 8))
    assert (coarse.crs_wkt, part.metre_per_unit) == ("crs", 2.0)
    assert georef.at_level(0) == georef
    # |0.5 * -0.5 - 0.1 * 0.2| = 0.27 square units of 4 square metres
    assert georef.pixel_area_m2 == pytest.approx(1.08)
    assert georef.pixel_size_m == pytest.approx(1.08**0.5)


def test_without_a_map_there_is_no_size():
    nowhere = Georef(gcps=(Gcp(0.0, 0.0, 1.0, 1.0, 0.0, "a", ""),), is_point=True)
    assert nowhere.of(Window(1, 1, 1, 1)) == nowhere == nowhere.at_level(2)
    assert nowhere.pixel_size_m is None
    assert nowhere.pixel_area_m2 is None
    assert Georef("degrees", Affine.identity()).pixel_size_m is None
