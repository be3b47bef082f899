"""What a VRT may name, and that it is read as GDAL reads it."""

import numpy as np
import pytest
import rasterio

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.scenes import open_scene
from hiresseg.testing import SceneContract


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(5).integers(1, 120, shape).astype(dtype)


def source(name, *, relative=1, left=0, size=(60, 80), to=None, extra=""):
    rect = '<{}Rect xOff="{}" yOff="0" xSize="{}" ySize="{}"/>'
    to = to or size
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}"{extra}>{name}</SourceFilename>'
        f"<SourceBand>1</SourceBand>{rect.format('Src', 0, size[1], size[0])}"
        f"{rect.format('Dst', left, to[1], to[0])}</SimpleSource>"
    )


def vrt(path, *inside, size=(60, 160), band="", head=""):
    body = f'<VRTRasterBand dataType="Byte" band="1"{band}>{"".join(inside)}</VRTRasterBand>'
    path.write_text(f'<VRTDataset rasterXSize="{size[1]}" rasterYSize="{size[0]}">{head}{body}</VRTDataset>')
    return path


class TestVrt(SceneContract):
    def make_scene(self, folder):
        with rasterio.open(
            folder / "a.tif", "w", driver="GTiff", count=1, height=60, width=80, dtype="uint8",
            transform=rasterio.Affine(2, 0, 5, 0, -2, 9),
        ) as dataset:  # fmt: skip
            dataset.write(noise((1, 60, 80)))
        # resampled, so that GDAL's answer depends on the window that it is asked for
        pieces = source("a.tif", to=(211, 301)), source("a.tif", left=350, to=(300, 100))
        place = "<GeoTransform>1, 2, 0, 3, 0, -2</GeoTransform>"
        nodata = "<NoDataValue>0</NoDataValue>"
        return open_scene(vrt(folder / "a.vrt", nodata, *pieces, size=(400, 600), head=place))


def test_a_mosaic_is_read_as_its_sources_lie(make_raster, make_picture, tmp_path):
    left, right = noise((1, 60, 80)), noise((1, 60, 80)) + 50
    make_raster(left, name="left.tif")
    make_picture(right, "PNG", name="right.png")
    pieces = source("left.tif"), source(tmp_path / "right.png", relative=0, left=80)
    scene = open_scene(vrt(tmp_path / "a.vrt", *pieces))
    pixels, valid = scene.read(Window(0, 0, 60, 160))
    assert valid is None
    np.testing.assert_array_equal(pixels, np.concatenate([left, right], axis=2))


def test_its_fingerprint_is_that_of_its_sources_too(make_raster, tmp_path):
    make_raster(noise((1, 60, 80)), name="left.tif")
    path = vrt(tmp_path / "a.vrt", source("left.tif"))
    first = open_scene(path).fingerprint()
    assert open_scene(path).fingerprint() == first
    make_raster(noise((1, 60, 80)) + 1, name="left.tif")
    assert open_scene(path).fingerprint() != first


def test_a_pixel_function_of_gdal_is_computed(make_raster, tmp_path):
    pixels = noise((1, 60, 80))
    make_raster(pixels, name="a.tif")
    kind = "<PixelFunctionType>sum</PixelFunctionType>"
    inside = kind + source("a.tif") + source("a.tif")
    scene = open_scene(
        vrt(tmp_path / "a.vrt", inside, size=(60, 80), band=' subClass="VRTDerivedRasterBand"')
    )
    np.testing.assert_array_equal(scene.read(Window(0, 0, 60, 80))[0], pixels * 2)


