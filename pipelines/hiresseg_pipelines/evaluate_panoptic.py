"""Panoptic quality of two maps of segment ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.metrics import PanopticCounts, PanopticScore, Segment, decode_ids
from hiresseg.metrics.comparison import WINDOW_PX, windows_of
from hiresseg_pipelines.evaluate_maps import PartOf, RasterMap, align

THING = 1
"""Category of the segments of a map that has no table of them."""


def evaluate_panoptic(prediction: Path, truth: Path, ignore: int | None) -> dict[str, Any]:
    """Scores of each category and their means.

    Ids are those of the one band, or R + 256 G + 65536 B. A COCO table in a .json beside the map gives their
    categories, and 0 is void then. Without one each id but 0 is a thing of one kind, and 0 is background.

    Args:
        prediction: raster of ids.
        truth: the same.
        ignore: an id in the truth that nobody knows; None for 0 if there is a table, and none else.

    Raises:
        SceneError: if one of them cannot be read, or they cannot be aligned.
    """
    maps = RasterMap(prediction, None), RasterMap(truth, None)
    try:
        windows = align(maps[0].grid, maps[1].grid, (str(prediction), str(truth)))
        counts = PanopticCounts()
        for window in windows_of(windows[0].height, windows[0].width, WINDOW_PX):
            told, true = (
                _read_ids(part, PartOf(part, place).place(window))
                for part, place in zip(maps, windows, strict=True)
            )
            counts.add(true, told)
    finally:
        for part in maps:
            part.close()
    tables = _read_table(prediction), _read_table(truth)
    told_ids, true_ids = (_segments(table, counts, side) for table, side in zip(tables, (1, 0), strict=True))
    void = ignore if ignore is not None else 0 if tables[1] is not None else None
    scores = counts.score(true_ids, told_ids, void=void)
    return {"categories": {key: _row(score) for key, score in scores.items()}, **_means(scores)}


def _row(score: PanopticScore) -> dict[str, Any]:
    numbers = {"pq": score.pq, "sq": score.sq, "rq": score.rq}
    return {**numbers, "matched": score.matched, "false": score.false, "missed": score.missed}


def _means(scores: Mapping[int, PanopticScore]) -> dict[str, float | None]:
    """Over the categories that either has, as published."""
    if not scores:
        return dict.fromkeys(("pq", "sq", "rq"))
    return {
        name: sum(getattr(score, name) for score in scores.values()) / len(scores)
        for name in ("pq", "sq", "rq")
    }


def _read_ids(source: RasterMap, window: Window) -> ndarray:
    pixels = source.read_raw(window)
    if len(pixels) >= 3 and pixels.dtype == np.uint8:
        return decode_ids(pixels[:3])
    ids: ndarray = pixels[0].astype(np.int64)
    if ids.size and not 0 <= ids.min() <= ids.max() < 2**32:
        raise SceneError(f"{source.path}: ids lie between 0 and 2**32, got {ids.min()} to {ids.max()}")
    return ids


def _segments(table: dict[int, Segment] | None, counts: PanopticCounts, side: int) -> dict[int, Segment]:
    if table is not None:
        return table
    return {pair[side]: Segment(THING) for pair in counts.shared if pair[side] != 0}


def _read_table(raster: Path) -> dict[int, Segment] | None:
    """Segments by id, from `annotations` or `segments_info` in the .json beside the raster."""
    path = raster.with_suffix(".json")
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        images = content.get("annotations", [content])
        mine = [image for image in images if image.get("file_name", raster.name) == raster.name]
        return {
            int(row["id"]): Segment(int(row["category_id"]), bool(row.get("iscrowd", 0)))
            for row in mine[0]["segments_info"]
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SceneError(
            f"{path}: is no COCO table of the segments of {raster.name} ({error}); repair it, or move "
            f"it away to take all ids as things of one kind"
        ) from error
