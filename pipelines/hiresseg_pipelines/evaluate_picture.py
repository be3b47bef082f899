"""A picture of an evaluation: where the errors lie, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from hiresseg.durable import replacing
from hiresseg.metrics import Confusion, ErrorMap
from hiresseg.models import ClassInfo
from hiresseg.sinks.legend import INK, Legend, LegendEntry, draw_legend, draw_text, shorten_text
from hiresseg.sinks.overlay import draw_checker

_COLORS: Final = ((92, 158, 110), (240, 241, 239), (214, 69, 65), (58, 102, 204), (84, 84, 92))
"""Right and not class 0, right and class 0, wrongly found, missed, no answer."""
_MARGIN_PX: Final = 36
_TITLE_PX: Final = 28
_TEXT_PX: Final = 17
_SMALL_PX: Final = 14
_MAP_PX: Final = 900
_SMALLEST_PX: Final = 480
_CELLS_AT_MOST: Final = 24
_FAINT: Final = (118, 124, 134)
_BORDER: Final = (206, 210, 216)
_DEEP: Final = (38, 70, 138)
_PAPER: Final = (255, 255, 255)


def write_error_picture(
    path: Path, errors: ErrorMap, confusion: Confusion, classes: Sequence[ClassInfo], *, title: str
) -> None:
    """Write a PNG of the error map and, beside it, the confusion matrix.

    Args:
        path: the final name.
        errors: right and wrong pixels, by place.
        confusion: the matrix.
        classes: what its rows are called.
        title: one line above.

    Raises:
        StoreError: if the file cannot be written.
    """
    picture = _draw_map(errors)
    counts = errors.counts.sum(axis=(1, 2))
    known = max(1, int(counts.sum()))
    entries = tuple(
        LegendEntry(name, f"{100 * int(count) / known:.1f} %", color)
        for name, color, count in zip(_name_kinds(classes), _COLORS, counts, strict=True)
        # said only where there is any
        if count or name != "no answer"
    )
    if int(counts.sum()) < errors.num_pixels:
        share = 1 - counts.sum() / errors.num_pixels
        entries += (LegendEntry("not known", f"{share:.1%}".replace("%", " %"), is_hole=True),)
    legend = Legend(entries, 1)
    matrix = _draw_matrix(confusion, classes)
    side_width = max(matrix.width, legend.size_px[1])
    top = 2 * _MARGIN_PX + _TITLE_PX
    body = max(picture.height, legend.size_px[0] + _MARGIN_PX + matrix.height)
    page = Image.new("RGB", (picture.width + side_width + 3 * _MARGIN_PX, top + body + _MARGIN_PX), _PAPER)
    width = page.width - 2 * _MARGIN_PX
    draw_text(page, shorten_text(title, _TITLE_PX, width), top=_MARGIN_PX, left=_MARGIN_PX, size_px=_TITLE_PX)
    page.paste(picture, (_MARGIN_PX, top))
    frame = _MARGIN_PX - 1, top - 1, _MARGIN_PX + picture.width, top + picture.height
    ImageDraw.Draw(page).rectangle(frame, outline=_BORDER)
    left = picture.width + 2 * _MARGIN_PX
    draw_legend(page, legend, top, left)
    page.paste(matrix, (left, top + legend.size_px[0] + _MARGIN_PX))
    with replacing(path) as partial_path:
        page.save(partial_path, format="PNG", compress_level=6)


def _name_kinds(classes: Sequence[ClassInfo]) -> tuple[str, ...]:
    first = shorten_text(classes[0].name, _TEXT_PX, 150)
    if len(classes) != 2:
        return "right", f"right: {first}", "wrong", f"taken for {first}", "no answer"
    second = shorten_text(classes[1].name, _TEXT_PX, 150)
    return f"right: {second}", f"right: {first}", "found, not there", "there, not found", "no answer"


def _draw_map(errors: ErrorMap) -> Image.Image:
    shares = errors.shares
    colors = np.array(_COLORS, np.float32)
    painted: ndarray = np.tensordot(shares, colors, axes=(0, 0))
    unknown = shares.sum(axis=0) == 0
    painted[unknown] = draw_checker(*unknown.shape)[unknown]
    image = Image.fromarray(np.round(painted).clip(0, 255).astype(np.uint8))
    longest = max(image.size)
    if longest > _MAP_PX:
        scale = _MAP_PX / longest
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        return image.resize(size, Image.Resampling.BOX)
    factor = max(1, _SMALLEST_PX // longest)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _draw_matrix(confusion: Confusion, classes: Sequence[ClassInfo]) -> Image.Image:
    """Rows are truth and add up to one; of many classes those with the most pixels."""
    counts = confusion.counts
    shown = sorted(np.argsort(-confusion.truth_pixels, kind="stable")[:_CELLS_AT_MOST].tolist())
    columns = [*shown, *([confusion.num_classes] if counts[:, -1].any() else [])]
    names = [shorten_text(info.name, _TEXT_PX, 150) for info in classes] + ["no answer"]
    cell = 112 if len(shown) <= 3 else 96 if len(shown) <= 5 else 64 if len(shown) <= 9 else 34
    font, small = ImageFont.load_default(_TEXT_PX), ImageFont.load_default(_SMALL_PX)
    head = max(int(font.getlength(names[index])) for index in columns) + 16
    turned = head > cell
    left = max(int(font.getlength(names[index])) for index in shown) + 16
    above = 34 + (head if turned else _TEXT_PX + 14)
    page = Image.new("RGB", (max(left + cell * len(columns) + 2, 320), above + cell * len(shown) + 2), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((0, 0), "truth in rows, prediction in columns", _FAINT, small, anchor="lt")
    for at, index in enumerate(columns):
        x = left + cell * at + cell // 2
        if turned:
            _draw_turned(page, names[index], (x, above - 8), font)
        else:
            draw.text((x, above - 12), names[index], INK, font, anchor="ms")
    for line, row in enumerate(shown):
        y = above + cell * line
        draw.text((left - 10, y + cell // 2), names[row], INK, font, anchor="rm")
        total = int(counts[row].sum())
        for at, col in enumerate(columns):
            share = counts[row, col] / total if total else 0.0
            box = left + cell * at, y, left + cell * (at + 1), y + cell
            draw.rectangle(box, fill=_shade(share), outline=_BORDER)
            _fill_cell(draw, box, share, int(counts[row, col]), (font, small))
    return page


def _fill_cell(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    share: float,
    count: int,
    fonts: tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, ImageFont.FreeTypeFont | ImageFont.ImageFont],
) -> None:
    x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    ink = _PAPER if share > 0.55 else INK
    wide = box[2] - box[0]
    if wide < 60:
        if count:
            draw.text((x, y), f"{100 * share:.0f}", ink, fonts[1], anchor="mm")
        return
    faint = (214, 222, 240) if share > 0.55 else _FAINT
    draw.text((x, y - 9), f"{100 * share:.1f} %", ink, fonts[0] if wide > 80 else fonts[1], anchor="mm")
    draw.text((x, y + 13), _short_count(count), faint, fonts[1], anchor="mm")


def _draw_turned(
    page: Image.Image, text: str, foot: tuple[int, int], font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    strip = Image.new("RGB", (int(font.getlength(text)) + 2, _TEXT_PX + 8), _PAPER)
    ImageDraw.Draw(strip).text((0, strip.height // 2), text, INK, font, anchor="lm")
    strip = strip.rotate(90, expand=True)
    page.paste(strip, (foot[0] - strip.width // 2, foot[1] - strip.height))


def _shade(share: float) -> tuple[int, int, int]:
    # the root, so that the few wrong pixels show beside the many right ones
    weight = float(share) ** 0.6
    red, green, blue = (round(255 + (deep - 255) * weight) for deep in _DEEP)
    return red, green, blue


def _short_count(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
