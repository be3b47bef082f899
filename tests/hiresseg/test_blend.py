"""Windows that sum to one, for every overlap, trim and size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hiresseg.blend import cell_weights, ramp
from hiresseg.geometry import TileGrid


@st.composite
def lattices(draw):
    stride = 16 * draw(st.integers(1, 3))
    overlap = draw(st.integers(0, stride))
    trim = draw(st.integers(0, overlap // 2))
    near = draw(st.integers(0, 4)) * stride + draw(st.sampled_from([0, overlap]))
    size = max(1, near + draw(st.integers(-1, 1)))
    return TileGrid(stride + overlap, overlap, size, 1), trim


def tile_window(grid, row, trim):
    """Weight of a tile at each of its pixels, as the blend has it: its cell, then what the next leaves."""
    own = cell_weights(grid, row, grid.rows, trim)
    if row + 1 == grid.cell_rows:
        # no cell comes after it; what lies there is outside the scene
        return np.concatenate([own, np.zeros(grid.overlap_px)])
    rest = 1 - cell_weights(grid, row + 1, grid.rows, trim)
    assert not rest[grid.overlap_px :].any()
    return np.concatenate([own, rest[: grid.overlap_px]])


@settings(max_examples=80, deadline=None)
@given(lattices())
@example((TileGrid(48, 16, 49, 1), 8))
@example((TileGrid(32, 16, 17, 1), 0))
def test_the_windows_of_all_tiles_sum_to_one(lattice):
    grid, trim = lattice
    total = np.zeros(grid.rows * grid.stride_px + grid.tile_px)
    for row in range(grid.rows):
        window = tile_window(grid, row, trim)
        assert window.min() >= 0
        assert window.max() <= 1
        total[grid.tile(row, 0).top : grid.tile(row, 0).bottom] += window
    np.testing.assert_allclose(total[: grid.height], 1, rtol=0, atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(lattices())
def test_a_tile_is_not_used_in_its_trim_where_a_neighbour_has_it(lattice):
    grid, trim = lattice
    for row in range(grid.rows):
        window = tile_window(grid, row, trim)
        if row > 0:
            assert not window[:trim].any()
        elif grid.overlap_px:
            assert window[0] == 1
        if row < grid.rows - 1 and trim:
            assert not window[-trim:].any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200), st.data())
def test_the_ramp_rises_and_is_its_own_mirror(overlap, data):
    trim = data.draw(st.integers(0, overlap // 2))
    rise = ramp(overlap, trim)
    assert rise.shape == (overlap,)
    assert rise.dtype == np.float32
    assert (np.diff(rise) >= 0).all()
    np.testing.assert_allclose(rise + rise[::-1], 1, atol=2e-7)
    steps = np.arange(overlap - 2 * trim) + 0.5
    np.testing.assert_allclose(
        rise[trim : overlap - trim], (1 - np.cos(np.pi * steps / max(1, len(steps)))) / 2, atol=2e-7
    )


@pytest.mark.parametrize("trim", [-1, 9])
def test_refuses_a_trim_beyond_half_the_overlap(trim):
    with pytest.raises(ValueError, match=f"half the overlap \\(8\\), got {trim}"):
        ramp(16, trim)
