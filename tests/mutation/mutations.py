"""How a file is damaged: by case number, so that any case can be repeated alone."""

from __future__ import annotations

import numpy as np

SEED = 20261125
HEAD_BYTES = 1024
"""Where headers are."""


def rng_of(kind: str, number: int) -> np.random.Generator:
    """The generator of one case."""
    return np.random.default_rng([SEED, *kind.encode(), number])


def mutate(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Damage `data` in one of five ways; returns the way and what is left."""
    ways = (flip_bit, replace_bytes, truncate, repeat_part, widen_word)
    way = ways[int(rng.integers(len(ways)))]
    damaged = bytearray(data)
    return way.__name__, bytes(way(damaged, rng))


def flip_bit(data: bytearray, rng: np.random.Generator) -> bytearray:
    """One bit, anywhere."""
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return data


def replace_bytes(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Three bytes of the first kilobyte."""
    for _ in range(3):
        data[int(rng.integers(min(HEAD_BYTES, len(data))))] = int(rng.integers(256))
    return data


def truncate(data: bytearray, rng: np.random.Generator) -> bytearray:
    """The end is missing."""
    return data[: int(rng.integers(len(data)))]


def repeat_part(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A part stands again where another stood, or between."""
    start, other = (int(rng.integers(len(data))) for _ in range(2))
    part = data[start : start + int(rng.integers(1, 512))]
    data[other : other + (len(part) if rng.random() < 0.5 else 0)] = part
    return data


def widen_word(data: bytearray, rng: np.random.Generator) -> bytearray:
    """An aligned word of the first or last kilobyte is the largest, a huge, or no number."""
    words = max(1, min(HEAD_BYTES, len(data)) // 4)
    at = 4 * int(rng.integers(words))
    if rng.random() < 0.5:
        at = max(0, len(data) // 4 * 4 - at - 4)
    values = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\x80\0\0\0", b"\0\0\0\x80")
    word = values[int(rng.integers(len(values)))]
    data[at : at + 4] = word
    return data
