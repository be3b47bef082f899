from collections import Counter
from fractions import Fraction
from itertools import product
from math import floor

import numpy as np
import pytest

from hiresseg.sinks.pyramid import halve_labels, halve_values, plan_levels

FILL = 255


def vote(square: tuple[int, ...]) -> int:
    counts = Counter(value for value in square if value != FILL)
    if not counts:
        return FILL
    most = max(counts.values())
    return next(value for value in square if counts.get(value) == most)


def mean(square: tuple[int, ...]) -> int:
    valid = [value for value in square if value != FILL]
    return floor(Fraction(sum(valid), len(valid)) + Fraction(1, 2)) if valid else FILL


def as_tile(squares: list[tuple[int, ...]]) -> np.ndarray:
    quarters = np.array(squares, np.uint8).reshape(-1, 2, 2)
    return np.ascontiguousarray(np.concatenate(list(quarters), axis=1))


@pytest.mark.parametrize("values", [(0, 1, 2, 3, FILL), (7, 0, 254, 128, FILL)])
def test_every_square_of_labels_goes_to_its_most_frequent_class(values):
    squares = list(product(values, repeat=4))
    out = np.zeros((1, len(squares)), np.uint8)
    halve_labels(as_tile(squares), out)
    assert out[0].tolist() == [vote(square) for square in squares]


def test_values_become_the_mean_of_what_is_valid():
    squares = list(product((0, 1, 2, 100, 253, 254, FILL), repeat=4))
    out = np.zeros((1, len(squares)), np.uint8)
    halve_values(as_tile(squares), out)
    assert out[0].tolist() == [mean(square) for square in squares]


def test_every_sum_rounds_like_a_fraction():
    squares = [(a, b, c, d) for a, b, c in product(range(0, 255, 11), repeat=3) for d in (0, 254, FILL)]
    out = np.zeros((1, len(squares)), np.uint8)
    halve_values(as_tile(squares), out)
    assert out[0].tolist() == [mean(square) for square in squares]


def test_a_part_of_something_larger_can_be_written():
    canvas = np.full((8, 8), 9, np.uint8)
    halve_labels(np.zeros((8, 8), np.uint8), canvas[:4, 4:])
    assert (canvas[:4, 4:] == 0).all()
    assert (canvas == 9).sum() == 48


@pytest.mark.parametrize(
    ("shape", "tile_px", "levels"),
    [
        ((1, 1), 16, [(1, 1)]),
        ((512, 512), 512, [(512, 512)]),
        ((513, 512), 512, [(513, 512), (257, 256)]),
        ((600, 700), 720, [(600, 700), (300, 350)]),
        ((1, 1_000_000), 448, [(1, -(-1_000_000 // 2**n)) for n in range(13)]),
        ((33, 17), 16, [(33, 17), (17, 9), (9, 5)]),
    ],
)
def test_levels_go_down_to_one_tile(shape, tile_px, levels):
    assert plan_levels(*shape, tile_px) == levels
