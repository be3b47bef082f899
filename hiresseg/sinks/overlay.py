"""A mask painted over its image."""

from typing import Final

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from hiresseg.sinks.meaning import FILL, ClassMeaning

_OPACITY: Final = 0.45
_EDGE_OPACITY: Final = 0.9
_EDGE_SHADE: Final = 0.5
_STRETCH_PERCENT: Final = (2, 98)
_SAMPLES_AT_MOST: Final = 1_000_000
_CHECKER_PX: Final = 12
_CHECKER_LIGHT: Final = 244
_CHECKER_DARK: Final = 224


def is_painted(meaning: ClassMeaning, value: int) -> bool:
    """Whether a class is shown in its colour: all but a first one that is named background, or black."""
    first = meaning.classes[value]
    return value > 0 or not (first.name.strip().lower() == "background" or tuple(first.color) == (0, 0, 0))


def stretch_bands(
    image: Shaped[np.ndarray, "C h w"], valid: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Bring each band's 2nd to 98th percentile of valid pixels to 0 to 255.

    Args:
        image: one band, shown grey, or three; any real type.
        valid: which pixels count; the others come out as they may.
    """
    step = max(1, int((valid.size / _SAMPLES_AT_MOST) ** 0.5))
    is_sampled = valid[::step, ::step] if valid[::step, ::step].any() else valid
    step = step if is_sampled.shape != valid.shape else 1
    bands = []
    for band in image:
        sample = band[::step, ::step][is_sampled]
        low, high = np.percentile(sample, _STRETCH_PERCENT) if sample.size else (0.0, 0.0)
        if high <= low:
            # a band of one value has nothing to show: mid grey
            bands.append(np.full(band.shape, 127, np.uint8))
        elif band.dtype.kind == "u" and band.dtype.itemsize <= 2:
            values = np.arange(np.iinfo(band.dtype).max + 1)
            bands.append(((values - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)[band])
        else:
            scaled = (band.astype(np.float32) - low) * (255 / (high - low))
            bands.append(np.clip(np.nan_to_num(scaled), 0, 255).astype(np.uint8))
    return np.stack(bands * 3 if len(bands) == 1 else bands, axis=-1)


def paint_labels(
    base: UInt8[np.ndarray, "h w 3"],
    labels: UInt8[np.ndarray, "h w"],
    meaning: ClassMeaning,
    *,
    edge_px: int = 1,
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay class colours over `base`, with darker edges, and a light checker where there is no answer.

    Args:
        base: the image.
        labels: class of each pixel, or fill.
        meaning: the classes.
        edge_px: thickness of the edges, which lie inside their class.
    """
    colors = np.zeros((256, 3), np.float32)
    painted = np.zeros(256, bool)
    for value, entry in enumerate(meaning.classes):
        colors[value], painted[value] = entry.color, is_painted(meaning, value)
    is_edge = _find_edges(labels, edge_px) & painted[labels]
    paint = colors[labels]
    paint[is_edge] *= _EDGE_SHADE
    opacity = np.where(is_edge, _EDGE_OPACITY, _OPACITY * painted[labels]).astype(np.float32)[..., None]
    mixed: np.ndarray = base * (1 - opacity) + paint * opacity
    hole = labels == FILL
    mixed[hole] = draw_checker(*labels.shape)[hole]
    painted_image: np.ndarray = np.round(mixed).astype(np.uint8)
    return painted_image


def draw_checker(height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """A light checkerboard."""
    rows, cols = np.arange(height) // _CHECKER_PX, np.arange(width) // _CHECKER_PX
    gray = np.where((rows[:, None] + cols) % 2, _CHECKER_DARK, _CHECKER_LIGHT).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def _find_edges(labels: UInt8[np.ndarray, "h w"], edge_px: int) -> Bool[np.ndarray, "h w"]:
    edges: np.ndarray = np.zeros(labels.shape, bool)
    for step in range(1, edge_px + 1):
        differs = labels[step:] != labels[:-step]
        edges[step:] |= differs
        edges[:-step] |= differs
        differs = labels[:, step:] != labels[:, :-step]
        edges[:, step:] |= differs
        edges[:, :-step] |= differs
    return edges
