"""Pooling as one Triton kernel: a program per tile of the lattice."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-untyped-decorators=False
from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Int64, UInt8
from torch import Tensor

from hiresseg_kernels.checks import check_pool


def pool_tiles_triton(
    values: UInt8[Tensor, "h w"],
    row_spans: Int64[Tensor, "R 2"],
    col_spans: Int64[Tensor, "Q 2"],
    *,
    block: tuple[int, int] = (16, 128),
    num_warps: int = 4,
) -> UInt8[Tensor, "R Q"]:
    """Pool on a GPU; see `hiresseg_kernels.pool_tiles`.

    `block` is rows and columns that a program reads at once, powers of two; `num_warps` are those of a
    program.
    """
    check_pool(values, row_spans, col_spans)
    rows, cols = (
        row_spans.clamp(0, values.shape[0]).contiguous(),
        col_spans.clamp(0, values.shape[1]).contiguous(),
    )
    out = torch.empty((len(rows), len(cols)), dtype=torch.uint8, device=values.device)
    if out.numel():
        _pool_tiles_kernel[(out.numel(),)](
            values, rows, cols, out, len(cols), *values.stride(),
            BLOCK_H=block[0],
            BLOCK_W=block[1],
            num_warps=num_warps,
        )  # fmt: skip
    return out


@triton.jit
@no_type_check
def _pool_tiles_kernel(
    values,
    row_spans,
    col_spans,
    out,
    across,
    values_h,
    values_w,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    r, q = program // across, program % across
    top, bottom = tl.load(row_spans + 2 * r), tl.load(row_spans + 2 * r + 1)
    left, right = tl.load(col_spans + 2 * q), tl.load(col_spans + 2 * q + 1)
    highest = tl.zeros((BLOCK_H, BLOCK_W), tl.int32)
    for i in range(top, bottom, BLOCK_H):
        rows = (i + tl.arange(0, BLOCK_H))[:, None]
        for j in range(left, right, BLOCK_W):
            cols = (j + tl.arange(0, BLOCK_W))[None, :]
            part = tl.load(
                values + rows * values_h + cols * values_w, mask=(rows < bottom) & (cols < right), other=0
            )
            highest = tl.maximum(highest, part.to(tl.int32))
    tl.store(out + program, tl.max(highest).to(tl.uint8))
