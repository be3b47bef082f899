"""Mean and deviation of a scene's bands, for one normalisation of the whole scene."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import numpy as np
from jaxtyping import Float64, Shaped

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.scenes.scene import Scene

SAMPLE_PX = 4 << 20
_MIN_UNITS = 64
_MAX_SAMPLE_PX = 64 << 20
_PIECE_SAMPLES = 1 << 20
_READ_BYTES = 16 << 20


class _Moments:
    """Count, mean and sum of squared deviations per band, merged piece by piece (Chan et al. 1983)."""

    def __init__(self, num_bands: int) -> None:
        self.count = 0
        self.mean = np.zeros(num_bands)
        self.squares = np.zeros(num_bands)

    def add(self, values: Shaped[np.ndarray, "C n"]) -> None:
        count = values.shape[1]
        if count == 0:
            return
        exact = values.astype(np.float64)
        mean = exact.mean(axis=1)
        squares = np.square(exact - mean[:, None]).sum(axis=1)
        apart, total = mean - self.mean, self.count + count
        self.squares += squares + apart * apart * (self.count * count / total)
        self.mean += apart * (count / total)
        self.count = total


def band_statistics(scene: Scene) -> tuple[Float64[np.ndarray, " C"], Float64[np.ndarray, " C"]]:
    """Mean and standard deviation of each band over valid pixels, in the scene's units.

    Stored pixels are sampled, never means of them, which would vary less: those of the coarsest overview of
    about four million pixels, or of full resolution, in blocks spread evenly over the scene until four
    million valid ones in 64 blocks have been seen. The blocks, and so the answer, are always the same.

    Returns:
        `(mean, std)`; the deviation of a band that has one value everywhere is given as 1, so that
        dividing by it is safe.

    Raises:
        SceneError: if no pixel is valid, or one cannot be decoded.
    """
    level = _sampled_level(scene)
    moments = _Moments(scene.num_bands)
    num_units = 0
    for window in _spread_units(scene, level):
        pixels, valid = scene.read(window, level)
        if valid is not None and not valid.any():
            continue
        rows = max(1, _PIECE_SAMPLES // (window.width * scene.num_bands))
        for top in range(0, window.height, rows):
            piece = pixels[:, top : top + rows]
            mask = None if valid is None else valid[top : top + rows]
            moments.add(piece.reshape(scene.num_bands, -1) if mask is None else piece[:, mask])
        num_units += 1
        if moments.count >= (SAMPLE_PX if num_units >= _MIN_UNITS else _MAX_SAMPLE_PX):
            break
    if moments.count == 0:
        raise SceneError(f"{scene.uri}: has no valid pixel; check its mask, alpha band and nodata value")
    std = np.sqrt(moments.squares / moments.count)
    # what rounding leaves of a constant band is not a deviation
    return moments.mean, np.where(std > 1e-12 * np.abs(moments.mean), std, 1.0)


def _sampled_level(scene: Scene) -> int:
    level = 0
    while np.prod(scene.size_at(level)) > SAMPLE_PX:
        level += 1
    return scene.stored_level(level)


def _spread_units(scene: Scene, level: int) -> Iterator[Window]:
    """All decode units of a level, each once, any first few of them spread over the whole."""
    height, width = scene.size_at(level)
    # 16-pixel blocks would cost a call each, and as many lines of a wide scene too much memory
    unit_rows, unit_cols = scene.decode_unit(level)
    cols = min(width, unit_cols * -(-256 // unit_cols))
    line_bytes = cols * unit_rows * scene.num_bands * scene.dtype.itemsize
    rows = unit_rows * max(1, min(-(-256 // unit_rows), _READ_BYTES // line_bytes))
    across = -(-width // cols)
    total = -(-height // rows) * across
    # steps of the golden section leave no large gap at any time
    step = max(1, round(total * 0.6180339887498949))
    while gcd(step, total) > 1:
        step += 1
    for i in range(total):
        row, col = divmod(i * step % total, across)
        yield Window(row * rows, col * cols, rows, cols).intersect(Window(0, 0, height, width))
