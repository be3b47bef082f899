"""The words and swatches beside a picture."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hiresseg.sinks.meaning import FILL, ClassMeaning
from hiresseg.sinks.overlay import draw_checker, is_painted

INK: Final = (32, 36, 44)
_FAINT: Final = (118, 124, 134)
_FRAME: Final = (178, 184, 192)
_PAPER: Final = (255, 255, 255)

_TEXT_PX: Final = 18
_LINE_PX: Final = 32
_SWATCH_PX: Final = 20
_GAP_PX: Final = 10
_COLUMN_GAP_PX: Final = 36
_NAME_PX_AT_MOST: Final = 300
_ENTRIES_AT_MOST: Final = 24
_SMOOTHING: Final = 4


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One line: a swatch, a name, a share."""

    name: str
    share: str
    color: tuple[int, int, int] | None = None
    """None for a class that is not painted."""
    is_hole: bool = False
    """The checker of what has no answer."""

    @property
    def width_px(self) -> int:
        """Width of the line."""
        return (
            _SWATCH_PX + 2 * _GAP_PX + measure_text(self.name, _TEXT_PX) + measure_text(self.share, _TEXT_PX)
        )


@dataclass(frozen=True, slots=True)
class Legend:
    """Entries in columns, filled downwards."""

    entries: tuple[LegendEntry, ...]
    columns: int

    @property
    def lines(self) -> int:
        """Entries of a full column."""
        return -(-len(self.entries) // self.columns)

    @property
    def column_px(self) -> int:
        """Width of a column."""
        return max(entry.width_px for entry in self.entries)

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.lines * _LINE_PX, self.columns * (self.column_px + _COLUMN_GAP_PX) - _COLUMN_GAP_PX


def list_entries(labels: np.ndarray, meaning: ClassMeaning) -> tuple[LegendEntry, ...]:
    """One entry per class, with its share of the pixels that have an answer; of many, the most frequent."""
    counts = np.bincount(labels.ravel(), minlength=256)
    answered = int(counts[:FILL].sum())
    order = sorted(range(len(meaning.classes)), key=lambda value: (-int(counts[value]), value))
    shown = sorted(order[:_ENTRIES_AT_MOST])
    entries = [
        LegendEntry(
            shorten_text(meaning.classes[value].name, _TEXT_PX, _NAME_PX_AT_MOST),
            _format_share(int(counts[value]), answered),
            meaning.classes[value].color if is_painted(meaning, value) else None,
        )
        for value in shown
    ]
    if len(order) > len(shown):
        rest = sum(int(counts[value]) for value in order[_ENTRIES_AT_MOST:])
        entries.append(LegendEntry(f"{len(order) - len(shown)} more", _format_share(rest, answered)))
    if counts[FILL]:
        entries.append(LegendEntry("no data", _format_share(int(counts[FILL]), labels.size), is_hole=True))
    return tuple(entries)


def fit_legend(entries: tuple[LegendEntry, ...], width_px: int) -> Legend:
    """Use as many columns as fit into `width_px`, at least one, and no more than are needed."""
    widest = max(entry.width_px for entry in entries)
    columns = max(1, min(len(entries), (width_px + _COLUMN_GAP_PX) // (widest + _COLUMN_GAP_PX)))
    lines = -(-len(entries) // columns)
    return Legend(entries, -(-len(entries) // lines))


def draw_legend(picture: Image.Image, legend: Legend, top: int, left: int) -> None:
    """Draw into `picture` with the upper left corner at (top, left)."""
    draw = ImageDraw.Draw(picture)
    for index, entry in enumerate(legend.entries):
        column, line = divmod(index, legend.lines)
        x, y = left + column * (legend.column_px + _COLUMN_GAP_PX), top + line * _LINE_PX
        picture.paste(_draw_swatch(entry), (x, y + (_LINE_PX - _SWATCH_PX) // 2))
        x += _SWATCH_PX + _GAP_PX
        middle = y + _LINE_PX // 2
        draw.text((x, middle), entry.name, INK, _load_font(_TEXT_PX), anchor="lm")
        x += measure_text(entry.name, _TEXT_PX) + _GAP_PX
        draw.text((x, middle), entry.share, _FAINT, _load_font(_TEXT_PX), anchor="lm")


def draw_text(picture: Image.Image, text: str, *, top: int, left: int, size_px: int) -> None:
    """Draw one line of text."""
    ImageDraw.Draw(picture).text((left, top), text, INK, _load_font(size_px), anchor="lt")


def measure_text(text: str, size_px: int) -> int:
    """Width of a line of text in pixels."""
    return int(_load_font(size_px).getlength(text) + 0.999)


def shorten_text(text: str, size_px: int, width_px: int) -> str:
    """As much of `text` as fits, as one line, with dots for what does not."""
    line = " ".join(text.split())
    if measure_text(line, size_px) <= width_px:
        return line
    while line and measure_text(line + "...", size_px) > width_px:
        line = line[:-1]
    return line.rstrip() + "..."


@lru_cache(maxsize=4)
def _load_font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _draw_swatch(entry: LegendEntry) -> Image.Image:
    size = _SWATCH_PX
    if entry.is_hole:
        fill = Image.fromarray(draw_checker(size, size))
    else:
        fill = Image.new("RGB", (size, size), entry.color or _PAPER)
    frame = tuple(part * 3 // 4 for part in entry.color) if entry.color else _FRAME
    # Pillow draws no smooth curves: draw large and shrink
    large = size * _SMOOTHING
    corners, inside = Image.new("L", (large, large)), Image.new("L", (large, large))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, large - 1, large - 1), 5 * _SMOOTHING, 255)
    border = round(1.5 * _SMOOTHING)
    rest = large - 1 - border
    ImageDraw.Draw(inside).rounded_rectangle((border, border, rest, rest), 4 * _SMOOTHING, 255)
    swatch = Image.new("RGB", (size, size), _PAPER)
    swatch.paste(frame, mask=corners.resize((size, size), Image.Resampling.BOX))
    swatch.paste(fill, mask=inside.resize((size, size), Image.Resampling.BOX))
    return swatch


def _format_share(count: int, total: int) -> str:
    if count == 0:
        return "0 %"
    percent = 100 * count / total
    if percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %"
