"""How large pixels are on the ground.

A pixel's edges go from the map to the ellipsoid, and its area is measured there: so degrees, web mercator and
feet come out right, beside a pole and across the date line too.
"""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Integer, UInt8
from rasterio._err import CPLE_BaseError, CPLE_NotSupportedError
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from hiresseg.geometry import Georef, Window
from hiresseg.scenes.scene import Scene

_log = logging.getLogger(__name__)

_PROBES = 5
"""Places per side of a window that tell whether its pixels are equally large."""
_CELLS = 64
"""Places per side of a window of which they are not."""
_UNIFORM = 1e-4
"""Areas that differ by less than this share are not told apart."""
_RADIUS_M = 6_378_137.0
_ECCENTRICITY_SQUARED = 0.0066943799901413165


class _AreaUnknownError(Exception):
    """Why the areas of pixels are not known."""


def pixel_area_m2(scene: Scene) -> float | None:
    """Area on the ground of a pixel at the scene's centre, in square metres.

    None where it is not known, for the reason that `why_area_unknown` gives.
    """
    try:
        return _area_at_centre(scene)
    except _AreaUnknownError as reason:
        if scene.georef.crs_wkt is not None and scene.georef.transform is not None:
            _log.warning("%s: the area of a pixel is not known: %s", scene.uri, reason)
        return None


def why_area_unknown(scene: Scene) -> str | None:
    """Why the areas of a scene's pixels are not known; None where they are."""
    try:
        _area_at_centre(scene)
    except _AreaUnknownError as reason:
        return str(reason)
    return None


def label_areas_m2(
    georef: Georef, window: Window, labels: UInt8[np.ndarray, "h w"], counts: Integer[np.ndarray, "256"]
) -> dict[int, float]:
    """Area on the ground of each label in a window, in square metres; empty where it is not known.

    Where pixels of the window differ in size, one is measured in the middle of each of 64 x 64 cells: one
    window may hold the world. What lies off the Earth, as the corners of some world maps do, has no area.

    Args:
        georef: where the whole grid lies.
        window: what of it `labels` is.
        labels: a label per pixel.
        counts: pixels of each label.
    """
    size = window.height, window.width
    try:
        areas = _lattice_areas(georef, window, *(np.linspace(0.5, edge - 0.5, _PROBES) for edge in size))
        if np.ptp(areas) <= _UNIFORM * areas.max():
            # nearly always, and no pixel is counted again
            found = counts * areas.mean()
        else:
            found = _sum_cells(georef, window, labels)
    except _AreaUnknownError:
        return {}
    return {int(label): float(found[label]) for label in np.flatnonzero(found)}


def _sum_cells(
    georef: Georef, window: Window, labels: UInt8[np.ndarray, "h w"]
) -> Float64[np.ndarray, "256"]:
    edges = [np.linspace(0, edge, min(_CELLS, edge) + 1).astype(int) for edge in labels.shape]
    areas = _lattice_areas(georef, window, *((each[1:] + each[:-1]) / 2 for each in edges))
    found = np.zeros(256)
    for row, (top, bottom) in enumerate(pairwise(edges[0])):
        for col, (left, right) in enumerate(pairwise(edges[1])):
            found += np.bincount(labels[top:bottom, left:right].ravel(), minlength=256) * areas[row, col]
    return found


def _lattice_areas(
    georef: Georef, window: Window, rows: Float64[np.ndarray, " R"], cols: Float64[np.ndarray, " C"]
) -> Float64[np.ndarray, "R C"]:
    """Areas of pixels where rows and columns of a window cross."""
    places = np.meshgrid(rows + window.top, cols + window.left, indexing="ij")
    return _pixel_areas(georef, *(each.ravel() for each in places)).reshape(len(rows), len(cols))


def _area_at_centre(scene: Scene) -> float:
    (area,) = _pixel_areas(scene.georef, np.array([scene.height / 2]), np.array([scene.width / 2]))
    if area == 0:
        raise _AreaUnknownError("the centre of the scene lies off the Earth")
    return float(area)


def _pixel_areas(
    georef: Georef, rows: Float64[np.ndarray, " N"], cols: Float64[np.ndarray, " N"]
) -> Float64[np.ndarray, " N"]:
    """Areas of pixels with these centres, in square metres; 0 for those off the Earth."""
    if georef.crs_wkt is None:
        raise _AreaUnknownError("there is no coordinate reference system")
    if georef.transform is None:
        raise _AreaUnknownError("there is no transform" + ", only control points" * bool(georef.gcps))
    # spelt out: releases of affine disagree on the operator
    a, b, c, d, e, f = georef.transform[:6]
    rights, downs = np.array([-0.5, 0.5, 0.5, -0.5]), np.array([-0.5, -0.5, 0.5, 0.5])
    xs, ys = cols[:, None] + rights, rows[:, None] + downs
    try:
        crs = CRS.from_wkt(georef.crs_wkt)
        corners = _to_space(crs, a * xs + b * ys + c, d * xs + e * ys + f)
    except (CRSError, CPLE_NotSupportedError) as error:
        raise _AreaUnknownError("its coordinate reference system is not known to lie on Earth") from error
    diagonals = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    return np.asarray(np.nan_to_num(np.linalg.norm(np.cross(*diagonals), axis=1) / 2))


def _to_space(
    crs: CRS, xs: Float64[np.ndarray, "N 4"], ys: Float64[np.ndarray, "N 4"]
) -> Float64[np.ndarray, "N 4 3"]:
    """Places on the map as places in space, in metres from the middle of the Earth; NaN off the Earth."""
    try:
        places = np.array(transform(crs, "EPSG:4326", xs.ravel(), ys.ravel()))
    except CPLE_NotSupportedError:
        raise
    except CPLE_BaseError:
        # one place off the Earth fails them all
        if len(xs) == 1:
            return np.full((1, 4, 3), np.nan)
        half = len(xs) // 2
        parts = (_to_space(crs, xs[part], ys[part]) for part in (slice(half), slice(half, None)))
        return np.concatenate(list(parts))
    # PROJ says either infinity or nothing at all
    lon, lat = np.radians(np.where(np.isfinite(places), places, np.nan)).reshape(2, *xs.shape)
    normal = _RADIUS_M / np.sqrt(1 - _ECCENTRICITY_SQUARED * np.sin(lat) ** 2)
    out = normal * np.cos(lat) * np.cos(lon), normal * np.cos(lat) * np.sin(lon)
    return np.stack([*out, (1 - _ECCENTRICITY_SQUARED) * normal * np.sin(lat)], axis=-1)
