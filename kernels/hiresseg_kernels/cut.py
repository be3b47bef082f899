"""Cutting tiles as one Triton kernel: convert, mask, normalise and write in any layout, each element once."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-untyped-decorators=False
from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor

from hiresseg_kernels.checks import check_cut


def cut_tiles_triton(
    band: Shaped[Tensor, "C h w"],
    valid: Shaped[Tensor, "h w"] | None,
    corners: Int64[Tensor, "N 2"],
    tile_px: int,
    scale: Float32[Tensor, " C"],
    shift: Float32[Tensor, " C"],
    out: Float[Tensor, "N C t t"],
    *,
    block: tuple[int, int] = (8, 128),
    num_warps: int = 4,
) -> None:
    """Cut tiles on a GPU; see `hiresseg_kernels.cut_tiles`.

    `block` is rows and columns of a program's patch, powers of two; `num_warps` are those of a program.
    """
    check_cut(band, valid, corners, tile_px, (scale, shift), out)
    if out.numel() == 0:
        return
    # an absent mask is stood in for by the corners, and its flag keeps them from being touched
    mask = corners if valid is None else valid.view(torch.uint8)
    down, across = triton.cdiv(tile_px, block[0]), triton.cdiv(tile_px, block[1])
    _cut_tiles_kernel[(out.shape[0] * down * across,)](
        band, mask, corners.contiguous(), scale.contiguous(), shift.contiguous(), out,
        *band.shape, *band.stride(), *mask.stride(), *out.stride(), tile_px, down, across,
        HAS_VALID=valid is not None,
        BLOCK_H=block[0],
        BLOCK_W=block[1],
        num_warps=num_warps,
    )  # fmt: skip


@triton.jit
@no_type_check
def _cut_tiles_kernel(
    band, valid, corners, scale, shift, out,
    channels, height, width, band_c, band_h, band_w, valid_h, valid_w, out_n, out_c, out_h, out_w,
    tile_px, down, across,
    HAS_VALID: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    n = (program // (down * across)).to(tl.int64)
    place = program % (down * across)
    i = ((place // across) * BLOCK_H + tl.arange(0, BLOCK_H)).to(tl.int64)[:, None]
    j = ((place % across) * BLOCK_W + tl.arange(0, BLOCK_W)).to(tl.int64)[None, :]
    in_tile = (i < tile_px) & (j < tile_px)
    row, col = tl.load(corners + 2 * n) + i, tl.load(corners + 2 * n + 1) + j
    good = in_tile & (row >= 0) & (row < height) & (col >= 0) & (col < width)
    if HAS_VALID:
        good &= tl.load(valid + row * valid_h + col * valid_w, mask=good, other=0) != 0
    source = band + row * band_h + col * band_w
    target = out + n * out_n + i * out_h + j * out_w
    for c in range(channels):
        pixel = tl.load(source, mask=good, other=0).to(tl.float32)
        # inf - inf and NaN - NaN are NaN, everything else is 0
        image = tl.where(good & (pixel - pixel == 0.0), pixel * tl.load(scale + c) + tl.load(shift + c), 0.0)
        tl.store(target, image.to(out.dtype.element_ty), mask=in_tile)
        source += band_c
        target += out_c
