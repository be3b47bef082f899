"""What is refused, before anything is allocated, and with a remedy."""

import os
import struct
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.scenes import open_scene

VRT = """<VRTDataset rasterXSize="20" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename>{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>
</VRTRasterBand></VRTDataset>"""
UTM = {"crs": CRS.from_epsg(32633), "transform": rasterio.Affine(2, 0, 5, 0, -2, 9)}


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(5).integers(1, 120, shape).astype(dtype)


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/a.tif",
        "HTTP://127.0.0.1/a.tif",
        "s3://bucket/a.tif",
        "zip:///tmp/a.zip!a.tif",
        "/vsicurl/http://127.0.0.1/a.tif",
        "/VSIMEM/a.tif",
        "GTIFF_DIR:1:a.tif",
    ],
)
def test_refuses_all_that_is_not_a_local_file(uri):
    with pytest.raises(SceneError, match="only local files"):
        open_scene(uri)


def test_refuses_what_is_not_there(tmp_path):
    with pytest.raises(SceneError, match=r"gone.tif: no such file"):
        open_scene(tmp_path / "gone.tif")
    with pytest.raises(SceneError, match="no regular file"):
        open_scene(tmp_path)
    with pytest.raises(SceneError):
        open_scene("a\0b.tif")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", "empty"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PK\x03\x04", "zip"),
        (b"GIF89a", "a GIF"),
        (b"<VRTDataset rasterXSize", "a VRT"),
        (b"hello", "unknown format"),
    ],
)
def test_refuses_other_formats_by_name(tmp_path, head, kind):
    path = tmp_path / "scene.tif"
    path.write_bytes(head)
    with pytest.raises(SceneError, match=kind):
        open_scene(path)


def test_a_vrt_that_calls_itself_tif_shows_no_other_file(make_raster, tmp_path):
    secret = make_raster(noise((1, 20, 20)), name="secret.tif")
    (tmp_path / "scene.tif").write_text(VRT.format(secret))
    with pytest.raises(SceneError, match="a VRT"):
        open_scene(tmp_path / "scene.tif")


@pytest.mark.parametrize("suffix", [".msk", ".ovr", ".msk.ovr", ".OVR"])
def test_refuses_sidecars_in_disguise(make_raster, suffix):
    secret = make_raster(noise((1, 20, 20)), name="secret.tif")
    path = make_raster(noise((1, 20, 20)))
    Path(f"{path}{suffix}").write_text(VRT.format(secret))
    with pytest.raises(SceneError, match="must be TIFF"):
        open_scene(path)


@pytest.mark.parametrize("inside", [True, False])
def test_refuses_overviews_that_point_elsewhere(make_raster, inside):
    secret = make_raster(noise((1, 600, 600)), name="secret.tif", overviews=[2])
    path = make_raster(noise((1, 600, 600)), **UTM)
    if inside:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(secret))
    else:
        item = f'<MDI key="OVERVIEW_FILE">{secret}</MDI>'
        Path(f"{path}.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>'
        )
    with rasterio.open(path) as dataset:
        # so GDAL would have followed it
        assert dataset.overviews(1)
    with pytest.raises(SceneError, match="point to another file"):
        open_scene(path)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_refuses_sample_types_by_name(make_raster, dtype):
    with pytest.raises(SceneError, match=f"band 1 has samples of type {dtype}.*gdal_translate"):
        open_scene(make_raster(noise((1, 9, 9), dtype)))


def test_refuses_a_palette_beside_other_bands(make_raster):
    path = make_raster(noise((2, 9, 9)), **UTM)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.palette, ColorInterp.undefined)
    with pytest.raises(SceneError, match="expand rgb"):
        open_scene(path)


def test_refuses_a_name_that_is_no_utf8(make_raster):
    path = make_raster(noise((1, 9, 9)))
    odd = path.with_name(os.fsdecode(b"sc\xe9ne.tif"))
    path.rename(odd)
    with pytest.raises(SceneError, match="rename it") as caught:
        open_scene(odd)
    # it can be printed
    str(caught.value).encode()


@pytest.mark.parametrize("driver", ["PNG", "JPEG", "JP2OpenJPEG"])
def test_refuses_a_picture_that_was_cut_off(make_picture, driver):
    path = make_picture(noise((3, 400, 300)), driver)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SceneError, match="copy it again") as caught:
        open_scene(path).read(Window(399, 0, 1, 300))
    assert str(path) in str(caught.value)


def test_refuses_a_png_that_cannot_hold_what_it_announces(make_picture):
    path = make_picture(noise((3, 40, 30)), "PNG")
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, 16, 60_000, 50_000)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"50000 x 60000 pixels.*cannot hold them"):
        open_scene(path)


def test_refuses_a_jpeg_2000_of_one_huge_piece(make_picture):
    path = make_picture(noise((3, 64, 64)), "JP2OpenJPEG")
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">IIIIIIII", content, at, 60_000, 60_000, 0, 0, 60_000, 60_000, 0, 0)
    struct.pack_into(">II", content, content.index(b"ihdr") + 4, 60_000, 60_000)
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"MiB allowed|damaged"):
        open_scene(path).read(Window(0, 0, 9, 9))


