"""Where pixels come from: the Scene protocol, and `open_scene`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hiresseg.scenes.area import label_areas_m2, pixel_area_m2, why_area_unknown
from hiresseg.scenes.pages import Pages
from hiresseg.scenes.raster import RasterScene
from hiresseg.scenes.scene import Pixels, Scene, Valid
from hiresseg.scenes.statistics import band_statistics

__all__ = [
    "Pages",
    "Pixels",
    "RasterScene",
    "Scene",
    "Valid",
    "band_statistics",
    "label_areas_m2",
    "open_scene",
    "pixel_area_m2",
    "why_area_unknown",
]


def open_scene(uri: str | Path, *, bands: Sequence[int] | None = None) -> Scene:
    """A scene from its address.

    Args:
        uri: path of a local GeoTIFF, BigTIFF and cloud-optimised ones among them.
        bands: indices of the bands to read, from 1, in any order; all but alpha if None.

    Raises:
        SceneError: if the file is missing, unreadable, or of a kind that is not taken.
    """
    return RasterScene(uri, bands=bands)
