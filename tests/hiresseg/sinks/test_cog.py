import tracemalloc
import warnings
import zlib
from xml.etree import ElementTree as ET

import google_crc32c
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo import cog_validate

from hiresseg.deflate import compress_gzip
from hiresseg.errors import StoreError
from hiresseg.geometry import Georef
from hiresseg.sinks import FILL, ScaledMeaning, tiff, write_cog
from hiresseg.sinks.pyramid import halve_labels, halve_values, plan_levels
from hiresseg.sinks.tiff import read_tags

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def read_levels(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            levels, number = [dataset.read(1)], len(dataset.overviews(1))
        for index in range(number):
            with rasterio.open(path, OVERVIEW_LEVEL=index) as dataset:
                levels.append(dataset.read(1))
    return levels


def halve_whole(pixels, halve):
    height, width = (-(-edge // 2) for edge in pixels.shape)
    padded = np.full((2 * height, 2 * width), FILL, np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    out = np.empty((height, width), np.uint8)
    halve(padded, out)
    return out


def assert_levels(path, pixels, tile_px, halve):
    found, wanted = read_levels(path), pixels
    assert [part.shape for part in found] == plan_levels(*pixels.shape, tile_px)
    for part in found:
        np.testing.assert_array_equal(part, wanted)
        wanted = halve_whole(wanted, halve)


@pytest.mark.parametrize(
    ("shape", "tile_px"),
    [
        ((1, 1), 16),
        ((1, 307), 16),
        ((205, 1), 16),
        ((16, 16), 16),
        ((17, 15), 16),
        ((205, 307), 48),
        ((100, 100), 112),
    ],
)
def test_every_level_reads_back_and_the_file_is_a_strict_cog(
    folder, array_chunks, land, patches, shape, tile_px
):
    mask = patches[: shape[0], : shape[1]]
    path = folder / "mask.tif"
    report = write_cog(path, array_chunks(mask, tile_px), Georef(), meaning=land)
    assert_levels(path, mask, tile_px, halve_labels)
    # the validator divides widths: to it, an overview of something one pixel wide is no reduction
    if shape[1] > 1 or max(shape) <= tile_px:
        assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.profile["compress"] == "deflate"
    assert report.file_bytes == path.stat().st_size
    assert report.num_levels == len(plan_levels(*shape, tile_px))
    assert [entry.name for entry in folder.iterdir()] == ["mask.tif"]


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_scene_reads_back(tmp_path_factory, array_chunks, land, data):
    tile_px = data.draw(st.sampled_from([16, 32, 48]))
    height, width = data.draw(st.integers(1, 150)), data.draw(st.integers(2, 150))
    seed, grain = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([1, 7, 40]))
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array([0, 1, 2, 3, FILL], np.uint8), (-(-height // grain), -(-width // grain)))
    mask = np.kron(coarse, np.ones((grain, grain), np.uint8))[:height, :width]
    path = tmp_path_factory.mktemp("any") / "mask.tif"
    write_cog(path, array_chunks(mask, tile_px), Georef(), meaning=land)
    assert_levels(path, mask, tile_px, halve_labels)
    assert cog_validate(path, strict=True, quiet=True)[0]


def test_confidence_has_averaged_overviews_a_scale_and_a_name(folder, array_chunks, patches):
    values = (np.arange(patches.size, dtype=np.uint32).reshape(patches.shape) * 7 // 5 % 255).astype(np.uint8)
    values[patches == FILL] = FILL
    path = folder / "confidence.tif"
    write_cog(path, array_chunks(values), Georef(), meaning=ScaledMeaning())
    assert_levels(path, values, 16, halve_values)
    with rasterio.open(path) as dataset:
        assert dataset.scales == (1 / 254,)
        assert dataset.offsets == (0.0,)
        assert dataset.descriptions == ("confidence",)
        assert dataset.nodata == FILL
        assert dataset.photometric.name == "black" if dataset.photometric else True


def test_a_scene_without_any_answer_holds_no_tile(folder, array_chunks, land):
    path = folder / "mask.tif"
    report = write_cog(path, array_chunks(np.full((205, 307), FILL, np.uint8)), Georef(), meaning=land)
    assert report.num_empty_tiles == report.num_tiles
    assert report.file_bytes < 20_000
    assert all((part == FILL).all() for part in read_levels(path))
    assert cog_validate(path, strict=True, quiet=True)[0]


def test_a_tile_of_fill_is_left_out_even_if_the_source_gives_pixels(folder, array_chunks, land, patches):
    class Eager(array_chunks):
        def read_chunk(self, row, col):
            chunk = super().read_chunk(row, col)
            return np.full((16, 16), FILL, np.uint8) if chunk is None else chunk

    lazy, eager = folder / "lazy.tif", folder / "eager.tif"
    write_cog(lazy, array_chunks(patches), Georef(), meaning=land)
    report = write_cog(eager, Eager(patches), Georef(), meaning=land)
    assert report.num_empty_tiles > 0
    assert eager.read_bytes() == lazy.read_bytes()
    with rasterio.open(eager) as dataset:
        assert dataset.get_tag_item("BLOCK_OFFSET_7_5", "TIFF", bidx=1) is None
        assert int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1)) > 0


def test_a_tile_is_compressed_once(folder, array_chunks, land, patches):
    path, source = folder / "mask.tif", array_chunks(patches)
    write_cog(path, source, Georef(), meaning=land)
    file = path.read_bytes()
    with rasterio.open(path) as dataset:
        for row, col in [(0, 0), (12, 19), (3, 2)]:
            offset = int(dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1))
            # between the wrappers of gzip and of zlib
            body = source.read_chunk_gzip(row, col)[10:-8]
            frame = file[offset : offset + len(body) + 6]
            assert frame[2:-4] == body
            assert zlib.decompress(frame) == source.read_chunk(row, col).tobytes()
            assert file[offset - 4 : offset] == len(frame).to_bytes(4, "little")
            assert file[offset + len(frame) :][:4] == frame[-4:]


def test_each_chunk_is_read_once(folder, array_chunks, land, patches):
    source = array_chunks(patches)
    write_cog(folder / "mask.tif", source, Georef(), meaning=land)
    assert sorted(source.reads) == [(row, col) for row in range(13) for col in range(20)]


def test_threads_change_nothing(folder, array_chunks, land, patches):
    path, files = folder / "mask.tif", set()
    for num_threads in (1, 3, 8):
        write_cog(path, array_chunks(patches), Georef(), meaning=land, num_threads=num_threads)
        files.add(path.read_bytes())
    assert len(files) == 1


def test_what_lies_beyond_the_scene_does_not_count(folder, array_chunks, land, patches):
    clean, dirty = folder / "clean.tif", folder / "dirty.tif"
    write_cog(clean, array_chunks(patches), Georef(), meaning=land)
    write_cog(dirty, array_chunks(patches, padding=3), Georef(), meaning=land)
    assert dirty.read_bytes() == clean.read_bytes()


def test_the_report_digests_the_pixels(folder, array_chunks, land, patches):
    report = write_cog(folder / "mask.tif", array_chunks(patches, 48), Georef(), meaning=land)
    tiles = [
        google_crc32c.value(np.ascontiguousarray(patches[top : top + 48, left : left + 48]))
        for top in range(0, 205, 48)
        for left in range(0, 307, 48)
    ]
    assert report.digest == google_crc32c.value(np.array(tiles, "<u4").tobytes())


def test_a_long_file_becomes_a_bigtiff(folder, array_chunks, land, patches, monkeypatch):
    monkeypatch.setattr(tiff, "_CLASSIC_LIMIT_BYTES", 1000)
    path = folder / "mask.tif"
    report = write_cog(path, array_chunks(patches), Georef(None, Affine(2, 0, 5, 0, -2, 9)), meaning=land)
    assert report.is_bigtiff
    assert path.read_bytes()[:4] == b"II+\0"
    assert_levels(path, patches, 16, halve_labels)
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert dataset.transform == Affine(2, 0, 5, 0, -2, 9)
        assert dataset.colormap(1)[1] == (230, 60, 40, 255)


def test_colours_and_names_travel_with_the_mask(folder, array_chunks, land, patches):
    path = folder / "mask.tif"
    write_cog(path, array_chunks(patches), Georef(), meaning=land)
    with rasterio.open(path) as dataset:
        assert dataset.nodata == FILL
        assert [dataset.colormap(1)[value] for value in range(4)] == [
            (*entry.color, 255) for entry in land.classes
        ]
        assert dataset.colormap(1)[FILL][3] == 0
        tags = dataset.tags()
        assert [tags[f"CLASS_NAME_{value}"] for value in range(4)] == [entry.name for entry in land.classes]
    with rasterio.open(path, OVERVIEW_LEVEL=0) as dataset:
        assert dataset.colormap(1)[1] == (230, 60, 40, 255)
        assert dataset.nodata == FILL
    # GDAL 3.12 and later: the attribute table stands in the metadata of the file itself
    metadata = read_tags(path.read_bytes())[42112].value.rstrip(b"\0")
    table = ET.fromstring(metadata).find("Item[@role='rat']/GDALRasterAttributeTable")
    assert [row.findall("F")[1].text for row in table.findall("Row")] == [
        entry.name for entry in land.classes
    ]
    assert [field.find("Usage").text for field in table.findall("FieldDefn")] == ["5", "2", "6", "7", "8"]
    assert [cell.text for cell in table.findall("Row")[1]] == ["1", "building", "230", "60", "40"]


@pytest.mark.parametrize("chunk_px", [0, 8, 100])
def test_chunks_that_are_no_tiles_are_refused(folder, array_chunks, land, patches, chunk_px):
    with pytest.raises(ValueError, match=f"multiple of 16, got {chunk_px}"):
        write_cog(folder / "mask.tif", array_chunks(patches, chunk_px), Georef(), meaning=land)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("chunk", [np.zeros((16, 15), np.uint8), np.zeros((16, 16), np.int16)])
def test_a_chunk_of_another_kind_is_refused(folder, array_chunks, land, patches, chunk):
    class Odd(array_chunks):
        def read_chunk(self, row, col):
            return chunk

    with pytest.raises(StoreError, match=r"chunk \(0, 0\) is damaged \(cannot reshape"):
        write_cog(folder / "mask.tif", Odd(patches), Georef(), meaning=land)
    assert list(folder.iterdir()) == []


def test_memory_does_not_grow_with_the_scene(folder, array_chunks, land):
    class Wide:
        chunk_px = 128

        def __init__(self, height):
            self.shape = height, 8_000

        def read_chunk_gzip(self, row, col):
            chunk = np.full((128, 128), col % 4, np.uint8)
            return compress_gzip(chunk) if (row + col) % 3 == 0 else None

    peaks = []
    for height in (300, 1200):
        tracemalloc.start()
        write_cog(folder / "mask.tif", Wide(height), Georef(), meaning=land)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # a row of chunks holds 8 000 x 128 bytes; beyond it there are copying buffers, and 16 bytes a tile
    assert peaks[0] < 1.5 * 8_000 * 128 + 1.5e6
    assert peaks[1] < peaks[0] + 100_000
