import struct
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rio_cogeo import cog_validate

from hiresseg.errors import SceneError
from hiresseg.geometry import Gcp, Georef
from hiresseg.scenes import open_scene
from hiresseg.sinks import write_cog
from hiresseg.sinks.tiff import Tag, TiledLevel, pack_head, read_tags

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

UTM = CRS.from_epsg(32633).to_wkt()
WEB = CRS.from_epsg(3857).to_wkt()
DEGREES = CRS.from_epsg(4326).to_wkt()
ROBINSON = CRS.from_string("+proj=robin +lon_0=0 +datum=WGS84").to_wkt()
CLOSELY = "the coordinate reference system is kept only as closely as GeoTIFF keys can say it"
PLACE_CODES = {33550, 33922, 34264, 34735, 34736, 34737}
GCPS = (
    Gcp(0.0, 0.0, 13.25, 47.5, 410.5, "1", ""),
    Gcp(0.0, 20.5, 13.75, 47.5, 0.0, "2", ""),
    Gcp(30.25, 20.5, 13.75, 47.1, 0.0, "3", ""),
)

PLACES = {
    "north up": Georef(
        WEB, Affine(0.14929107086948487, 0, 9519926.124805562, 0, -0.14929107086948487, 3202482.17)
    ),
    "south up": Georef(UTM, Affine(10, 0, 300000.1, 0, 10, 5000000.7)),
    "rotated": Georef(UTM, Affine(0.3, 0.1, 300000.1, -0.1, 0.3, 5000000.7)),
    "sheared, not square": Georef(UTM, Affine(0.3, 0.07, 1 / 3, 0, -1.7, 1e7)),
    "degrees": Georef(DEGREES, Affine(1 / 3600, 0, -180, 0, -1 / 3600, 1 / 7)),
    "point": Georef(UTM, Affine(0.7, 0, 300000.1, 0, -0.7, 5000000.7), is_point=True),
    "point, rotated": Georef(UTM, Affine(0.3, 0.1, 300000.1, -0.1, 0.3, 5000000.7), is_point=True),
    "uncommon projection": Georef(ROBINSON, Affine(1000, 0, 0, 0, -1000, 0)),
    "no projection": Georef(None, Affine(2, 0, 7, 0, -2, 9)),
    "projection alone": Georef(UTM),
    "nothing": Georef(),
}


def read_place(path):
    with rasterio.open(path) as dataset:
        points, points_crs = dataset.gcps
        return dataset.crs or points_crs, dataset.transform, points, dataset.tags().get("AREA_OR_POINT")


@pytest.fixture
def write(folder, array_chunks, land):
    def write_one(georef):
        path = folder / "mask.tif"
        return path, write_cog(path, array_chunks(np.ones((40, 40), np.uint8)), georef, meaning=land)

    return write_one


@pytest.mark.parametrize("name", PLACES)
def test_projection_and_transform_come_back_to_the_last_bit(write, name):
    georef = PLACES[name]
    path, report = write(georef)
    crs, transform, points, kind = read_place(path)
    assert transform == (georef.transform or Affine.identity())
    assert crs == (CRS.from_wkt(georef.crs_wkt) if georef.crs_wkt else None)
    assert points == []
    assert (kind == "Point") is georef.is_point
    # equal to GDAL, but keys name a projection that is of no register in other words than the scene
    is_named_anew = name == "uncommon projection"
    assert report.losses == ((CLOSELY,) if is_named_anew else ())
    assert ((crs.to_wkt() if crs else None) == georef.crs_wkt) is not is_named_anew


@pytest.mark.parametrize(("crs_wkt", "is_point"), [(DEGREES, False), (DEGREES, True), (None, False)])
def test_control_points_come_back_to_the_last_bit(write, is_point, crs_wkt):
    path, report = write(Georef(crs_wkt, gcps=GCPS, is_point=is_point))
    crs, transform, points, _ = read_place(path)
    assert [(p.row, p.col, p.x, p.y, p.z) for p in points] == [(p.row, p.col, p.x, p.y, p.z) for p in GCPS]
    assert crs == (CRS.from_wkt(crs_wkt) if crs_wkt else None)
    assert transform == Affine.identity()
    assert report.losses == ()


def test_a_file_of_gdal_keeps_its_place_when_it_is_read_and_written(write, tmp_path):
    original = tmp_path / "original.tif"
    options = {"driver": "GTiff", "height": 3, "width": 3, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        original, "w", crs="EPSG:26914", transform=Affine(5, 0, 0.1, 0, -5, 0.7), **options
    ) as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(original) as dataset:
        georef = Georef(dataset.crs.to_wkt(), dataset.transform, is_point=True)
    path, report = write(georef)
    assert read_place(path) == read_place(original)
    assert report.losses == ()


def test_what_geotiff_cannot_say_is_said_in_the_report(write):
    named = (Gcp(0.0, 0.0, 13.0, 47.0, 0.0, "church", "east door"), *GCPS[1:])
    assert write(Georef(DEGREES, gcps=named))[1].losses == (
        "names and remarks of control points have no place in a GeoTIFF",
    )
    path, report = write(Georef(None, Affine(2, 0, 7, 0, -2, 9), is_point=True))
    assert report.losses == ("GDAL sees an unnamed coordinate reference system where the scene has none",)
    assert read_place(path)[1] == Affine(2, 0, 7, 0, -2, 9)
    path, report = write(Georef(None, gcps=GCPS, is_point=True))
    assert report.losses == ("GDAL sees an unnamed coordinate reference system where the scene has none",)
    assert [(p.row, p.col) for p in read_place(path)[2]] == [(p.row, p.col) for p in GCPS]
    rotated_pole = CRS.from_string(
        "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=30 +lon_0=10 +datum=WGS84"
    )
    path, report = write(Georef(rotated_pole.to_wkt(), Affine(1, 0, 0, 0, -1, 0)))
    assert bool(report.losses) is (read_place(path)[0] != rotated_pole)


