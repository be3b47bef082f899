import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.sinks.tiff import (
    Tag,
    TiledLevel,
    frame_tile,
    needs_bigtiff,
    pack_head,
    plan_offsets,
    read_tags,
)

NODATA = Tag(42113, 2, 4, b"255\0")
NAMES = Tag(42112, 2, 7, b"names!\0")


def level(height, width, counts):
    return TiledLevel(height, width, np.array(counts, np.uint32), (NODATA, NAMES))


def test_what_is_packed_reads_back():
    levels = [level(100, 90, [5, 0, 7, 9]), level(50, 45, [4])]
    offsets = plan_offsets(levels, 1000)
    head = pack_head(levels, tile_px=64, compression=8, is_big=False, offsets=offsets)
    tags = read_tags(head)
    assert tags[42112] == NAMES
    assert tags[42113] == NODATA
    assert {code: struct.unpack("<I", tags[code].value)[0] for code in (254, 256, 257, 322, 323)} == {
        254: 0,
        256: 90,
        257: 100,
        322: 64,
        323: 64,
    }
    assert tags[324].value == offsets[0].astype("<u4").tobytes()
    assert tags[325].value == struct.pack("<4I", 5, 0, 7, 9)
    assert [tag.code for tag in tags.values()] == sorted(tags)


@pytest.mark.parametrize("is_big", [False, True])
def test_the_head_is_as_long_without_addresses(is_big):
    levels = [level(100, 90, [5, 0, 7, 9]), level(50, 45, [4])]
    bare = pack_head(levels, tile_px=64, compression=8, is_big=is_big, offsets=None)
    full = pack_head(
        levels, tile_px=64, compression=8, is_big=is_big, offsets=plan_offsets(levels, len(bare))
    )
    assert len(bare) == len(full)
    assert bare != full


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 2**31), min_size=1, max_size=9), min_size=1, max_size=4),
    start=st.integers(8, 2**40),
)
def test_tiles_lie_one_after_the_other_smallest_level_first(sizes, start):
    levels = [level(1, 1, counts) for counts in sizes]
    at = start
    for counts, offsets in reversed(list(zip(sizes, plan_offsets(levels, start), strict=True))):
        for count, offset in zip(counts, offsets.tolist(), strict=True):
            if count == 0:
                assert offset == 0
                continue
            assert offset == at + 4
            at += count + 8
    assert at == start + sum(part.data_bytes for part in levels)


@pytest.mark.parametrize(("spare", "is_big"), [(0, False), (-1, True)])
def test_the_last_byte_that_four_byte_addresses_reach(spare, is_big):
    half = level(64, 64, [2**31])
    head = len(pack_head([half, half], tile_px=64, compression=8, is_big=False, offsets=None))
    rest = level(64, 64, [2**32 - 1 - head - half.data_bytes - 8 - spare])
    assert needs_bigtiff([rest, half], tile_px=64, compression=8) is is_big


def test_a_tile_stands_between_its_length_and_its_last_four_bytes():
    assert frame_tile(b"abcdefg") == b"\7\0\0\0abcdefgdefg"


@pytest.mark.parametrize("start", [b"MM\0*", b"II+\0", b"\x89PNG"])
def test_other_files_are_refused(start):
    with pytest.raises(ValueError, match="classic little-endian TIFF"):
        read_tags(start + bytes(100))
