"""The CPU path: launchers that lay tensors out for the compiled row loops of `cpu_cut` and `cpu_blend`.

Compiled code sees memory, not tensors: each argument becomes the one-dimensional array that it strides
across, and its strides. One compiled variant then serves every layout, and half precision, which numpy
lacks, travels as bits.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor

from hiresseg_kernels import cpu_blend, cpu_cut
from hiresseg_kernels.checks import check_cells, check_cut, check_pool, check_sources

_NO_FLOATS = np.empty(0, np.float32)
_NO_BITS = np.empty(0, np.uint16)
_NO_BYTES = np.empty(0, np.uint8)
_FORMATS = {torch.float32: cpu_cut.SINGLE, torch.float16: cpu_cut.HALF, torch.bfloat16: cpu_cut.BRAIN}


def cut_tiles_cpu(
    band: Shaped[Tensor, "C h w"],
    valid: Shaped[Tensor, "h w"] | None,
    corners: Int64[Tensor, "N 2"],
    tile_px: int,
    scale: Float32[Tensor, " C"],
    shift: Float32[Tensor, " C"],
    out: Float[Tensor, "N C t t"],
) -> None:
    """Cut tiles on one core; see `hiresseg_kernels.cut_tiles`."""
    check_cut(band, valid, corners, tile_px, (scale, shift), out)
    floats, bits = _floats_and_bits(out)
    cpu_cut.cut(
        _memory(band),
        _strides(band),
        tuple(band.shape[1:]),
        _bytes(valid),
        _strides(valid, 2),
        corners.contiguous().numpy(),
        tile_px,
        scale.contiguous().numpy(),
        shift.contiguous().numpy(),
        floats,
        bits,
        _FORMATS[out.dtype],
        _strides(out),
    )


def blend_tiles_cpu(
    own: Float[Tensor, "N K t t"],
    above: Float[Tensor, "N K o t"],
    left: Float[Tensor, "N K t o"],
    corner: Float[Tensor, "N K o o"],
    present: UInt8[Tensor, "N 4"],
    row_weights: Float32[Tensor, "N S"],
    col_weights: Float32[Tensor, "N S"],
    *,
    labels: UInt8[Tensor, "N S S"],
    confidence: UInt8[Tensor, "N S S"] | None = None,
    probabilities: Shaped[Tensor, "N K S S"] | None = None,
    prior: Float32[Tensor, "N K S S"] | None = None,
    valid: Shaped[Tensor, "N S S"] | None = None,
    activation: Literal["softmax", "sigmoid"] = "softmax",
) -> None:
    """Join tiles into cells on one core; see `hiresseg_kernels.blend_tiles`."""
    check_sources(own, above, left, corner, present, activation)
    overlap = above.shape[2]
    stride = own.shape[2] - overlap
    check_cells(own, stride, (row_weights, col_weights), prior, valid, (labels, confidence, probabilities))
    sources = own, above, left, corner
    laid_out = [_floats_and_bits(source) for source in sources]
    quantised = probabilities is not None and probabilities.dtype == torch.uint8
    cpu_blend.blend(
        cpu_blend.Sources(
            tuple(floats for floats, _ in laid_out),
            tuple(bits for _, bits in laid_out),
            _FORMATS[own.dtype],
            np.array([source.stride() for source in sources], np.int64),
        ),
        (own.shape[1], overlap, activation == "softmax"),
        present.contiguous().numpy(),
        row_weights.contiguous().numpy(),
        col_weights.contiguous().numpy(),
        cpu_blend.Beside(
            _NO_FLOATS if prior is None else _memory(prior),
            _strides(prior, 4),
            _bytes(valid),
            _strides(valid),
        ),
        cpu_blend.Answers(
            _memory(labels),
            _strides(labels),
            _bytes(confidence),
            _strides(confidence),
            _bytes(probabilities) if quantised else _NO_BYTES,
            _NO_FLOATS if quantised or probabilities is None else _memory(probabilities),
            _strides(probabilities, 4),
        ),
    )


def pool_tiles_cpu(
    values: UInt8[Tensor, "h w"], row_spans: Int64[Tensor, "R 2"], col_spans: Int64[Tensor, "Q 2"]
) -> UInt8[Tensor, "R Q"]:
    """Pool on one core; see `hiresseg_kernels.pool_tiles`."""
    check_pool(values, row_spans, col_spans)
    out = torch.zeros((len(row_spans), len(col_spans)), dtype=torch.uint8)
    cpu_cut.pool(
        _memory(values),
        _strides(values),
        row_spans.clamp(0, values.shape[0]).numpy(),
        col_spans.clamp(0, values.shape[1]).numpy(),
        values.shape[1],
        out.numpy(),
    )
    return out


def _memory(tensor: Tensor) -> NDArray[Any]:
    """The memory that a tensor strides across, from its first to its last element."""
    extent = 0
    if tensor.numel():
        extent = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    memory: NDArray[Any] = tensor.detach().as_strided((extent,), (1,)).numpy()
    return memory


def _bytes(tensor: Tensor | None) -> NDArray[np.uint8]:
    return _NO_BYTES if tensor is None else _memory(tensor.view(torch.uint8))


def _floats_and_bits(tensor: Tensor) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """The memory of a tensor as float32, or of one in half precision as uint16; the other is empty."""
    if tensor.dtype == torch.float32:
        return _memory(tensor), _NO_BITS
    return _NO_FLOATS, _memory(tensor.detach().view(torch.uint16))


def _strides(tensor: Tensor | None, ndim: int = 3) -> tuple[int, ...]:
    # as many zeros as there would be strides, or numba would compile a variant of its own for each absent
    # argument
    return (0,) * ndim if tensor is None else tensor.stride()