def test_refuses_a_picture_for_which_the_disk_has_no_room(make_picture, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    scene = open_scene(make_picture(noise((3, 40, 30)), "PNG"))
    with pytest.raises(SceneError, match="set TMPDIR"):
        scene.read(Window(0, 0, 1, 1))


@pytest.mark.parametrize("bands", [[0], [4], [], [1, -1]])
def test_refuses_bands_that_are_not_there(make_raster, bands):
    with pytest.raises(SceneError, match="has bands 1 to 3"):
        open_scene(make_raster(noise((3, 9, 9))), bands=bands)


def test_refuses_blocks_too_large_to_decode(make_raster):
    path = make_raster(noise((1, 9, 9), np.float64), tiled=True, blockxsize=16, blockysize=16, sparse_ok=True)
    forge(path, {256: 60000, 257: 60000, 322: 16384, 323: 16384})
    with pytest.raises(SceneError, match="2048 MiB, more than the 256 MiB"):
        open_scene(path)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(("num_images", "back_to"), [(1, 0), (5, 2), (60_000, None)])
def test_refuses_directories_without_end(make_raster, num_images, back_to, beside):
    pixels = noise((1, 20, 20))
    path = make_raster(pixels)
    forge_chain(Path(f"{path}.ovr") if beside else path, pixels, num_images, back_to)
    started = time.monotonic()
    with pytest.raises(SceneError, match="run in a circle"):
        open_scene(path)
    # GDAL takes a minute and seven gigabytes for 60 000
    assert time.monotonic() - started < 5


def test_reads_the_first_of_some_pages(make_raster):
    pixels = noise((1, 20, 20))
    path = make_raster(pixels)
    forge_chain(path, pixels, 100, None)
    np.testing.assert_array_equal(open_scene(path).read(Window(0, 0, 20, 20))[0], pixels)


def test_refuses_a_list_of_blocks_beyond_the_end_of_the_file(make_raster):
    path = make_raster(noise((1, 900, 9)), compress="deflate", blockysize=1)
    whole = path.read_bytes()
    path.write_bytes(whole)
    assert open_scene(path)
    forge(path, {273: len(whole) - 100}, offsets=True)
    with pytest.raises(SceneError, match="end before the list of its blocks"):
        open_scene(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_a_place_that_no_mask_could_say(make_raster, value):
    transform = rasterio.Affine(2, 0, value, 0, -2, 9)
    with pytest.raises(SceneError, match=rf"scene.tif: its transform .* {value}, .*gdal_edit.py -unsetgt"):
        open_scene(make_raster(noise((1, 9, 9)), crs=UTM["crs"], transform=transform))
    points = [GroundControlPoint(row, col, 10.0 + col, value, 0.0) for row in (0, 9) for col in (0, 9)]
    with pytest.raises(SceneError, match=rf"points.tif: .*{value}.*gdal_edit.py -gcp"):
        open_scene(make_raster(noise((1, 9, 9)), name="points.tif", crs=UTM["crs"], gcps=points))


def test_a_huge_sparse_scene_costs_nothing(tmp_path):
    path = tmp_path / "sparse.tif"
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "nodata": 0}
    size = {"height": 100_000, "width": 137_000, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", sparse_ok=True, **size, **tiles, **UTM) as dataset:
        dataset.write(noise((1, 512, 512)), window=rasterio.windows.Window(512, 99_840 - 512, 512, 512))
    scene = open_scene(path)
    assert scene.size_at(10) == (98, 134)
    pixels, valid = scene.read(Window(99_300, 512, 100, 600))
    assert valid.any()
    assert not valid.all()
    assert pixels[:, valid].all()


def test_says_which_rows_of_a_truncated_file_are_lost(make_raster):
    path = make_raster(noise((1, 640, 640)), compress="deflate", tiled=True, blockxsize=128, blockysize=128)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 5])
    scene = open_scene(path)
    scene.read(Window(0, 0, 128, 128))
    with pytest.raises(
        SceneError, match=r"rows 512 to 640, columns 0 to 128 of level 0.*truncated"
    ) as caught:
        scene.read(Window(512, 0, 128, 128))
    assert isinstance(caught.value.__cause__, rasterio.errors.RasterioIOError)
    # and goes on with what is left
    scene.read(Window(0, 0, 128, 128))


def forge(path: Path, values: dict[int, int], *, offsets: bool = False) -> None:
    """Overwrite fields of the first directory of a little-endian TIFF: their values or, if asked, offsets."""
    content = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from("<HH", content, entry)
        if tag in values:
            is_short = kind == 3 and not offsets
            struct.pack_into("<H" if is_short else "<I", content, entry + 8, values[tag])
    path.write_bytes(content)


def forge_chain(path: Path, pixels, num_images: int, back_to: int | None) -> None:
    """Write a TIFF of many directories that show the same pixels, the last of which may point back."""
    height, width = pixels.shape[1:]
    first, step = 8 + pixels.size, 2 + 12 * 10 + 4
    content = bytearray(b"II*\0" + struct.pack("<I", first) + pixels.tobytes())
    for image in range(num_images):
        tags = {254: int(image > 0), 256: width, 257: height, 258: 8, 259: 1, 262: 1}
        tags |= {273: 8, 277: 1, 278: height, 279: pixels.size}
        last = 0 if back_to is None else first + step * back_to
        following = last if image == num_images - 1 else first + step * (image + 1)
        content += struct.pack("<H", 10)
        content += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        content += struct.pack("<I", following)
    path.write_bytes(content)
