"""What is compressed here is read by other libraries, and damage does not go unseen."""

from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hiresseg.deflate import compress_gzip, compress_zlib, decompress_gzip, rewrap_gzip

masks = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 3)
)


@given(masks)
def test_others_read_it(pixels):
    member = compress_gzip(pixels)
    assert gzip.decompress(member) == pixels.tobytes()
    assert decompress_gzip(member) == pixels.tobytes()
    assert zlib.decompress(rewrap_gzip(member, pixels)) == pixels.tobytes()


@given(masks)
def test_a_rewrapped_member_is_what_zlib_would_have_been(pixels):
    assert rewrap_gzip(compress_gzip(pixels), pixels) == compress_zlib(pixels)


def test_the_bytes_do_not_depend_on_the_layout_of_the_array():
    pixels = np.arange(600, dtype=np.uint8).reshape(20, 30) // 7
    assert compress_gzip(np.asfortranarray(pixels)) == compress_gzip(pixels)


@pytest.mark.parametrize("place", range(10, 60, 7))
def test_a_flipped_bit_is_noticed(place):
    member = bytearray(compress_gzip(np.random.default_rng(0).integers(0, 4, (30, 30), np.uint8)))
    member[place] ^= 16
    with pytest.raises(ValueError, match="Error"):
        decompress_gzip(bytes(member))


@pytest.mark.parametrize("kept", [0, 9, 30])
def test_a_cut_member_is_noticed(kept):
    member = compress_gzip(np.random.default_rng(0).integers(0, 4, (30, 30), np.uint8))
    with pytest.raises(ValueError, match="Error"):
        decompress_gzip(member[:kept])
