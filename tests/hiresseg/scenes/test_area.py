import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from hiresseg.geometry import Gcp, Georef, Window
from hiresseg.scenes import label_areas_m2, open_scene, pixel_area_m2, why_area_unknown
from hiresseg.testing import ArrayScene

EARTH_M2 = 510_065_621_724_089
"""Surface of the ellipsoid WGS 84."""
MERCATOR_M = 6_378_137 * math.pi


def scene_at(crs, transform, size=(100, 80)):
    georef = Georef(None if crs is None else CRS.from_string(crs).to_wkt(), transform)
    return ArrayScene(np.zeros((1, *size), np.uint8), georef=georef)


def areas_of(scene, block_px=10_000, labels=None):
    """Areas of labels, all 0 if not given, summed over blocks."""
    whole = Window(0, 0, scene.height, scene.width)
    labels = np.zeros((scene.height, scene.width), np.uint8) if labels is None else labels
    sums = {}
    for top in range(0, scene.height, block_px):
        for left in range(0, scene.width, block_px):
            window = Window(top, left, block_px, block_px).intersect(whole)
            part = labels[window.slices_in(whole)]
            counts = np.bincount(part.ravel(), minlength=256)
            for label, area in label_areas_m2(scene.georef, window, part, counts).items():
                sums[label] = sums.get(label, 0) + area
    return sums


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


def test_is_not_known_without_a_map():
    nowhere = scene_at(None, Affine(1, 0, 0, 0, 1, 0))
    assert pixel_area_m2(nowhere) is None
    assert why_area_unknown(nowhere) == "there is no coordinate reference system"
    without = scene_at("EPSG:32633", None)
    assert pixel_area_m2(without) is None
    assert why_area_unknown(without) == "there is no transform"
    points = replace(without.georef, gcps=(Gcp(0.0, 0.0, 8.0, 4.0, 0.0, "1", ""),))
    assert "control points" in why_area_unknown(ArrayScene(np.zeros((1, 9, 9), np.uint8), georef=points))
    assert areas_of(without) == {}


def test_is_not_known_on_another_planet_and_says_so_in_a_line(caplog):
    mars = scene_at("+proj=longlat +a=3396190 +b=3376200 +no_defs", Affine(1e-4, 0, 8, 0, -1e-4, 4))
    assert pixel_area_m2(mars) is None
    assert areas_of(mars) == {}
    (message,) = caplog.messages
    assert "not known to lie on Earth" in message
    assert "\n" not in message
    assert len(message) < 120


def test_at_a_pole_the_scale_is_that_of_the_pole():
    area = pixel_area_m2(scene_at("EPSG:3031", Affine(40, 0, -1600, 0, -40, 2000)))
    # the scale of this projection at the pole is 0.97276901
    assert area == pytest.approx(1600 / 0.97276901**2, rel=1e-7)


@pytest.mark.parametrize(
    ("crs", "edge", "north", "size", "share"),
    [
        ("EPSG:4326", 0.5, 90, (360, 720), 1),
        ("EPSG:4326", 0.5, 45, (180, 720), math.sin(math.radians(45))),
        ("EPSG:3857", 2 * MERCATOR_M / 512, MERCATOR_M, (512, 512), math.tanh(math.pi)),
    ],
)
@pytest.mark.parametrize("block_px", [100, 1000])
def test_the_world_is_as_large_as_it_is(crs, edge, north, size, share, block_px):
    scene = scene_at(crs, Affine(edge, 0, -edge * size[1] / 2, 0, -edge, north), size)
    assert areas_of(scene, block_px)[0] == pytest.approx(share * EARTH_M2, rel=5e-3)


def test_a_label_has_the_area_of_where_it_lies():
    scene = scene_at("EPSG:4326", Affine(0.5, 0, -180, 0, -0.5, 90), (360, 720))
    labels = np.zeros((360, 720), np.uint8)
    labels[:60], labels[60:120, :360] = 255, 3
    found = areas_of(scene, labels=labels)
    sines = np.sin(np.radians([90, 60, 30, -90]))
    north, middle, _ = -np.diff(sines) / 2 * EARTH_M2
    # by the formula of a sphere: an ellipsoid has a little more at the poles
    assert found[255] == pytest.approx(north, rel=0.01)
    assert found[3] == pytest.approx(middle / 2, rel=0.01)
    assert sum(found.values()) == pytest.approx(EARTH_M2, rel=5e-3)


def test_corners_of_a_world_map_have_no_area():
    # an ellipse in its rectangle: PROJ takes none of what lies outside
    scene = scene_at("ESRI:54009", Affine(70_470, 0, -18_040_000, 0, -70_470, 9_020_000), (256, 512))
    assert areas_of(scene, 64)[0] == pytest.approx(EARTH_M2, rel=0.01)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:2263"])
def test_small_scenes_are_pixels_times_the_area_of_one(crs):
    scene = scene_at(crs, Affine(0.5, 0, 500_000, 0, -0.5, 4_600_000 if crs == "EPSG:32633" else 200_000))
    labels = np.arange(8000, dtype=np.uint8).reshape(100, 80) % 3
    area = pixel_area_m2(scene)
    for label, found in areas_of(scene, labels=labels).items():
        assert found == pytest.approx(np.count_nonzero(labels == label) * area, rel=1e-6)


def test_bytes_of_a_real_world_map(shared_data):
    with closing(open_scene(shared_data / "robust/rasterio/world.byte.tif")) as scene:
        # from 75 south to 75 north
        expected = math.sin(math.radians(75)) * EARTH_M2
        assert areas_of(scene, 512)[0] == pytest.approx(expected, rel=5e-3)
