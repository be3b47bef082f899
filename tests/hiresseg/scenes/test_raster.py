import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from hiresseg.geometry import Gcp, Window
from hiresseg.scenes import open_scene

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.3, 0, 500_000.123, 0, -0.3, 4_649_776.9)}


def noise(shape, low=1, high=120, dtype=np.uint8):
    return np.random.default_rng(5).integers(low, high, shape).astype(dtype)


def read_all(scene, level=0):
    return scene.read(Window(0, 0, *scene.size_at(level)), level)


def block_means(pixels, valid, factor):
    """The definition, pixel by pixel."""
    bands, height, width = pixels.shape
    means = np.zeros((bands, -(-height // factor), -(-width // factor)), pixels.dtype)
    some = np.zeros(means.shape[1:], bool)
    for row, col in np.ndindex(some.shape):
        at = slice(row * factor, (row + 1) * factor), slice(col * factor, (col + 1) * factor)
        for band in range(bands):
            values = pixels[band][at][valid[at]].astype(np.float64)
            some[row, col] = values.size > 0
            if values.size:
                mean = values.sum() / values.size
                means[band, row, col] = mean if pixels.dtype.kind == "f" else np.floor(mean + 0.5)
    return means, some


@pytest.mark.parametrize("dtype", DTYPES)
def test_reads_every_sample_type(make_raster, dtype):
    pixels = noise((2, 30, 41), dtype=dtype) - np.ones((), dtype) * (60 if "u" not in dtype else 0)
    pixels = pixels.astype(dtype)
    scene = open_scene(make_raster(pixels))
    assert scene.dtype == np.dtype(dtype)
    got, valid = read_all(scene)
    np.testing.assert_array_equal(got, pixels)
    assert valid is None
    coarse, coarse_valid = read_all(scene, 2)
    want, _ = block_means(pixels, np.ones((30, 41), bool), 4)
    np.testing.assert_array_equal(coarse, want)
    assert coarse_valid is None


@pytest.mark.parametrize(
    "profile",
    [
        {"compress": "deflate", "predictor": 2},
        {"compress": "zstd"},
        {"compress": "lzw", "tiled": True, "blockxsize": 16, "blockysize": 48},
        {"compress": "packbits", "blockysize": 5},
        {"compress": "lerc"},
        {"interleave": "band"},
        {"interleave": "band", "tiled": True, "blockxsize": 32, "blockysize": 32},
        {"bigtiff": "yes"},
        {"endianness": "big"},
        {"tiled": True, "blockxsize": 128, "blockysize": 128, "sparse_ok": True},
    ],
    ids=lambda profile: "-".join(str(value) for value in profile.values()),
)
def test_reads_every_layout_alike(make_raster, profile):
    pixels = noise((3, 131, 77), dtype=np.uint16)
    scene = open_scene(make_raster(pixels, **profile))
    window = Window(20, 9, 99, 60)
    np.testing.assert_array_equal(
        scene.read(window)[0], pixels[:, window.top : window.bottom, window.left : window.right]
    )
    whole, _ = read_all(scene)
    np.testing.assert_array_equal(whole, pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 3)])
def test_reads_tiny_scenes_at_any_level(make_raster, shape):
    pixels = noise((3, *shape))
    scene = open_scene(make_raster(pixels))
    for level in (0, 1, 5, 40):
        coarse, valid = read_all(scene, level)
        want, _ = block_means(pixels, np.ones(shape, bool), min(2**level, 1024))
        np.testing.assert_array_equal(coarse, want)
        assert valid is None


@pytest.mark.parametrize("level", [8, 9, 31, 32, 40, 70])
def test_the_coarsest_pixel_is_the_mean_of_all(make_raster, level):
    pixels = noise((1, 256, 256), 0, 255)
    coarse, _ = read_all(open_scene(make_raster(pixels)), level)
    assert coarse.item() == int(np.floor(pixels.mean() + 0.5))


def test_bands_come_in_the_order_asked_for(make_raster):
    pixels = noise((4, 20, 20))
    path = make_raster(pixels, photometric="rgb")
    scene = open_scene(path, bands=[4, 1, 1])
    np.testing.assert_array_equal(read_all(scene)[0], pixels[[3, 0, 0]])
    assert scene.band_names[1:] == ("red", "red")
    assert scene.num_bands == 3


def test_names_of_bands(make_raster):
    path = make_raster(noise((3, 20, 20)), photometric="minisblack", **UTM)
    assert open_scene(path).band_names == ("band_1", "band_2", "band_3")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("nir", "", "swir")
    assert open_scene(path).band_names == ("nir", "band_2", "swir")


# --- what counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [False, True])
def test_a_mask_inside_or_beside_rules_pixels_out(make_raster, beside):
    pixels, mask = noise((3, 90, 80)), noise((90, 80), 0, 2, bool)
    scene = open_scene(make_raster(pixels, mask=mask, beside=beside))
    got, valid = read_all(scene)
    np.testing.assert_array_equal(valid, mask)
    np.testing.assert_array_equal(got, np.where(mask, pixels, 0))
    coarse, coarse_valid = read_all(scene, 1)
    want, want_valid = block_means(pixels, mask, 2)
    np.testing.assert_array_equal(coarse, want)
    np.testing.assert_array_equal(coarse_valid, want_valid)


def test_a_window_under_the_mask_is_not_decoded(make_raster):
    mask = np.ones((256, 256), bool)
    mask[:128] = False
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128}
    scene = open_scene(make_raster(noise((3, 256, 256)), mask=mask, **tiles))
    got, valid = scene.read(Window(0, 0, 128, 256))
    assert not got.any()
    assert not valid.any()
    assert scene.bytes_decoded == 0
    scene.read(Window(127, 0, 2, 2))
    assert scene.bytes_decoded == 3 * 256 * 128


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_alpha_is_a_mask_and_no_image_band(make_raster, interleave):
    pixels = noise((4, 50, 60))
    pixels[3] = noise((50, 60), 0, 2) * 100
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    path = make_raster(pixels, interleave=interleave, photometric="rgb", colorinterp=colors)
    scene = open_scene(path)
    assert scene.band_names == ("red", "green", "blue")
    got, valid = read_all(scene)
    np.testing.assert_array_equal(valid, pixels[3] > 0)
    np.testing.assert_array_equal(got, np.where(valid, pixels[:3], 0))
    assert scene.has_gaps
    # whoever reads it as an image band says that it is none
    asked, everywhere = read_all(open_scene(path, bands=[1, 2, 3, 4]))
    assert everywhere is None
    np.testing.assert_array_equal(asked, pixels)


