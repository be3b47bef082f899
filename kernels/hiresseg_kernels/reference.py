"""The three ops in plain torch: the definition that every faster path is tested against.

They compute in float64, take any device, and read like the sentences that describe them. Speed is not a
concern.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Float32, Int64, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import pad

from hiresseg_kernels.checks import NO_ANSWER, check_cells, check_cut, check_pool, check_sources


def cut_tiles(
    band: Shaped[Tensor, "C h w"],
    valid: Shaped[Tensor, "h w"] | None,
    corners: Int64[Tensor, "N 2"],
    tile_px: int,
    scale: Float32[Tensor, " C"],
    shift: Float32[Tensor, " C"],
    out: Float[Tensor, "N C t t"],
) -> None:
    """Cut tiles out of a band of pixels and normalise them; see `hiresseg_kernels.cut_tiles`."""
    check_cut(band, valid, corners, tile_px, (scale, shift), out)
    height, width = band.shape[1:]
    for tile, (top, left) in zip(out, corners.tolist(), strict=True):
        rows = torch.arange(top, top + tile_px, device=band.device)
        cols = torch.arange(left, left + tile_px, device=band.device)
        inside = ((rows >= 0) & (rows < height))[:, None] & ((cols >= 0) & (cols < width))
        tile.zero_()
        if not inside.any():
            continue
        at = rows.clamp(0, height - 1)[:, None], cols.clamp(0, width - 1)
        pixels = torch.stack([plane.to(torch.float32)[at] for plane in band])
        good = inside & pixels.isfinite()
        if valid is not None:
            good &= valid[at].bool()
        tile.copy_(torch.where(good, pixels * scale[:, None, None] + shift[:, None, None], 0.0))


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
    """Join tiles into cells; see `hiresseg_kernels.blend_tiles`."""
    check_sources(own, above, left, corner, present, activation)
    overlap = above.shape[2]
    stride = own.shape[2] - overlap
    check_cells(own, stride, (row_weights, col_weights), prior, valid, (labels, confidence, probabilities))

    in_strip = torch.arange(stride, device=own.device) < overlap
    rows = torch.where(in_strip, row_weights.double(), 1.0)[:, :, None]
    cols = torch.where(in_strip, col_weights.double(), 1.0)[:, None, :]
    factors = (rows, cols), (1 - rows, cols), (rows, 1 - cols), (1 - rows, 1 - cols)

    mixed = own.new_zeros((*own.shape[:2], stride, stride), dtype=torch.float64)
    lone = torch.zeros_like(mixed)
    total, rest = torch.zeros_like(mixed[:, 0]), torch.zeros_like(mixed[:, 0])
    reads = torch.zeros_like(total, dtype=torch.int64)
    for source, (row, col), exists in zip((own, above, left, corner), factors, present.bool().T, strict=True):
        wanted = (row > 0) & (col > 0)
        read = wanted & exists[:, None, None]
        # a select, not a product: what is not read may be NaN
        logits = torch.where(read[:, None], _fit(source, stride).double(), 0.0)
        weight = torch.where(read, row * col, 0.0)
        mixed += weight[:, None] * activate(logits, activation)
        lone += logits
        total += weight
        rest += torch.where(wanted & ~read, row * col, 0.0)
        reads += read

    answered = reads > 0
    if prior is None:
        mixed /= torch.where(answered & (rest > 0), total, 1.0)[:, None]
        single = reads == 1
    else:
        mixed += torch.where((rest > 0)[:, None], rest[:, None] * prior.double(), 0.0)
        answered = answered | (rest > 0)
        single = (reads == 1) & (rest == 0)
    # where one tile speaks alone its logits decide: no rounding of exp can then move a label
    best, first = torch.where(single[:, None], lone, mixed).max(dim=1)
    answered = answered & ~mixed.isnan().any(dim=1)
    if valid is not None:
        answered = answered & valid.bool()

    sure = mixed.gather(1, first[:, None])[:, 0].clamp(0, 1)
    if activation == "sigmoid":
        nothing = best < torch.where(single, 0.0, 0.5)
        sure = torch.where(nothing, 1 - sure, sure)
        first = torch.where(nothing, 0, first + 1)
    labels.copy_(torch.where(answered, first, NO_ANSWER))
    if confidence is not None:
        confidence.copy_(torch.where(answered, torch.floor(254 * sure + 0.5), NO_ANSWER))
    if probabilities is not None:
        kept = torch.where(answered[:, None], mixed, 0.0)
        if probabilities.dtype == torch.uint8:
            kept = torch.floor(255 * kept.clamp(0, 1) + 0.5)
        probabilities.copy_(kept)


def activate(
    logits: Float[Tensor, "N K h w"], activation: Literal["softmax", "sigmoid"]
) -> Float[Tensor, "N K h w"]:
    """Probabilities of logits, finite or not.

    Softmax counts every logit that equals the greatest as at distance 0 from it: a single +inf has
    probability 1, several share it, and a pixel of -inf alone is torn evenly between all classes. NaN gives
    NaN.
    """
    if activation == "sigmoid":
        return torch.sigmoid(logits)
    greatest = logits.amax(dim=1, keepdim=True)
    powers = torch.where(logits == greatest, 0.0, logits - greatest).exp()
    return powers / powers.sum(dim=1, keepdim=True)


def pool_tiles(
    values: UInt8[Tensor, "h w"], row_spans: Int64[Tensor, "R 2"], col_spans: Int64[Tensor, "Q 2"]
) -> UInt8[Tensor, "R Q"]:
    """Maximum of `values` in each tile's footprint; see `hiresseg_kernels.pool_tiles`."""
    check_pool(values, row_spans, col_spans)
    out = values.new_zeros((len(row_spans), len(col_spans)))
    for i, (top, bottom) in enumerate(row_spans.clamp(0, values.shape[0]).tolist()):
        for j, (left, right) in enumerate(col_spans.clamp(0, values.shape[1]).tolist()):
            if top < bottom and left < right:
                out[i, j] = values[top:bottom, left:right].max()
    return out


def _fit(source: Float[Tensor, "N K h w"], stride: int) -> Float[Tensor, "N K S S"]:
    """The source over the whole cell; what it does not cover is filled and never read."""
    part = source[:, :, :stride, :stride]
    return pad(part, (0, stride - part.shape[3], 0, stride - part.shape[2]))
