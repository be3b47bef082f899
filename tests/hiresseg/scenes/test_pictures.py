"""PNG, JPEG and JPEG 2000: decoded once, in any order of windows, upright."""

import gc
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps
from rasterio.crs import CRS
from rasterio.transform import Affine

from hiresseg.geometry import Gcp, Georef, Window
from hiresseg.scenes import Pages, open_scene
from hiresseg.scenes import spool as spool_module
from hiresseg.scenes.orientation import Orientation
from hiresseg.testing import SceneContract


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(5).integers(1, 120, shape).astype(dtype)


def smooth(height, width):
    """What a JPEG keeps almost as it is, and of which no two places are alike."""
    rows, cols = np.mgrid[:height, :width]
    return np.stack([rows * 200 // height, cols * 200 // width, (rows + cols) % 200]).astype(np.uint8)


def read_all(scene, level=0):
    return scene.read(Window(0, 0, *scene.size_at(level)), level)


def write_exif(path, value):
    """Put an EXIF segment that holds nothing but an orientation behind the start of a JPEG."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)
    segment = b"Exif\0\0" + tiff
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:])


class TestPngWithAlpha(SceneContract):
    def make_scene(self, folder):
        pixels = noise((4, 300, 211))
        pixels[3] = np.where(pixels[3] > 40, 255, 0)
        Image.fromarray(np.moveaxis(pixels, 0, -1)).save(folder / "a.png")
        return open_scene(folder / "a.png")


class TestTurnedJpeg(SceneContract):
    def make_scene(self, folder):
        Image.fromarray(np.moveaxis(smooth(300, 211), 0, -1)).save(folder / "a.jpg")
        write_exif(folder / "a.jpg", 6)
        return open_scene(folder / "a.jpg")


class TestJpeg2000(SceneContract):
    def make_scene(self, folder):
        path = folder / "a.jp2"
        profile = {"count": 2, "height": 333, "width": 290, "dtype": "uint16", "crs": "EPSG:32633"}
        place = {"transform": Affine(2, 0, 5, 0, -2, 9)}
        with rasterio.open(path, "w", driver="JP2OpenJPEG", QUALITY=100, **profile, **place) as dataset:
            dataset.write(noise((2, 333, 290), np.uint16))
        return open_scene(path)


@pytest.mark.parametrize(
    ("driver", "dtype"),
    [("PNG", np.uint8), ("PNG", np.uint16), ("JP2OpenJPEG", np.uint8), ("JP2OpenJPEG", np.int16)],
)
@pytest.mark.parametrize("bands", [1, 3])
def test_lossless_pictures_are_read_to_the_bit(make_picture, driver, dtype, bands):
    pixels = noise((bands, 130, 70), dtype)
    scene = open_scene(make_picture(pixels, driver))
    assert scene.dtype == dtype
    np.testing.assert_array_equal(read_all(scene)[0], pixels)
    np.testing.assert_array_equal(scene.read(Window(90, 20, 40, 50))[0], pixels[:, 90:, 20:])


def test_an_interlaced_png_is_read_too(tmp_path):
    # written by hand: seven passes of Adam7 over 8 x 8 pixels

    pixels = noise((8, 8))
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    lines = b"".join(b"\0" + row.tobytes() for t, x, dt, dx in passes for row in pixels[t::dt, x::dx])
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )
    np.testing.assert_array_equal(read_all(open_scene(tmp_path / "a.png"))[0][0], pixels)


def test_a_picture_with_a_world_file_lies_on_the_map(make_picture, tmp_path):
    path = make_picture(noise((3, 20, 30)), "PNG")
    (tmp_path / "a.pgw").write_text("2\n0\n0\n-2\n101\n899\n")
    scene = open_scene(path)
    assert scene.georef.transform == Affine(2, 0, 100, 0, -2, 900)
    assert "a.pgw" in str(scene.fingerprint())


# --- decoded once ------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch):
    """The bands of lines that a spool asked for."""
    bands = []
    init = spool_module.Spool.__init__

    def spy(self, name, size, num_bands, dtype, decode):
        init(self, name, size, num_bands, dtype, lambda band: bands.append(band) or decode(band))

    monkeypatch.setattr(spool_module.Spool, "__init__", spy)
    return bands


def test_every_line_is_decoded_once_whatever_is_read(make_picture, decoded, monkeypatch):
    monkeypatch.setattr(spool_module, "BAND_BYTES", 20_000)
    pixels = noise((3, 1500, 1100))
    scene = open_scene(make_picture(pixels, "PNG"))
    with ThreadPoolExecutor(8) as pool:
        windows = [Window(t, x, 200, 300) for x in (800, 0, 300) for t in (1300, 0, 700)]
        for window, (got, _) in zip(windows, pool.map(scene.read, windows), strict=True):
            rows, cols = window.slices_in(Window(0, 0, 1500, 1100))
            np.testing.assert_array_equal(got, pixels[:, rows, cols])
    read_all(scene, 3)
    assert [band.top for band in decoded] == list(range(0, 1500, decoded[0].height))
    assert sum(band.height for band in decoded) == 1500


def test_only_as_much_as_is_asked_for_is_decoded(make_picture, decoded, monkeypatch):
    monkeypatch.setattr(spool_module, "BAND_BYTES", 20_000)
    scene = open_scene(make_picture(noise((3, 1500, 1100)), "PNG"))
    scene.read(Window(10, 0, 5, 5))
    assert sum(band.height for band in decoded) < 30


def test_memory_does_not_grow_with_the_picture(make_picture, monkeypatch):
    monkeypatch.setattr(spool_module, "BAND_BYTES", 1 << 18)
    scene = open_scene(make_picture(np.zeros((3, 4000, 3000), np.uint8), "PNG"))
    pages = Pages(scene, 0, memory_bytes=1 << 20, scratch=None)
    gc.collect()
    tracemalloc.start()
    for top in range(0, 4000, 500):
        pages.read(Window(top, 0, 500, 500))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20


def test_the_largest_photograph_is_read_as_gdal_reads_it(shared_data, decoded):
    path = shared_data / "robust/large_plain/leaves_6976x5074.jpg"
    scene = open_scene(path)
    assert (scene.height, scene.width, scene.num_bands) == (5074, 6976, 3)
    with warnings.catch_warnings(action="ignore"), rasterio.open(path) as dataset:
        for top in (4800, 100):
            want = dataset.read(window=((top, top + 200), (3000, 3400)))
            np.testing.assert_array_equal(scene.read(Window(top, 3000, 200, 400))[0], want)
    assert sum(band.height for band in decoded) >= 5000
    assert len({band.top for band in decoded}) == len(decoded)


# --- upright -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, value):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.moveaxis(smooth(120, 80), 0, -1)).save(path, quality=100, subsampling=0)
    write_exif(path, value)
    with Image.open(path) as image:
        upright = np.moveaxis(np.asarray(ImageOps.exif_transpose(image)), -1, 0)
    scene = open_scene(path)
    assert scene.size_at(0) == upright.shape[1:]
    # two decoders differ by rounding
    assert np.abs(read_all(scene)[0].astype(int) - upright).max() <= 2


@pytest.mark.parametrize("name", ["Landscape_3.jpg", "Landscape_6.jpg"])
def test_real_photographs_are_upright(shared_data, name):
    scene = open_scene(shared_data / "robust/exif_orientation" / name)
    assert scene.size_at(0) == (1200, 1800)
    # both show the same landscape, one taken upside down
    upright, _ = read_all(open_scene(shared_data / "robust/exif_orientation/Landscape_3.jpg"), 5)
    assert np.abs(read_all(scene, 5)[0].astype(int) - upright).mean() < 4


@pytest.mark.parametrize("value", "12345678")
def test_every_pixel_keeps_its_place_on_the_map(value):
    turn, size = Orientation.of_exif(value), (7, 4)
    place = Affine(2, 0.5, 100, 0.25, -2, 900)
    georef = Georef(CRS.from_epsg(32633).to_wkt(), place, (Gcp(5.0, 3.0, 1.0, 2.0, 0.0, "a", ""),))
    upright = turn.turn_size(size)
    turned = turn.turn_georef(georef, upright)
    indices = turn.turn(np.arange(28).reshape(size))
    assert indices.shape == upright
    for (row, col), index in np.ndenumerate(indices):
        stored_row, stored_col = divmod(int(index), 4)
        window = turn.stored_window(Window(row, col, 1, 1), upright)
        assert (window.top, window.left) == (stored_row, stored_col)
        want = _at(place, stored_row, stored_col)
        assert _at(turned.transform, row, col) == pytest.approx(want)
    # the point at row 5, column 3 is the corner of the stored pixel there
    gcp = turned.gcps[0]
    assert _at(turned.transform, gcp.row - 0.5, gcp.col - 0.5) == pytest.approx(_at(place, 4.5, 2.5))


def _at(transform, row, col):
    a, b, c, d, e, f = transform[:6]
    x, y = col + 0.5, row + 0.5
    return a * x + b * y + c, d * x + e * y + f


def test_what_is_no_orientation_turns_nothing():
    assert Orientation.of_exif(None).is_upright
    assert Orientation.of_exif("0").is_upright
    assert Orientation.of_exif("9").is_upright
