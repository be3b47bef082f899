"""Figures for people: tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text


def print_evaluation(result: Mapping[str, Any], console: Console) -> None:
    """Print what `evaluate` gave."""
    console.print(_panoptic(result["panoptic"]) if "panoptic" in result else _classes(result))


def _classes(result: Mapping[str, Any]) -> RenderableType:
    total, images = result["total"], result["images"]
    parts: list[RenderableType] = [_class_table(total)]
    if "boundary_accuracy" in total:
        parts.append(_boundary_table(total))
    if len(images) > 1:
        parts.append(_image_table(images))
    parts += [Text(line) for line in _remarks(result)]
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None)
    table.add_column(columns[0], no_wrap=True)
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _class_table(total: Mapping[str, Any]) -> Table:
    edges = "boundary_iou" in total
    table = _table(
        f"{total['pixels']:,} pixels",
        *("class", "of truth", "IoU", "Dice", "precision", "recall"),
        *(["boundary IoU"] if edges else []),
    )
    for row in total["classes"]:
        table.add_row(
            escape(row["name"]),
            _percent(row["pixels"] / total["pixels"] if total["pixels"] else None),
            *(_score(row[key]) for key in ("iou", "dice", "precision", "recall")),
            *([_score(row["boundary_iou"])] if edges else []),
        )
    precisions = [row["precision"] for row in total["classes"] if row["precision"] is not None]
    table.add_row(
        "mean",
        "",
        _score(total["mean_iou"]),
        _score(total["mean_dice"]),
        _score(sum(precisions) / len(precisions) if precisions else None),
        _score(total["mean_pixel_accuracy"]),
        *([_score(total["boundary_iou"]["mean"])] if edges else []),
        style="bold",
    )
    return table


def _boundary_table(total: Mapping[str, Any]) -> Table:
    band = total["boundary_accuracy"]
    radii = list(band["within_px"])
    table = _table("\nnear true boundaries", "within", *(f"{radius} px" for radius in radii), "mean")
    table.add_row(
        "share right", *(_score(band["within_px"][radius]) for radius in radii), _score(band["mean"])
    )
    return table


def _image_table(images: list[Mapping[str, Any]]) -> Table:
    edges = "boundary_accuracy" in images[0]
    columns = ["image", "pixels", "pixel acc.", "mIoU"]
    table = _table("\nby image", *columns, *(["boundary acc.", "mBA", "boundary IoU"] if edges else []))
    for row in images:
        more = (
            [row["boundary_accuracy"]["mean"], row["mba_published"]["value"], row["boundary_iou"]["mean"]]
            if edges
            else []
        )
        table.add_row(
            escape(row["name"]),
            f"{row['pixels']:,}",
            *(_score(value) for value in (row["pixel_accuracy"], row["mean_iou"], *more)),
        )
    return table


def _remarks(result: Mapping[str, Any]) -> list[str]:
    total, images = result["total"], result["images"]
    whole = sum(row["height"] * row["width"] for row in images)
    accuracy, mean_accuracy = _score(total["pixel_accuracy"]), _score(total["mean_pixel_accuracy"])
    lines = ["", f"pixel accuracy {accuracy}, mean pixel accuracy {mean_accuracy}"]
    if "boundary_iou" in total:
        widths = total["boundary_iou"]["width_px"]
        width = f"{widths[0]}" if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
        radii = total["mba_published"]["radii_px"]
        lines += [
            f"boundary IoU with boundaries {width} px wide",
            f"mBA as published {_score(total['mba_published']['value'])}, radii {radii[0]} to {radii[-1]} px",
        ]
    if "seam" in total:
        seam = total["seam"]
        lines.append(
            f"seams: {seam['share']:.2%} of labels change with the lattice shifted, "
            f"{seam['share_near_boundaries']:.2%} within {seam['near_px']} px of boundaries"
        )
    if unknown := whole - total["pixels"]:
        share = unknown / whole
        lines.append(f"{unknown:,} pixels ({share:.1%}) count nowhere: the truth does not know them")
    if total["unanswered"]:
        lines.append(f"{total['unanswered']:,} pixels have no answer, and count as wrong")
    outside = sum(row["pixels_outside"] for row in images)
    if outside:
        lines.append(f"{outside:,} pixels of the truth lie outside the prediction, and are not compared")
    if total["absent"]:
        lines.append(f"left out of the means, since neither has any: {', '.join(total['absent'])}")
    if total.get("mba_published", {}).get("without_boundary"):
        lines.append(
            f"{total['mba_published']['without_boundary']} images have no boundary, and are left out of mBA"
        )
    return lines


def _panoptic(scores: Mapping[str, Any]) -> Table:
    table = _table("panoptic quality", "category", "PQ", "SQ", "RQ", "matched", "false", "missed")
    for category, row in scores["categories"].items():
        numbers = (_score(row[key]) for key in ("pq", "sq", "rq"))
        table.add_row(str(category), *numbers, *(f"{row[key]:,}" for key in ("matched", "false", "missed")))
    table.add_row("mean", *(_score(scores[key]) for key in ("pq", "sq", "rq")), style="bold")
    return table


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
