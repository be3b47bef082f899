import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from hiresseg.geometry import Gcp, Georef
from hiresseg.sinks import write_cog

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

UTM = CRS.from_epsg(32633).to_wkt()
WEB = CRS.from_epsg(3857).to_wkt()
DEGREES = CRS.from_epsg(4326).to_wkt()
ROBINSON = CRS.from_string("+proj=robin +lon_0=0 +datum=WGS84").to_wkt()
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
    assert report.losses == ()


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
