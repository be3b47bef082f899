"""Sample types, palettes, codecs."""

import warnings

import numpy as np
import pytest
import rasterio

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.scenes import open_scene


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(5).integers(1, 120, shape).astype(dtype)


def read_all(scene, level=0):
    return scene.read(Window(0, 0, *scene.size_at(level)), level)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_of_64_bits_are_read_as_floats(make_raster, dtype):
    pixels = noise((2, 30, 40), dtype)
    pixels[0, 0, 0] = 2**53 - 1
    pixels[1, 1, 1] = 77_777_777_777
    scene = open_scene(make_raster(pixels, nodata=77_777_777_777))
    got, valid = read_all(scene)
    assert (scene.dtype, got.dtype) == (np.float64, np.float64)
    assert np.argwhere(~valid).tolist() == [[1, 1]]
    np.testing.assert_array_equal(got[:, valid], pixels[:, valid].astype(float))


def test_values_that_would_run_over_have_a_mean(make_raster):
    pixels = np.full((1, 8, 8), 2**62, np.int64)
    assert read_all(open_scene(make_raster(pixels)), 3)[0].item() == 2.0**62


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_samples_of_few_bits_are_bytes(make_raster, bits):
    pixels = noise((1, 30, 41)) % 2**bits
    scene = open_scene(make_raster(pixels, nbits=bits, photometric="minisblack"))
    assert scene.dtype == np.uint8
    got, _ = read_all(scene)
    # GDAL gives one bit a palette of black and white
    np.testing.assert_array_equal(got[0], pixels[0] * (255 if scene.num_bands == 3 else 1))


def test_half_floats_are_floats(make_raster):
    pixels = noise((1, 30, 41), np.float32)
    scene = open_scene(make_raster(pixels, nbits=16))
    assert scene.dtype == np.float32
    np.testing.assert_array_equal(read_all(scene)[0], pixels)


def test_scale_and_offset_are_mentioned_and_not_applied(make_raster, caplog):
    pixels = noise((1, 20, 20), np.uint16)
    path = make_raster(pixels)
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.0001,), (-0.1,)
    np.testing.assert_array_equal(read_all(open_scene(path))[0], pixels)
    assert "scale 0.0001 and offset -0.1, which are not applied" in caplog.text


# --- palettes ----------------------------------------------------------------------------------------------


def add_palette(path, table):
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, table)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [None, [1]])
def test_a_palette_is_read_in_colour(make_raster, dtype, bands):
    pixels = noise((1, 30, 40), dtype)
    table = {i: (i, 255 - i, i // 2, 255) for i in range(256)}
    path = add_palette(make_raster(pixels, photometric="palette"), table)
    scene = open_scene(path, bands=bands)
    assert (scene.num_bands, scene.dtype, scene.band_names) == (3, np.uint8, ("red", "green", "blue"))
    got, valid = read_all(scene)
    assert valid is None
    np.testing.assert_array_equal(got, np.concatenate([pixels, 255 - pixels, pixels // 2]))
    # a coarse pixel is the mean of colours, never of indices
    want = got[:, :2, :2].astype(float).mean(axis=(1, 2))
    np.testing.assert_array_equal(read_all(scene, 1)[0][:, 0, 0], np.floor(want + 0.5))


def test_indices_without_data_or_colour_do_not_count(tmp_path):
    from PIL import Image

    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P")
    image.putpalette([v for i in range(256) for v in (i, 1, 2)])
    image.save(tmp_path / "a.png", transparency=bytes([0, 255, 128, 0] + [255] * 252))
    scene = open_scene(tmp_path / "a.png")
    assert scene.has_gaps
    got, valid = read_all(scene)
    assert np.flatnonzero(~valid).tolist() == [0, 3]
    assert got[:, 0, 1].tolist() == [1, 1, 2]


def test_a_nodata_index_does_not_count(make_raster):
    pixels = noise((1, 30, 40))
    path = add_palette(make_raster(pixels, nodata=9), {i: (i, i, i, 255) for i in range(256)})
    np.testing.assert_array_equal(read_all(open_scene(path))[1], pixels[0] != 9)


def test_bands_of_two_types_are_refused_by_name(make_raster, tmp_path):
    make_raster(noise((1, 20, 20)), name="a.tif")
    band = (
        '<VRTRasterBand dataType="{}" band="{}"><SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
    )
    bands = band.format("Byte", 1), band.format("Float32", 2)
    path = tmp_path / "a.vrt"
    path.write_text(f'<VRTDataset rasterXSize="20" rasterYSize="20">{"".join(bands)}</VRTDataset>')
    with pytest.raises(
        SceneError, match="band 1 is uint8, and band 2 float32; name bands of one sample type"
    ):
        open_scene(path)
    assert open_scene(path, bands=[2]).dtype == np.float32


# --- codecs ------------------------------------------------------------------------------------------------

LOSSLESS = [
    ({"compress": "none"}, np.uint16),
    ({"compress": "lzw", "predictor": 2}, np.uint16),
    ({"compress": "lzw", "predictor": 3}, np.float32),
    ({"compress": "deflate"}, np.float64),
    ({"compress": "packbits"}, np.uint8),
    ({"compress": "lzma"}, np.uint8),
    ({"compress": "zstd", "predictor": 2}, np.int32),
    ({"compress": "lerc"}, np.float32),
    ({"compress": "lerc_deflate"}, np.int16),
    ({"compress": "lerc_zstd"}, np.uint8),
    ({"compress": "webp", "webp_lossless": True}, np.uint8),
]


@pytest.mark.parametrize("bigtiff", ["NO", "YES"])
@pytest.mark.parametrize(("profile", "dtype"), LOSSLESS, ids=str)
def test_every_codec_of_tiff_that_gdal_has(make_raster, profile, dtype, bigtiff):
    pixels = noise((3, 131, 77), dtype)
    path = make_raster(pixels, tiled=True, blockxsize=64, blockysize=64, bigtiff=bigtiff, **profile)
    np.testing.assert_array_equal(read_all(open_scene(path))[0], pixels)


@pytest.mark.parametrize(
    "profile", [{"compress": "jpeg", "photometric": "ycbcr"}, {"compress": "jpeg"}, {"compress": "webp"}]
)
def test_lossy_codecs_are_read_as_gdal_reads_them(make_raster, profile):
    path = make_raster(noise((3, 131, 77)), tiled=True, blockxsize=64, blockysize=64, **profile)
    with warnings.catch_warnings(action="ignore"), rasterio.open(path) as dataset:
        want = dataset.read()
    np.testing.assert_array_equal(read_all(open_scene(path))[0], want)


@pytest.mark.parametrize("codec", ["ccittrle", "ccittfax3", "ccittfax4"])
def test_fax_is_black_and_white(make_raster, codec):
    pixels = noise((1, 40, 50)) % 2
    scene = open_scene(make_raster(pixels, nbits=1, compress=codec))
    got, _ = read_all(scene)
    np.testing.assert_array_equal(got, np.broadcast_to(pixels * 255, got.shape))
