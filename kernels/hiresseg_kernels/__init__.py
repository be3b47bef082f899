"""Arrays to arrays: the three passes over pixels that a run spends its time in, beside the network.

Each op has a definition in plain torch (`reference`), a Triton kernel for CUDA tensors (`cut`, `blend`,
`pool`) and a compiled path for CPU tensors (`cpu`). The functions here choose by device and by nothing
else; what a path does not support raises. Importing this package loads neither numba nor Triton.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float, Float32, Int64, Shaped, UInt8
from torch import Tensor, device

__all__ = ["blend_tiles", "cut_tiles", "pool_tiles"]


def cut_tiles(
    band: Shaped[Tensor, "C h w"],
    valid: Shaped[Tensor, "h w"] | None,
    corners: Int64[Tensor, "N 2"],
    tile_px: int,
    scale: Float32[Tensor, " C"],
    shift: Float32[Tensor, " C"],
    out: Float[Tensor, "N C t t"],
) -> None:
    """Cut tiles out of a band of pixels and normalise them: `pixel * scale + shift`, in float32.

    Every element of `out` is written: 0 where the pixel is outside the band, not valid, or not finite as
    float32.

    Args:
        band: pixels; uint8, int8, uint16, int16, uint32, int32, float32 or float64, any strides.
        valid: where the pixels mean something (bool or uint8); None where all do.
        corners: (top, left) of each tile within the band; may be negative or beyond it.
        tile_px: edge of a tile in pixels.
        scale: factor of each channel.
        shift: what is added to each channel afterwards, in units of the normalised image.
        out: the tiles; float32, float16 or bfloat16, contiguous, channels-last or any other strides.

    Raises:
        ValueError: if a shape, a sample type or a device does not fit.
    """
    if _is_cuda(band.device):
        from hiresseg_kernels.cut import cut_tiles_triton

        cut_tiles_triton(band, valid, corners, tile_px, scale, shift, out)
    else:
        from hiresseg_kernels.cpu import cut_tiles_cpu

        cut_tiles_cpu(band, valid, corners, tile_px, scale, shift, out)


def blend_tiles(
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
    """Join overlapping tiles into cells: activate, weigh, sum and decide, each output pixel written once.

    A cell is the upper left `S x S` of its own tile (`S = t - o`); its first `o` rows also lie in the tile
    above, its first `o` columns in the tile on the left. With `r` and `c` the row and column weight of a
    pixel, own counts `r * c`, above `(1 - r) * c`, left `r * (1 - c)` and corner `(1 - r) * (1 - c)`. A
    source is read where both of its factors are above 0 and it is present; nothing else of it is touched.

    The weight of absent sources goes to the prior. Without a prior the others are scaled up to sum to one,
    and a pixel that nothing covers has no answer. A pixel also has no answer where `valid` is 0, and where
    a probability that it depends on is NaN. No answer is label 255, confidence 255, probability 0.

    Under `softmax` the label is the first class of greatest probability, and the confidence its
    probability. A logit equal to the greatest is at distance 0 from it, so a single +inf has probability 1.
    Under `sigmoid` the label is 0 where every channel is below 0.5, else 1 + the first greatest channel;
    the confidence of label 0 is 1 minus the greatest probability. Where one source alone makes up a pixel,
    its logits decide the label.

    Args:
        own: logits of each cell's own tile; float32, float16 or bfloat16, any strides.
        above: the last `o` rows of the tile above.
        left: the last `o` columns of the tile on the left.
        corner: the last `o` rows and columns of the tile above on the left.
        present: whether own, above, left and corner exist; memory of absent ones is never read.
        row_weights: weight of own's row at each row of the cell, 0 to 1; taken as 1 from row `o` on.
        col_weights: the same for columns.
        labels: class of each pixel, written; any strides.
        confidence: `floor(254 * confidence + 0.5)`, written unless None.
        probabilities: written unless None; float32, or uint8 as `floor(255 * p + 0.5)`.
        prior: what to believe where sources are absent: probabilities in [0, 1].
        valid: pixels to answer for (bool or uint8); None for all.
        activation: `softmax` for classes that exclude each other, `sigmoid` for independent channels.

    Raises:
        ValueError: if a shape, a sample type or a device does not fit, or a label could exceed 254.
    """
    if _is_cuda(own.device):
        from hiresseg_kernels import blend

        run: Callable[..., None] = blend.blend_tiles_triton
    else:
        from hiresseg_kernels import cpu

        run = cpu.blend_tiles_cpu
    run(
        own, above, left, corner, present, row_weights, col_weights,
        labels=labels, confidence=confidence, probabilities=probabilities,
        prior=prior, valid=valid, activation=activation,
    )  # fmt: skip


def pool_tiles(
    values: UInt8[Tensor, "h w"], row_spans: Int64[Tensor, "R 2"], col_spans: Int64[Tensor, "Q 2"]
) -> UInt8[Tensor, "R Q"]:
    """Maximum of `values` in the footprint of each tile of a lattice; 0 for an empty one.

    Args:
        values: one value per pixel.
        row_spans: first row and the one after the last of each row of tiles; clipped to the array.
        col_spans: the same for columns of tiles.

    Raises:
        ValueError: if a shape, a sample type or a device does not fit.
    """
    if _is_cuda(values.device):
        from hiresseg_kernels.pool import pool_tiles_triton

        return pool_tiles_triton(values, row_spans, col_spans)
    from hiresseg_kernels.cpu import pool_tiles_cpu

    return pool_tiles_cpu(values, row_spans, col_spans)


def _is_cuda(where: device) -> bool:
    if where.type not in {"cpu", "cuda"}:
        raise ValueError(f"tensors must be on a cpu or a cuda device, got {where}: move them first")
    return where.type == "cuda"
