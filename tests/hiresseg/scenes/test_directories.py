"""The fields that place a scene on the map, as they stand in its header: of any dialect, and hostile ones."""

import struct
import tracemalloc

import numpy as np
import pytest
import rasterio

from hiresseg.scenes import open_scene
from hiresseg.scenes.directories import read_place_tags

PLACE = {"crs": "ESRI:102001", "transform": rasterio.Affine(2, 0.5, 5.1, 0.5, -2, 9.3)}
PIXELS = np.ones((1, 9, 9), np.uint8)


def entry_of(content, code):
    """Where the entry of a field stands in a classic little-endian TIFF."""
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    entries = range(at + 2, at + 2 + 12 * count, 12)
    return next(entry for entry in entries if struct.unpack_from("<H", content, entry)[0] == code)


@pytest.mark.parametrize("endianness", ["LITTLE", "BIG"])
@pytest.mark.parametrize("bigtiff", ["NO", "YES"])
def test_every_dialect_says_the_same(make_raster, endianness, bigtiff):
    tags = read_place_tags(make_raster(PIXELS, **PLACE, ENDIANNESS=endianness, BIGTIFF=bigtiff))
    assert tags == read_place_tags(make_raster(PIXELS, name="plain.tif", **PLACE))
    assert [tag[:3] for tag in tags if tag[0] in {34264, 34735}] == [(34264, 12, 16), (34735, 3, 76)]
    by_code = {code: value for code, _, _, value in tags}
    matrix = np.frombuffer(by_code[34264], "<f8").reshape(4, 4)
    assert matrix[0].tolist() == [2, 0.5, 0, 5.1]
    assert by_code[34737].startswith(b"Canada_Albers_Equal_Area_Conic")
    assert np.frombuffer(by_code[34735], "<u2")[:4].tolist() == [1, 1, 0, 18]


def test_a_value_that_fits_stands_in_its_entry(make_raster):
    path = make_raster(PIXELS, **PLACE, BIGTIFF="YES", ENDIANNESS="BIG")
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack(">HH", 34735, 3))
    struct.pack_into(">Q4H", content, at + 4, 4, 1, 1, 0, 0)
    path.write_bytes(content)
    assert (34735, 3, 4, struct.pack("<4H", 1, 1, 0, 0)) in read_place_tags(path)


@pytest.mark.parametrize(
    ("kind", "count", "at"),
    [
        (3, 2**32 - 1, 8),
        (3, 1 << 20, 8),
        (3, 88, 2**32 - 2),
        (13, 88, 8),
        (3, 0, 8),
    ],
    ids=["size", "a long file's size", "address", "type", "nothing"],
)
def test_what_a_header_only_announces_is_not_allocated(make_raster, kind, count, at):
    path = make_raster(PIXELS, **PLACE)
    content = bytearray(path.read_bytes())
    struct.pack_into("<HII", content, entry_of(content, 34735) + 2, kind, count, at)
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(8 << 20)
    tracemalloc.start()
    assert read_place_tags(path) == ()
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()


def test_what_is_no_directory_has_no_fields(tmp_path):
    path = tmp_path / "scene.tif"
    for content in (b"II*\0", b"II*\0\xff\xff\xff\xff", b"II+\0\x08\0\0\0" + b"\xff" * 8):
        path.write_bytes(content)
        assert read_place_tags(path) == ()


def test_a_scene_knows_its_fields(make_raster):
    path = make_raster(PIXELS, **PLACE)
    assert open_scene(path).georef.tags == read_place_tags(path)
    assert open_scene(make_raster(PIXELS, name="plain.tif")).georef.tags == ()
