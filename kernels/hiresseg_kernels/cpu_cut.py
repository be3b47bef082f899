"""Compiled loops that cut, convert and pool: one core, no interpreter lock, temporaries of a few rows."""

# ruff: noqa: ANN201 - compiled, not typed
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-untyped-decorators=False
from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from hiresseg_kernels.cpu_loops import ZERO, copy, fill, inner, select

SINGLE, HALF, BRAIN = 0, 1, 2

_SMALLEST_NORMAL_HALF = np.int32(0x38800000)
_TOO_LARGE_FOR_HALF = np.int32(0x477FF000)
_INFINITY = np.int32(0x7F800000)


@no_type_check
@njit(nogil=True, cache=True, error_model="numpy")
def cut(
    band, band_strides, size, valid, valid_strides, corners, tile_px, scale, shift, floats, bits, kind,
    out_strides
):  # fmt: skip
    """Write every element of the tiles, row by row."""
    channels = scale.size
    pixels = np.empty((channels, tile_px), np.float32)
    narrow = np.empty(tile_px, np.uint16)
    for n in range(corners.shape[0]):
        top, left = corners[n, 0], corners[n, 1]
        first = min(max(-left, 0), tile_px)
        last = max(min(size[1] - left, tile_px), first)
        for i in range(tile_px):
            inside = 0 <= top + i < size[0]
            for c in range(channels):
                at = n * out_strides[0] + c * out_strides[1] + i * out_strides[2]
                straight = kind == SINGLE and out_strides[3] == 1
                row = floats[at : at + tile_px] if straight else pixels[c]
                fill(row[:first], ZERO)
                fill(row[last if inside else first :], ZERO)
                if inside and first < last:
                    pixel = (c, top + i, left + first)
                    sources = band, band_strides, valid, valid_strides
                    _normalise(sources, pixel, scale[c], shift[c], row[first:last])
                if kind != SINGLE:
                    if kind == HALF:
                        _to_half(row, narrow)
                    else:
                        _to_brain(row, narrow)
                    _spread(narrow, bits, at, out_strides[3])
            if kind == SINGLE and out_strides[3] != 1:
                _interleave(
                    pixels, floats, n * out_strides[0] + i * out_strides[2], out_strides[1], out_strides[3]
                )


@no_type_check
@inner
def _normalise(sources, pixel, scale, shift, row):
    band, band_strides, valid, valid_strides = sources
    c, i, j = pixel
    at, step = c * band_strides[0] + i * band_strides[1] + j * band_strides[2], band_strides[2]
    end = at + step * (row.size - 1) + 1
    if valid.size == 0:
        # a slice without a step is one that numba knows to be dense, and vectorises
        if step == 1:
            _scale(band[at:end], scale, shift, row)
        else:
            _scale(band[at:end:step], scale, shift, row)
    else:
        mask_at, mask_step = i * valid_strides[0] + j * valid_strides[1], valid_strides[1]
        mask_end = mask_at + mask_step * (row.size - 1) + 1
        if step == 1 and mask_step == 1:
            _scale_valid(band[at:end], valid[mask_at:mask_end], scale, shift, row)
        else:
            _scale_valid(band[at:end:step], valid[mask_at:mask_end:mask_step], scale, shift, row)


@no_type_check
@inner
def _scale(source, scale, shift, row):
    for j in range(row.size):
        value = np.float32(source[j])
        # inf - inf and NaN - NaN are NaN, everything else is 0
        row[j] = select(value - value == ZERO, value * scale + shift, ZERO)


@no_type_check
@inner
def _scale_valid(source, valid, scale, shift, row):
    for j in range(row.size):
        value = np.float32(source[j])
        row[j] = select((value - value == ZERO) & (valid[j] != 0), value * scale + shift, ZERO)


@no_type_check
@inner
def _interleave(pixels, floats, begin, channel_step, pixel_step):
    channels, size = pixels.shape
    if channels == 3 and channel_step == 1 and pixel_step == 3:
        # the common case with the loop over channels written out, which is what lets it vectorise
        out = floats[begin : begin + 3 * size]
        red, green, blue = pixels[0], pixels[1], pixels[2]
        for j in range(size):
            out[3 * j] = red[j]
            out[3 * j + 1] = green[j]
            out[3 * j + 2] = blue[j]
    else:
        for c in range(channels):
            _spread(pixels[c], floats, begin + c * channel_step, pixel_step)


@no_type_check
@inner
def _spread(row, out, begin, step):
    if step == 1:
        copy(row, out[begin : begin + row.size])
    else:
        for j in range(row.size):
            out[begin + j * step] = row[j]


@no_type_check
@inner
def _to_half(row, out):
    half = np.float32(0.5)
    for j in range(row.size):
        word = np.float32(row[j]).view(np.int32)
        sign = np.int32(np.int32(word >> np.int32(16)) & np.int32(0x8000))
        size = np.int32(word & np.int32(0x7FFFFFFF))
        # the spacing of floats just above 0.5 is that of the subnormal halves, so the adder does the rounding
        small = np.int32(
            np.float32(np.int32(size).view(np.float32) + half).view(np.int32) - np.int32(0x3F000000)
        )
        odd = np.int32(np.int32(size >> np.int32(13)) & np.int32(1))
        normal = np.int32(np.int32(size - np.int32(0x38000000) + np.int32(0xFFF) + odd) >> np.int32(13))
        code = select(size < _SMALLEST_NORMAL_HALF, small, normal)
        code = select(size >= _TOO_LARGE_FOR_HALF, np.int32(0x7C00), code)
        code = select(size > _INFINITY, np.int32(0x7E00), code)
        out[j] = np.uint16(np.int32(code | sign))


@no_type_check
@inner
def _to_brain(row, out):
    for j in range(row.size):
        word = np.float32(row[j]).view(np.int32)
        odd = np.int32(np.int32(word >> np.int32(16)) & np.int32(1))
        rounded = np.int32(np.int32(word + np.int32(0x7FFF) + odd) >> np.int32(16))
        is_nan = np.int32(word & np.int32(0x7FFFFFFF)) > _INFINITY
        out[j] = np.uint16(select(is_nan, np.int32(0x7FC0), rounded))


@no_type_check
@njit(nogil=True, cache=True, error_model="numpy")
def pool(values, strides, row_spans, col_spans, width, out):
    """Column maxima of each row of tiles first, then the maxima of its tiles."""
    peaks = np.empty(width, np.uint8)
    for r in range(row_spans.shape[0]):
        if row_spans[r, 0] >= row_spans[r, 1]:
            continue
        fill(peaks, np.uint8(0))
        for i in range(row_spans[r, 0], row_spans[r, 1]):
            if strides[1] == 1:
                row = values[i * strides[0] : i * strides[0] + width]
                for j in range(width):
                    peaks[j] = max(peaks[j], row[j])
            else:
                for j in range(width):
                    peaks[j] = max(peaks[j], values[i * strides[0] + j * strides[1]])
        for q in range(col_spans.shape[0]):
            highest = np.uint8(0)
            for j in range(col_spans[q, 0], col_spans[q, 1]):
                highest = max(highest, peaks[j])
            out[r, q] = highest
