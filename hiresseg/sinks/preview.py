"""A picture of the answer, to be looked at first."""

from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image, ImageDraw

from hiresseg.durable import replacing
from hiresseg.sinks.legend import (
    Legend,
    LegendEntry,
    draw_legend,
    draw_text,
    fit_legend,
    list_entries,
    shorten_text,
)
from hiresseg.sinks.meaning import FILL, ClassMeaning
from hiresseg.sinks.overlay import paint_labels, stretch_bands

_LONG_SIDE_PX: Final = 1600
# a small scene is shown in larger pixels, so that the words do not outweigh it
_SMALL_SIDE_PX: Final = 640
_THICK_EDGES_FROM_PX: Final = 900
_MARGIN_PX: Final = 32
_TITLE_PX: Final = 28
_HEADER_PX: Final = 60
_LEGEND_GAP_PX: Final = 20
_LEGEND_PX_AT_LEAST: Final = 900
_PAPER: Final = (255, 255, 255)
_BORDER: Final = (206, 210, 216)


def write_preview(
    path: Path | str,
    image: Shaped[np.ndarray, "C h w"],
    labels: UInt8[np.ndarray, "h w"],
    meaning: ClassMeaning,
    *,
    title: str,
    valid: Bool[np.ndarray, "h w"] | None = None,
) -> None:
    """Write a PNG of the mask over its image, with a title, and a legend that gives each class's share.

    Args:
        path: the final name.
        image: one or three bands of a thumbnail, any real type.
        labels: class of each pixel at the same size; 255 is shown as no data.
        meaning: names and colours.
        title: one line above the picture; cut where it is too long.
        valid: pixels of `image` that mean something; None if all do. NaN never does.

    Raises:
        StoreError: if the file cannot be written.
        ValueError: if the image has neither one nor three bands, or labels name no class.
    """
    if image.shape[0] not in (1, 3):
        raise ValueError(f"a preview shows one or three bands, got {image.shape[0]}; choose among them")
    unknown = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[len(meaning.classes) : FILL])
    if unknown.size:
        value = int(unknown[0]) + len(meaning.classes)
        raise ValueError(f"labels hold {value}, but there are only {len(meaning.classes)} classes")
    is_shown = np.isfinite(image).all(axis=0)
    if valid is not None:
        is_shown &= valid
    shown_labels = np.where(is_shown, labels, FILL).astype(np.uint8)
    is_beside = labels.shape[0] > labels.shape[1]
    size, legend = _fit_picture(labels.shape, list_entries(shown_labels, meaning), is_beside=is_beside)
    picture = _paint(image, shown_labels, is_shown, meaning, size)
    with replacing(Path(path)) as partial_path:
        # level 1: a photograph hardly shrinks further, and the picture would cost more than the mask
        page = _lay_out(picture, legend, title, is_beside=is_beside)
        page.save(partial_path, format="PNG", compress_level=1)


def _paint(
    image: np.ndarray, labels: np.ndarray, is_shown: np.ndarray, meaning: ClassMeaning, size: tuple[int, int]
) -> Image.Image:
    height, width = size
    smooth = Image.Resampling.LANCZOS if height < labels.shape[0] else Image.Resampling.NEAREST
    base = Image.fromarray(stretch_bands(image, is_shown)).resize((width, height), smooth)
    mask = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    edge_px = 2 if max(size) >= _THICK_EDGES_FROM_PX else 1
    return Image.fromarray(paint_labels(np.asarray(base), np.asarray(mask), meaning, edge_px=edge_px))


def _lay_out(picture: Image.Image, legend: Legend, title: str, *, is_beside: bool) -> Image.Image:
    legend_height, legend_width = legend.size_px
    body_height, body_width = (
        max(picture.height, legend_height),
        picture.width + _LEGEND_GAP_PX + legend_width,
    )
    if not is_beside:
        body_height = picture.height + _LEGEND_GAP_PX + legend_height
        body_width = max(picture.width, legend_width)
    top, left = _HEADER_PX + _MARGIN_PX // 2, _MARGIN_PX
    page = Image.new("RGB", (body_width + 2 * _MARGIN_PX, top + body_height + _MARGIN_PX), _PAPER)
    draw_text(page, shorten_text(title, _TITLE_PX, body_width), top=_MARGIN_PX, left=left, size_px=_TITLE_PX)
    page.paste(picture, (left, top))
    frame = left - 1, top - 1, left + picture.width, top + picture.height
    ImageDraw.Draw(page).rectangle(frame, outline=_BORDER)
    if is_beside:
        draw_legend(page, legend, top, left + picture.width + _LEGEND_GAP_PX)
    else:
        draw_legend(page, legend, top + picture.height + _LEGEND_GAP_PX, left)
    return page


def _fit_picture(
    shape: tuple[int, int], entries: tuple[LegendEntry, ...], *, is_beside: bool
) -> tuple[tuple[int, int], Legend]:
    """Size of the picture, and its legend, so that the page stays within its long side."""
    height, width = _LONG_SIDE_PX - _HEADER_PX - 2 * _MARGIN_PX, _LONG_SIDE_PX - 2 * _MARGIN_PX
    if is_beside:
        legend = Legend(entries, columns=1)
        return _fit_into(shape, height, width - _LEGEND_GAP_PX - legend.size_px[1]), legend
    legend = fit_legend(entries, width)
    # a narrower picture has a legend of more lines, which leaves less height: a few rounds settle it
    for _ in range(3):
        size = _fit_into(shape, height - _LEGEND_GAP_PX - legend.size_px[0], width)
        legend = fit_legend(entries, max(size[1], _LEGEND_PX_AT_LEAST))
    return _fit_into(shape, height - _LEGEND_GAP_PX - legend.size_px[0], width), legend


def _fit_into(shape: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    scale = min(height / shape[0], width / shape[1])
    if scale >= 1:
        scale = max(1, min(int(scale), _SMALL_SIDE_PX // max(shape)))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