def own_scene(path, *, has_transform=True):
    """A scene whose keys spell a projection out; GDAL would write its name in the register instead."""
    options = {"driver": "GTiff", "height": 3, "width": 3, "count": 1, "dtype": "uint8"}
    place = {"transform": Affine(5, 0, 0.1, 0, -5, 0.7)} if has_transform else {}
    with rasterio.open(path, "w", **place, **options):
        pass
    spelled = ((1024, 1), (1025, 1), (2048, 4267), (3072, 32767), (3074, 16011), (3076, 9001))
    keys = [1, 1, 0, len(spelled), *chain.from_iterable((key, 0, 1, value) for key, value in spelled)]
    tags = read_tags(path.read_bytes()) | {
        34735: Tag(34735, 3, len(keys), struct.pack(f"<{len(keys)}H", *keys))
    }
    level = TiledLevel(3, 3, np.zeros(1, np.uint32), tuple(tags.values()))
    path.write_bytes(pack_head([level], tile_px=16, compression=8, is_big=False, offsets=None))
    return open_scene(path).georef


def place_tags(path):
    return {code: tag for code, tag in read_tags(path.read_bytes()).items() if code in PLACE_CODES}


def test_a_geotiff_keeps_its_own_fields(write, tmp_path):
    georef = own_scene(tmp_path / "scene.tif")
    assert georef.crs_wkt.startswith('PROJCS["unnamed",GEOGCS["NAD27"')
    path, report = write(georef)
    assert place_tags(path) == place_tags(tmp_path / "scene.tif")
    assert read_place(path)[0].to_wkt() == georef.crs_wkt
    assert report.losses == ()
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    # the same place without its fields
    path, report = write(replace(georef, tags=()))
    assert read_place(path)[0].to_wkt().startswith('PROJCS["NAD27 / UTM zone 11N"')
    assert report.losses == (CLOSELY,)


def test_a_transform_beside_the_file_goes_with_the_projection_in_it(write, tmp_path):
    (tmp_path / "scene.tfw").write_text("5\n0\n0\n-5\n2.5\n-2.5\n")
    georef = own_scene(tmp_path / "scene.tif", has_transform=False)
    assert georef.transform == Affine(5, 0, 0, 0, -5, 0)
    path, report = write(georef)
    crs, transform, *_ = read_place(path)
    assert (crs.to_wkt(), transform) == (georef.crs_wkt, georef.transform)
    assert report.losses == ()


def test_what_overrules_the_file_overrules_its_fields(write, tmp_path):
    georef = own_scene(tmp_path / "scene.tif")
    for other in (
        replace(georef, crs_wkt=UTM),
        replace(georef, transform=Affine(7, 0, 1, 0, -7, 2), crs_wkt=UTM, is_point=True),
        replace(georef, transform=None, gcps=GCPS, crs_wkt=DEGREES),
        replace(georef, transform=None, crs_wkt=UTM),
        replace(georef, transform=None, crs_wkt=None),
    ):
        path, report = write(other)
        crs, transform, points, kind = read_place(path)
        assert (crs.to_wkt() if crs else None) == other.crs_wkt
        assert transform == (other.transform or Affine.identity())
        assert [(p.row, p.col, p.x) for p in points] == [(p.row, p.col, p.x) for p in other.gcps]
        assert (kind == "Point") is other.is_point
        assert report.losses == ()


def test_real_scenes_keep_their_place_or_the_report_says_what_is_lost(
    folder, array_chunks, land, shared_data, caplog
):
    """Hundreds of files unlike each other; of eleven, GDAL writes the projection with another WKT."""
    # GDAL has much to say of these
    caplog.set_level("CRITICAL", "rasterio")
    path, pixels = folder / "mask.tif", array_chunks(np.ones((16, 16), np.uint8))
    num_kept, lossy = 0, []
    for scene_path in sorted((shared_data / "robust").rglob("*.tif*")):
        try:
            georef = open_scene(scene_path).georef
        except SceneError:
            continue
        report = write_cog(path, pixels, georef, meaning=land)
        found, wanted = compare_place(path), compare_place(scene_path)
        assert found == wanted or report.losses, scene_path
        num_kept += found == wanted
        if report.losses:
            lossy.append(scene_path.name)
    assert num_kept > 330
    # what they say beyond GeoTIFF's fields lies in metadata of ArcGIS that GDAL makes a projection of
    assert lossy == ["arcgis93_geodataxform_gcp.tif", "arcgis_geodataxform_coeffx_coeffy.tif"]


def compare_place(path):
    crs, transform, points, kind = read_place(path)
    # what nothing is said of is an area
    is_point, wkt = kind == "Point", crs.to_wkt() if crs else None
    return wkt, transform, [(p.row, p.col, p.x, p.y, p.z) for p in points], is_point
