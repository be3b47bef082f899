"""Which tiles are looked at again, against asking every pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.geometry import TileGrid, Window
from hiresseg.selection import select_tiles, uncertainty, with_background


def torn_by_hand(probabilities):
    """Each pixel for itself, in whole numbers."""
    channels, height, width = probabilities.shape
    values = probabilities.astype(int)
    out = np.zeros((height, width), int)

    def label(row, col):
        pixel = values[:, row, col]
        return int(pixel[0] > 127) if channels == 1 else int(pixel.argmax())

    for row in range(height):
        for col in range(width):
            pixel = sorted(values[:, row, col])
            if channels == 1:
                out[row, col] = 255 - abs(2 * pixel[0] - 255)
            elif pixel[-1] > 0:
                out[row, col] = 255 - (pixel[-1] - pixel[-2])
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                beside = row + down, col + right
                inside = 0 <= beside[0] < height and 0 <= beside[1] < width
                if inside and label(*beside) != label(row, col):
                    out[row, col] = 255
    return out


def answers(channels, height, width, seed):
    """Patches of sure answers, with noise here and there, and places where nothing is known."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, max(2, channels), (-(-height // 7), -(-width // 7)))
    labels = np.kron(coarse, np.ones((7, 7), int))[:height, :width]
    if channels == 1:
        sure = np.where(labels[None] == 1, 255, 0)
    else:
        sure = 255 * (labels[None] == np.arange(channels)[:, None, None])
    doubt = generator.integers(0, 256, sure.shape) * (generator.random((height, width)) < 0.1)
    mixed = np.abs(sure - doubt)
    return (mixed * (generator.random((height, width)) > 0.05)).astype(np.uint8)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_torn_is_what_a_pixel_and_its_neighbours_say(shape):
    probabilities = answers(*shape)
    np.testing.assert_array_equal(uncertainty(probabilities), torn_by_hand(probabilities))


def test_torn_in_numbers():
    binary = np.array([[[0, 100, 127], [128, 200, 255]]], np.uint8)
    assert uncertainty(binary[:, :1]).tolist() == [[0, 200, 254]]
    assert uncertainty(binary[:, 1:]).tolist() == [[254, 110, 0]]
    # all three columns change class from row to row
    assert (uncertainty(binary) == 255).all()
    three = np.array([[[200, 0]], [[50, 0]], [[5, 0]]], np.uint8)
    # where nothing has any probability nothing is known, and nothing asked
    assert uncertainty(three).tolist() == [[105, 0]]


def test_independent_channels_that_are_all_sure_of_nothing_are_sure():
    # two channels: sure background, a sure class, a channel that is torn
    channels = np.array([[[0, 0, 0, 0]], [[0, 255, 255, 128]]], np.uint8)
    assert with_background(channels).tolist() == [[[255, 0, 0, 127]], [[0, 0, 0, 0]], [[0, 255, 255, 128]]]
    assert uncertainty(with_background(channels)).tolist() == [[255, 255, 0, 254]]
    assert (uncertainty(with_background(channels[:, :, :1])) == 0).all()


@st.composite
def lattices(draw):
    factor = draw(st.sampled_from([1, 2, 8]))
    height, width = (draw(st.integers(1, 30)) for _ in range(2))
    stride = draw(st.sampled_from([16, 32, 400]))
    overlap = draw(st.sampled_from([0, 7, 16]))
    # the fine image may end anywhere within the last coarse pixel
    size = (
        height * factor - draw(st.integers(0, factor - 1)),
        width * factor - draw(st.integers(0, factor - 1)),
    )
    return factor, TileGrid(stride + overlap, overlap, *size), (height, width)


@settings(max_examples=50, deadline=None)
@given(lattices(), st.integers(1, 3), st.integers(0, 99), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_a_tile_is_chosen_for_the_most_torn_pixel_that_it_covers(lattice, channels, seed, threshold):
    factor, grid, size = lattice
    probabilities = answers(channels, *size, seed)
    torn = torn_by_hand(probabilities)
    whole = Window(0, 0, *size)
    expected = np.zeros((grid.rows, grid.cols), bool)
    for row in range(grid.rows):
        for col in range(grid.cols):
            under = grid.tile(row, col).coarsened(factor).intersect(whole)
            rows, cols = under.slices_in(whole)
            expected[row, col] = torn[rows, cols].max() >= round(255 * threshold)
    np.testing.assert_array_equal(
        select_tiles(lambda window: read(probabilities, window), size, grid, factor, threshold), expected
    )
    assert threshold > 0 or expected.all()


def read(probabilities, window):
    whole = Window(0, 0, *probabilities.shape[1:])
    assert window == window.intersect(whole)
    rows, cols = window.slices_in(whole)
    return probabilities[:, rows, cols]


@pytest.mark.parametrize("tile_px", [32, 1024])
def test_a_boundary_between_two_bands_is_seen_from_both(tile_px):
    # 1024 pixels of tiles are read at once: put a boundary where one band ends
    grid = TileGrid(tile_px, 0, 4096, 64)
    sure = np.zeros((2, 512, 8), np.uint8)
    sure[0, :256], sure[1, 256:] = 255, 255
    reads = []

    def watch(window):
        reads.append(window)
        return read(sure, window)

    selected = select_tiles(watch, (512, 8), grid, 8, 1.0)
    last = 256 * 8 // tile_px
    assert np.flatnonzero(selected[:, 0]).tolist() == [last - 1, last]
    assert len(reads) == 4
    assert max(window.height for window in reads) <= 1024 // 8 + 2


def test_a_wide_answer_is_read_in_pieces(monkeypatch):
    monkeypatch.setattr("hiresseg.selection.PIECE_PX", 4096)
    grid = TileGrid(32, 16, 640, 16_000)
    sure = np.zeros((2, 160, 4_000), np.uint8)
    sure[0, :, :2_000], sure[1, :, 2_000:] = 255, 255
    reads = []

    def watch(window):
        reads.append(window)
        return read(sure, window)

    selected = select_tiles(watch, (160, 4_000), grid, 4, 1.0)
    boundary = 2_000 * 4 // 16
    assert np.flatnonzero(selected.any(axis=0)).tolist() == list(range(boundary - 2, boundary + 1))
    assert selected[:, boundary].all()
    assert max(window.num_pixels for window in reads) <= 2 * 4096


def test_nothing_torn_selects_nothing():
    sure = np.full((1, 10, 10), 255, np.uint8)
    assert not select_tiles(
        lambda window: read(sure, window), (10, 10), TileGrid(32, 16, 40, 40), 4, 0.1
    ).any()