def test_a_nodata_value_that_may_be_a_colour_counts_only_in_all_bands(make_raster):
    pixels = noise((3, 40, 40), 0, 3)
    _, valid = read_all(open_scene(make_raster(pixels, nodata=0)))
    np.testing.assert_array_equal(valid, (pixels != 0).any(axis=0))
    _, valid = read_all(open_scene(make_raster(pixels + 253, nodata=255)))
    np.testing.assert_array_equal(valid, (pixels != 2).any(axis=0))


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("int16", -9999),
        ("int16", 32767),
        ("uint16", 65535),
        ("float32", 9999.0),
        ("float32", -3.4028234663852886e38),
    ],
)
def test_a_nodata_value_that_is_no_measurement_counts_in_any_band(make_raster, dtype, nodata):
    pixels = noise((3, 40, 40), 0, 9, dtype)
    pixels[pixels == 4] = nodata
    got, valid = read_all(open_scene(make_raster(pixels, nodata=nodata)))
    np.testing.assert_array_equal(valid, (pixels != np.array(nodata, dtype)).all(axis=0))
    assert got.min() >= 0


def test_nan_and_infinity_do_not_count(make_raster):
    pixels = noise((2, 40, 40), 0, 90, np.float32)
    pixels[0, 3, 4], pixels[1, 5, 6], pixels[1, 7, 8] = np.nan, np.inf, -np.inf
    for options in ({}, {"nodata": np.nan}, {"nodata": 1e30}):
        got, valid = read_all(open_scene(make_raster(pixels, **options)))
        assert np.argwhere(~valid).tolist() == [[3, 4], [5, 6], [7, 8]]
        assert np.isfinite(got).all()