def test_a_file_named_vrt_is_what_its_first_bytes_say(make_raster):
    pixels = noise((1, 60, 80))
    scene = open_scene(make_raster(pixels, name="a.vrt"))
    np.testing.assert_array_equal(scene.read(Window(0, 0, 60, 80))[0], pixels)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/vsicurl/http://127.0.0.1:9/a.tif", "only local files"),
        ("/vsimem/a.tif", "only local files"),
        ("http://127.0.0.1:9/a.tif", "only local files"),
        ("HDF5:a.tif://x", "only local files"),
        ("vrt://a.tif", "only local files"),
        ("&lt;VRTDataset/&gt;", "no such file"),
        ("gone.tif", "no such file"),
        ("/etc/passwd", "of an unknown format"),
        ("", "no regular file"),
        ("other.vrt", "itself a VRT"),
        ("polyglot.jpg", "itself a VRT"),
        ("forged.tif", "is damaged"),
        ("blank.png", "decodes to"),
    ],
)
@pytest.mark.parametrize("relative", [0, 1])
def test_refuses_sources_that_are_no_image_file(
    make_raster, make_picture, tmp_path, monkeypatch, name, reason, relative
):
    monkeypatch.chdir(tmp_path)
    vrt(tmp_path / "other.vrt", source("a.tif"))
    (tmp_path / "polyglot.jpg").write_bytes(b"\xff\xd8\xff\xfe\x33\x33" + b"<VRTDataset rasterXSize='9'>")
    forged = make_raster(noise((1, 60, 80)), name="forged.tif").read_bytes()
    (tmp_path / "forged.tif").write_bytes(forged[: forged.index(b"\x00\x01\x03\x00") + 30])
    monkeypatch.setattr("hiresseg.scenes.refusals.GDAL_CACHE_MIB", 0)
    make_picture(noise((1, 60, 80)), "PNG", name="blank.png")
    path = vrt(tmp_path / "a.vrt", source(name, relative=relative))
    with pytest.raises(SceneError, match=reason) as caught:
        open_scene(path)
    assert "a.vrt" in str(caught.value) or name in str(caught.value)


@pytest.mark.parametrize(
    ("inside", "options", "reason"),
    [
        ("<PixelFunctionLanguage>Python</PixelFunctionLanguage>", {}, "PixelFunctionLanguage"),
        ("<PixelFunctionCode>x</PixelFunctionCode>", {}, "PixelFunctionCode"),
        ("<SimpleSource SourceFilename='/etc/passwd'/>", {}, "SourceFilename"),
        ("<simplesource/>", {}, "simplesource"),
        ("<Overview><SourceFilename>/etc/passwd</SourceFilename></Overview>", {}, "Overview"),
        ("<SimpleSource><OpenOptions/></SimpleSource>", {}, "OpenOptions"),
        ("<ImageOffset>0</ImageOffset>", {"band": ' subClass="VRTRawRasterBand"'}, "VRTRawRasterBand"),
        ("", {"head": "<GDALWarpOptions/>"}, "GDALWarpOptions"),
        ("", {"head": "<Group name='/'/>"}, "Group"),
        ("", {"head": "<subClass>VRTPansharpenedDataset</subClass>"}, "subClass"),
    ],
)
def test_refuses_what_could_reach_elsewhere(tmp_path, inside, options, reason):
    with pytest.raises(SceneError, match=f"{reason}.*gdal_translate"):
        open_scene(vrt(tmp_path / "a.vrt", inside, **options))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<VRTDataset", "well-formed"),
        ("<html/>", "holds <html>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><VRTDataset/>', "entities"),
        (f"<VRTDataset>{' ' * (17 << 20)}</VRTDataset>", "16 MiB"),
        ('<?xml version="1.0" encoding="klingon"?><VRTDataset/>', "well-formed"),
        ('<VRTDataset rasterXSize="2" rasterYSize="2"/>', "bands on VRTDataset"),
    ],
)
def test_refuses_what_is_no_vrt(tmp_path, text, reason):
    (tmp_path / "a.vrt").write_text(text)
    with pytest.raises(SceneError, match=reason):
        open_scene(tmp_path / "a.vrt")


def test_sources_of_a_huge_vrt_take_no_memory(make_raster, tmp_path):
    make_raster(noise((1, 60, 80)), name="a.tif")
    path = vrt(tmp_path / "a.vrt", source("a.tif"), size=(2_000_000_000, 2_000_000_000))
    pixels, _ = open_scene(path).read(Window(1_000_000_000, 1_999_999_900, 100, 100))
    assert not pixels.any()
