"""Polygons as a map of classes, drawn on the grid of the prediction, a window at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from jaxtyping import Int16
from numpy import ndarray
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.features import bounds, rasterize
from rasterio.warp import transform_geom

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg_pipelines.evaluate_maps import Grid

VECTOR_SUFFIXES = (".geojson", ".json")


class PolygonMap:
    """Polygons of a GeoJSON: the pixels whose centres they hold are of their class, all others of class 0.

    Args:
        path: the file; WGS 84 unless it names another CRS in the old way.
        grid: where to draw.
        attribute: the property that holds the class; where a polygon has none it is of class 1.

    Raises:
        SceneError: if it is no GeoJSON of polygons, or the grid has no place on the map.
    """

    def __init__(self, path: Path, grid: Grid, attribute: str = "class") -> None:
        if grid.transform is None or not grid.crs:
            raise SceneError(
                f"{path}: is drawn on the grid of the prediction, which needs a CRS and a transform for it"
            )
        self.path, self.grid = path, grid
        self.height, self.width = grid.height, grid.width
        source, features = _load(path)
        self._shapes: list[tuple[dict[str, Any], int]] = []
        boxes = []
        to_pixels = ~grid.transform
        for index, feature in enumerate(features):
            geometry = feature.get("geometry") or {}
            if geometry.get("type") not in {"Polygon", "MultiPolygon"}:
                continue
            value = _class_of(path, index, feature, attribute)
            try:
                drawn = transform_geom(source, grid.crs, geometry) if source != grid.crs else geometry
                west, south, east, north = bounds(drawn)
            except (RasterioError, CRSError, ValueError, KeyError, TypeError) as error:
                raise SceneError(f"{path}: feature {index} cannot be placed ({error}); repair it") from error
            corners = [to_pixels @ (x, y) for x in (west, east) for y in (south, north)]
            cols, rows = zip(*corners, strict=True)
            boxes.append((min(rows), min(cols), max(rows), max(cols)))
            self._shapes.append((drawn, value))
        if not self._shapes:
            raise SceneError(f"{path}: holds no polygon; give the outlines of what there is")
        self._boxes = np.array(boxes)
        self.num_classes = max(value for _, value in self._shapes) + 1

    def read(self, window: Window) -> Int16[ndarray, "h w"]:
        """Class of each pixel of a window; where polygons overlap, the later one's."""
        assert self.grid.transform is not None
        top, left, bottom, right = self._boxes.T
        near = (
            (top <= window.bottom) & (bottom >= window.top) & (left <= window.right) & (right >= window.left)
        )
        shapes = [self._shapes[index] for index in np.flatnonzero(near)]
        labels: ndarray = np.zeros((window.height, window.width), np.int16)
        if shapes and window.num_pixels:
            moved = self.grid.transform @ Affine.translation(window.left, window.top)
            rasterize(shapes, out=labels, transform=moved)
        return labels


def _load(path: Path) -> tuple[CRS, list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_bytes())
        features = content["features"] if content["type"] == "FeatureCollection" else [content]
        named = (content.get("crs") or {}).get("properties", {}).get("name", "EPSG:4326")
        return CRS.from_user_input(named), list(features)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CRSError, RecursionError) as error:
        raise SceneError(
            f"{path}: is no GeoJSON that can be read ({error}); write it with `ogr2ogr truth.geojson`"
        ) from error


def _class_of(path: Path, index: int, feature: dict[str, Any], attribute: str) -> int:
    value = (feature.get("properties") or {}).get(attribute, 1)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 255:
        raise SceneError(
            f"{path}: {attribute!r} of feature {index} is {value!r}, and a class is a number from 0 to 254; "
            f"name another property with --class-attribute"
        )
    return value