def test_a_nodata_value_that_the_sample_type_cannot_hold_rules_nothing_out(make_raster):
    pixels = noise((1, 20, 20), 0, 255)
    path = make_raster(pixels)
    path.with_suffix(".tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>-9999.5</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    assert read_all(open_scene(path))[1] is None


def test_mask_and_nodata_hold_together(make_raster):
    pixels, mask = noise((1, 30, 30), 0, 3), noise((30, 30), 0, 2, bool)
    path = make_raster(pixels, mask=mask, nodata=0)
    np.testing.assert_array_equal(read_all(open_scene(path))[1], mask & (pixels[0] != 0))


# --- levels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [False, True])
def test_overviews_are_read_where_there_are_some(make_raster, beside):
    path = make_raster(noise((2, 203, 150)), overviews=[2, 8], beside=beside)
    assert beside == Path(f"{path}.ovr").exists()
    scene = open_scene(path)
    assert [scene.stored_level(level) for level in range(6)] == [0, 1, 1, 3, 3, 3]
    for level, number in ((1, 0), (3, 1)):
        with warnings.catch_warnings(action="ignore"), rasterio.open(path, overview_level=number) as dataset:
            stored = dataset.read()
        np.testing.assert_array_equal(read_all(scene, level)[0], stored)
    coarse, _ = read_all(scene, 5)
    np.testing.assert_array_equal(coarse, block_means(stored, np.ones(stored.shape[1:], bool), 4)[0])
    scene = open_scene(path)
    read_all(scene, 3)
    assert scene.bytes_decoded == 2 * 26 * 19


def test_an_overview_that_lacks_the_mask_is_not_used(make_raster, tmp_path, caplog):
    pixels = noise((1, 128, 128))
    path = make_raster(pixels, overviews=[2, 4])
    mask = np.zeros((128, 128), bool)
    mask[:50] = True
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(path, "r+") as dataset,
    ):
        dataset.write_mask(mask)
    assert (tmp_path / "scene.tif.msk").exists()
    with caplog.at_level("INFO"):
        scene = open_scene(path)
    assert scene.stored_level(2) == 0
    assert "lacks the mask" in caplog.text
    np.testing.assert_array_equal(read_all(scene, 1)[1], block_means(pixels, mask, 2)[1])


@pytest.mark.parametrize("beside", [False, True])
def test_an_overview_with_its_mask_is_used(make_raster, beside):
    mask = noise((128, 96), 0, 2, bool)
    path = make_raster(noise((1, 128, 96)), mask=mask, overviews=[2, 4], beside=beside)
    scene = open_scene(path)
    assert scene.stored_level(2) == 2
    valid = read_all(scene, 2)[1]
    assert valid is None or valid.mean() > 0.5


def test_a_coarse_level_takes_bounded_memory(make_raster, monkeypatch):
    monkeypatch.setattr("hiresseg.scenes.raster.PIECE_BYTES", 5000)
    pixels = noise((3, 700, 300))
    scene = open_scene(make_raster(pixels, compress="deflate", blockysize=4))
    sizes = []
    decode = scene._decode
    monkeypatch.setattr(
        scene, "_decode", lambda stored, window: sizes.append(window) or decode(stored, window)
    )
    coarse, _ = read_all(scene, 6)
    np.testing.assert_array_equal(coarse, block_means(pixels, np.ones((700, 300), bool), 64)[0])
    assert max(3 * window.num_pixels for window in sizes) <= 5000
    assert scene.bytes_decoded == pixels.nbytes


