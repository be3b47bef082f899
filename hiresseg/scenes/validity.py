"""Which pixels count: what a raster says of itself through masks, alpha, nodata values and NaN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader


@dataclass(frozen=True, slots=True)
class ValidityRule:
    """What must hold for a pixel to count. Everything that the file says is taken at its word, jointly."""

    mask_bands: tuple[int, ...]
    """Bands whose masks, inside the file or beside it, are to be read; mostly one mask serves all."""
    alpha: int | None
    """Index of the alpha band, from 1; None where there is none or it is read as an image band."""
    nodata: tuple[float | None, ...]
    """Per selected band."""

    @classmethod
    def of(cls, dataset: DatasetReader, bands: tuple[int, ...]) -> ValidityRule:
        """The rule of a dataset of which `bands` are read."""
        alphas = [
            i for i, kind in enumerate(dataset.colorinterp, 1) if kind == ColorInterp.alpha and i not in bands
        ]
        return cls(
            mask_bands=_mask_bands(dataset, bands),
            alpha=alphas[0] if alphas else None,
            nodata=tuple(dataset.nodatavals[i - 1] for i in bands),
        )

    def can_exclude(self, dtype: np.dtype) -> bool:
        """Whether any pixel of this sample type could fail to count."""
        return (
            bool(self.mask_bands)
            or self.alpha is not None
            or dtype.kind == "f"
            or any(v is not None for v in self.nodata)
        )

    def of_pixels(self, pixels: Shaped[np.ndarray, "C h w"]) -> Bool[np.ndarray, "h w"] | None:
        """Which pixels count by their values; None where all do.

        NaN or an infinity in any band rules a pixel out, and so does a nodata value in any band. Black and
        white are measurements too: a nodata value of 0, or of 255 in bytes, rules a pixel out only where all
        bands have theirs.
        """
        valid: Bool[np.ndarray, "h w"] | None = None
        if pixels.dtype.kind == "f":
            valid = np.isfinite(pixels).all(axis=0)
        sentinel, common = self._nodata_of(pixels)
        if sentinel is not None:
            valid = _both(valid, ~sentinel)
        if common is not None:
            valid = _both(valid, ~common)
        return None if valid is None or valid.all() else valid

    def _nodata_of(
        self, pixels: Shaped[np.ndarray, "C h w"]
    ) -> tuple[Bool[np.ndarray, "h w"] | None, Bool[np.ndarray, "h w"] | None]:
        sentinel: Bool[np.ndarray, "h w"] | None = None
        common: Bool[np.ndarray, "h w"] | None = None
        plain = [value == 0 or (value == 255 and pixels.dtype == np.uint8) for value in self.nodata]
        for value, is_plain, band in zip(self.nodata, plain, pixels, strict=True):
            if value is None or not _is_representable(value, pixels.dtype):
                continue
            same = band == pixels.dtype.type(value)
            if not is_plain:
                sentinel = same if sentinel is None else sentinel | same
            elif all(plain):
                common = same if common is None else common & same
        return sentinel, common


def _mask_bands(dataset: DatasetReader, bands: tuple[int, ...]) -> tuple[int, ...]:
    flags = dataset.mask_flag_enums
    if any(MaskFlags.per_dataset in flags[i - 1] and MaskFlags.alpha not in flags[i - 1] for i in bands):
        return bands[:1]
    # no flag at all is GDAL's way to say that each band has a mask of its own
    return tuple(sorted({i for i in bands if not flags[i - 1]}))


def _is_representable(value: float, dtype: np.dtype) -> bool:
    if dtype.kind == "f":
        return math.isfinite(value)
    info = np.iinfo(dtype)
    return value == math.floor(value) and info.min <= value <= info.max if math.isfinite(value) else False


def _both(
    one: Bool[np.ndarray, "h w"] | None, other: Bool[np.ndarray, "h w"] | None
) -> Bool[np.ndarray, "h w"] | None:
    if one is None or other is None:
        return other if one is None else one
    both: Bool[np.ndarray, "h w"] = one & other
    return both


def merge_validity(
    one: Bool[np.ndarray, "h w"] | None, other: Bool[np.ndarray, "h w"] | None
) -> Bool[np.ndarray, "h w"] | None:
    """Pixels that count by both; None where all do."""
    both = _both(one, other)
    return None if both is None or both.all() else both
