"""A comparison as plain numbers, for JSON and for tables; null is what has no value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from hiresseg.metrics import Comparison, SeamCounts
from hiresseg.models import ClassInfo


def describe_scores(
    comparison: Comparison, classes: Sequence[ClassInfo], seams: SeamCounts | None = None
) -> dict[str, Any]:
    """All figures of one image, or of all of them together."""
    matrix = comparison.confusion
    edges = comparison.boundary_iou_by_class if comparison.boundary_iou else None
    rows: list[dict[str, Any]] = [
        {
            "value": value,
            "name": info.name,
            "pixels": int(matrix.truth_pixels[value]),
            "predicted": int(matrix.predicted_pixels[value]),
            "iou": _number(matrix.iou[value]),
            "dice": _number(matrix.dice[value]),
            "precision": _number(matrix.precision[value]),
            "recall": _number(matrix.recall[value]),
            **({"boundary_iou": _number(edges[value])} if edges is not None else {}),
        }
        for value, info in enumerate(classes)
    ]
    return {
        "pixels": matrix.num_pixels,
        "unanswered": int(matrix.counts[:, -1].sum()),
        "pixel_accuracy": _number(matrix.pixel_accuracy),
        "mean_pixel_accuracy": _number(matrix.mean_pixel_accuracy),
        "mean_iou": _number(matrix.mean_iou),
        "mean_dice": _mean(row["dice"] for row in rows),
        "absent": [classes[value].name for value in matrix.absent],
        "classes": rows,
        "confusion": matrix.counts.tolist(),
        **_boundaries(comparison, edges),
        **({} if seams is None else {"seam": _seam(seams)}),
    }


def _boundaries(comparison: Comparison, edges: list[float] | None) -> dict[str, Any]:
    if comparison.bands is None or edges is None:
        return {}
    by_radius = {str(radius): _number(share) for radius, share in comparison.bands.by_radius.items()}
    widths = sorted({part.distance_px for part in comparison.boundary_iou})
    return {
        "boundary_accuracy": {"mean": comparison.bands.mean, "within_px": by_radius},
        "mba_published": {
            "value": comparison.mba,
            "images": len(comparison.published) - comparison.without_boundary,
            "without_boundary": comparison.without_boundary,
            "radii_px": sorted({radius for part in comparison.published for radius in part.radii_px}),
        },
        "boundary_iou": {"mean": _mean(map(_number, edges)), "width_px": widths},
    }


def _seam(seams: SeamCounts) -> dict[str, Any]:
    return {
        "share": seams.share,
        "share_near_boundaries": seams.near_share,
        "near_px": seams.band_px,
        "changed": seams.changed,
        "pixels": seams.pixels,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