@pytest.mark.parametrize(
    ("profile", "units"),
    [
        ({"tiled": True, "blockxsize": 64, "blockysize": 32}, [(32, 64), (16, 32), (8, 16)]),
        ({"blockysize": 3}, [(3, 200), (3, 100), (3, 50)]),
        ({"blockysize": 180}, [(180, 200), (90, 100), (45, 50)]),
    ],
)
def test_the_decode_unit_is_a_block_seen_from_the_level(make_raster, profile, units):
    scene = open_scene(make_raster(noise((1, 180, 200)), compress="deflate", **profile))
    assert [scene.decode_unit(level) for level in range(3)] == units


# --- where it lies -----------------------------------------------------------------------------------------


def test_georeference_is_that_of_the_file_to_the_bit(make_raster):
    scene = open_scene(make_raster(noise((1, 9, 9)), **UTM))
    assert scene.georef.transform == UTM["transform"]
    assert CRS.from_wkt(scene.georef.crs_wkt) == CRS.from_epsg(32633)
    assert scene.georef.metre_per_unit == 1.0
    assert not scene.georef.is_point
    assert scene.georef.gcps == ()


def test_a_plain_grid_has_no_georeference(make_raster):
    georef = open_scene(make_raster(noise((1, 9, 9)))).georef
    assert (georef.crs_wkt, georef.transform, georef.gcps, georef.metre_per_unit) == (None, None, (), None)


def test_degrees_and_feet(make_raster):
    degrees = open_scene(
        make_raster(noise((1, 9, 9)), crs="EPSG:4326", transform=rasterio.Affine(1, 0, 2, 0, -1, 3))
    )
    assert degrees.georef.metre_per_unit is None
    feet = open_scene(make_raster(noise((1, 9, 9)), crs="EPSG:2263", transform=UTM["transform"]))
    assert feet.georef.metre_per_unit == pytest.approx(0.3048006)


def test_points_of_control_are_carried(make_raster):
    points = [
        GroundControlPoint(r, c, 10.0 + c, 50.0 - r, 7.0, id=f"p{r}{c}", info="x")
        for r in (0, 9)
        for c in (0, 9)
    ]
    scene = open_scene(make_raster(noise((1, 9, 9)), gcps=points, crs="EPSG:4326"))
    assert scene.georef.transform is None
    assert CRS.from_wkt(scene.georef.crs_wkt) == CRS.from_epsg(4326)
    assert [(g.row, g.col, g.x, g.y, g.z) for g in scene.georef.gcps] == [
        (p.row, p.col, p.x, p.y, p.z) for p in points
    ]
    assert isinstance(scene.georef.gcps[0], Gcp)


def test_pixel_is_point_is_carried(make_raster):
    path = make_raster(noise((1, 9, 9)), **UTM)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    scene = open_scene(path)
    with rasterio.open(path) as dataset:
        assert scene.georef.transform == dataset.transform
    assert scene.georef.is_point


def test_odd_names_of_files(make_raster):
    pixels = noise((1, 5, 5))
    for name in ("a#b?c.tif", "zwei wörter.tif", "no_suffix", "a!b.tif", "%20.tif"):
        np.testing.assert_array_equal(read_all(open_scene(make_raster(pixels, name=name)))[0], pixels)


def test_a_forked_child_reads_through_its_own_handles(make_raster):
    pixels = noise((1, 64, 64))
    scene = open_scene(make_raster(pixels, tiled=True, blockxsize=16, blockysize=16))
    scene.read(Window(0, 0, 16, 16))
    child = os.fork()
    if child == 0:
        same = np.array_equal(read_all(scene)[0], pixels)
        os._exit(0 if same and scene._handles._process == os.getpid() else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(read_all(scene)[0], pixels)
