"""How a training went: event files for TensorBoard while it runs, one picture when it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image, ImageDraw

from hiresseg.training.loop import Point

_WIDTH, _HEIGHT, _MARGIN = 720, 260, 56
_INK, _GRID = (40, 40, 40), (220, 220, 220)
_COLORS = {"loss": (200, 80, 40), "score": (30, 110, 180)}


class CurveWriter:
    """Writes each validation to an event file, where TensorBoard is installed; otherwise says so once.

    Args:
        folder: for the event files, which are only ever added to.
        say: takes what is to be said.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            say("no event files: TensorBoard is not installed (pip install 'hiresseg[tensorboard]')")
        else:
            self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, point: Point) -> None:
        """One validation."""
        if self._writer is None:
            return
        for name, value in (
            ("loss/training", point.loss),
            ("score/validation", point.score),
            ("learning_rate", point.learning_rate),
        ):
            self._writer.add_scalar(name, value, point.step)
        self._writer.flush()


def draw_curves(curve: Sequence[Point], path: Path) -> None:
    """A picture of loss and score over the steps.

    Args:
        curve: at least one point.
        path: of the PNG.
    """
    picture = Image.new("RGB", (_WIDTH, 2 * _HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    steps = [point.step for point in curve]
    _draw_one(draw, 0, "loss", steps, [point.loss for point in curve])
    _draw_one(draw, _HEIGHT, "score", steps, [point.score for point in curve])
    picture.save(path)


def _draw_one(
    draw: ImageDraw.ImageDraw, top: int, name: str, steps: Sequence[int], values: Sequence[float]
) -> None:
    low, high = min(0.0, *values), max(*values, 1e-6)
    left, right, floor, ceiling = _MARGIN, _WIDTH - 16, top + _HEIGHT - 34, top + 30
    for part in range(5):
        y = floor + (ceiling - floor) * part / 4
        draw.line([(left, y), (right, y)], fill=_GRID)
        draw.text((6, y - 6), f"{low + (high - low) * part / 4:.3g}", fill=_INK)
    draw.text((left, top + 10), f"{name}, {values[-1]:.4g} at step {steps[-1]}", fill=_INK)
    draw.text((left, floor + 8), "0", fill=_INK)
    draw.text((right - 40, floor + 8), f"{steps[-1]}", fill=_INK)
    places = [
        (left + (right - left) * step / steps[-1], floor + (ceiling - floor) * (value - low) / (high - low))
        for step, value in zip(steps, values, strict=True)
    ]
    if len(places) > 1:
        draw.line(places, fill=_COLORS[name], width=2)
    for x, y in places:
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=_COLORS[name])
