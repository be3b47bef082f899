"""How large a pixel is on the ground."""

from __future__ import annotations

import logging

from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from hiresseg.scenes.scene import Scene

_log = logging.getLogger(__name__)


def pixel_area_m2(scene: Scene) -> float | None:
    """Area on the ground of a pixel at the scene's centre, in square metres.

    Measured on an equal-area projection centred there, so that degrees and web mercator come out right.
    None where the scene has no coordinate reference system or transform, or lies on no known Earth.
    """
    georef = scene.georef
    if georef.crs_wkt is None or georef.transform is None:
        return None
    row, col = scene.height / 2, scene.width / 2
    corners = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (0.0, 0.0)]
    # spelt out: releases of affine disagree on the operator
    a, b, c, d, e, f = georef.transform[:6]
    places = [(col + right, row + down) for right, down in corners]
    xs = [a * x + b * y + c for x, y in places]
    ys = [d * x + e * y + f for x, y in places]
    try:
        crs = CRS.from_wkt(georef.crs_wkt)
        (lon,), (lat,) = transform(crs, "EPSG:4326", xs[-1:], ys[-1:])
        local = CRS.from_string(f"+proj=laea +lat_0={lat!r} +lon_0={lon!r} +datum=WGS84 +units=m")
        east, north = transform(crs, local, xs[:-1], ys[:-1])
    except (CRSError, CPLE_BaseError) as error:
        _log.warning("%s: the area of a pixel is not known (%s)", scene.uri, error)
        return None
    doubled = sum(east[i - 1] * north[i] - east[i] * north[i - 1] for i in range(4))
    return float(abs(doubled) / 2)
