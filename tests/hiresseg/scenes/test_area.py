import math

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from hiresseg.geometry import Georef
from hiresseg.scenes import pixel_area_m2
from hiresseg.testing import ArrayScene


def scene_at(crs, transform, size=(100, 80)):
    georef = Georef(None if crs is None else CRS.from_string(crs).to_wkt(), transform)
    return ArrayScene(np.zeros((1, *size), np.uint8), georef=georef)


def test_metres_are_metres():
    scene = scene_at("EPSG:32633", Affine(0.5, 0, 500_000, 0, -0.5, 4_600_000))
    # the scale on the central meridian is 0.9996 by definition
    assert pixel_area_m2(scene) == pytest.approx(0.25 / 0.9996**2, rel=1e-5)


def test_web_mercator_shrinks_with_the_cosine_of_latitude():
    north = 6_378_137 * math.asinh(math.tan(math.radians(60)))
    area = pixel_area_m2(scene_at("EPSG:3857", Affine(0.149, 0, 1e6, 0, -0.149, north)))
    # a sphere's formula on an ellipsoid: half a percent
    assert area == pytest.approx(0.149**2 / 4, rel=0.01)


def test_degrees_on_the_ellipsoid():
    area = pixel_area_m2(scene_at("EPSG:4326", Affine(1e-4, 0, 8, 0, -1e-4, 47.005)))
    # length of a degree at 47 north: 111 178 m along the meridian, 76 059 m along the parallel
    assert area == pytest.approx(11.1178 * 7.6059, rel=1e-3)


def test_a_turned_grid_has_the_same_area():
    straight = Affine(0.5, 0, 500_000, 0, -0.5, 4_600_000)
    cos, sin = math.cos(0.6) / 2, math.sin(0.6) / 2
    turned = Affine(cos, sin, 500_000, sin, -cos, 4_600_000)
    area = pixel_area_m2(scene_at("EPSG:32633", straight))
    assert pixel_area_m2(scene_at("EPSG:32633", turned)) == pytest.approx(area, rel=1e-4)


@pytest.mark.parametrize(("crs", "transform"), [(None, Affine(1, 0, 0, 0, 1, 0)), ("EPSG:32633", None)])
def test_is_not_known_without_a_map(crs, transform):
    assert pixel_area_m2(scene_at(crs, transform)) is None


def test_is_not_known_on_another_planet(caplog):
    mars = "+proj=longlat +a=3396190 +b=3376200 +no_defs"
    area = pixel_area_m2(scene_at(mars, Affine(1e-4, 0, 8, 0, -1e-4, 4)))
    # either PROJ knows that Mars is not Earth, or takes the ellipsoid at its word
    assert area is None or area > 0
