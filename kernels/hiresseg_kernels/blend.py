"""The blend as one Triton kernel: logits are read, labels are written, and nothing is in between.

A program owns a patch of one cell. Where own alone has weight, which is most patches, it keeps a running
maximum over the planes. Elsewhere it walks the planes twice: first for the greatest logit and the sum of
powers of each source, then for the weighed probabilities. The second walk finds its patch in the cache, and
no program holds more than a few values per pixel whatever the number of classes.
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-untyped-decorators=False
from __future__ import annotations

from typing import Literal, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor

from hiresseg_kernels.checks import check_cells, check_sources


def blend_tiles_triton(
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
    block: tuple[int, int] = (8, 128),
    num_warps: int = 4,
) -> None:
    """Join tiles into cells on a GPU; see `hiresseg_kernels.blend_tiles`.

    `block` is rows and columns of a program's patch, powers of two; `num_warps` are those of a program.
    """
    check_sources(own, above, left, corner, present, activation)
    overlap = above.shape[2]
    stride = own.shape[2] - overlap
    check_cells(own, stride, (row_weights, col_weights), prior, valid, (labels, confidence, probabilities))
    if labels.numel() == 0:
        return
    present, row_weights, col_weights = (
        present.contiguous(),
        row_weights.contiguous(),
        col_weights.contiguous(),
    )
    quantised = probabilities is not None and probabilities.dtype == torch.uint8
    # an absent tensor is stood in for by one that exists, and its flag keeps it from being touched
    mask = labels if valid is None else valid.view(torch.uint8)
    down, across = triton.cdiv(stride, block[0]), triton.cdiv(stride, block[1])
    _blend_tiles_kernel[(own.shape[0] * down * across,)](
        own, above, left, corner, present, row_weights, col_weights,
        own if prior is None else prior, mask, labels,
        labels if confidence is None else confidence, labels if probabilities is None else probabilities,
        *own.stride(), *above.stride(), *left.stride(), *corner.stride(),
        *_strides(prior, 4), *_strides(mask, 3),
        *labels.stride(), *_strides(confidence, 3), *_strides(probabilities, 4),
        own.shape[1], stride, overlap, down, across,
        SOFTMAX=activation == "softmax",
        HAS_PRIOR=prior is not None,
        HAS_VALID=valid is not None,
        CONFIDENCE=confidence is not None,
        PROBABILITIES=probabilities is not None,
        QUANTISED=quantised,
        BLOCK_H=block[0],
        BLOCK_W=block[1],
        num_warps=num_warps,
    )  # fmt: skip


def _strides(tensor: Tensor | None, ndim: int) -> tuple[int, ...]:
    return (0,) * ndim if tensor is None else tensor.stride()


@triton.jit
@no_type_check
def _blend_tiles_kernel(
    own, above, left, corner, present, row_weights, col_weights, prior, valid,
    labels, confidence, probabilities,
    own_n, own_k, own_h, own_w, above_n, above_k, above_h, above_w,
    left_n, left_k, left_h, left_w, corner_n, corner_k, corner_h, corner_w,
    prior_n, prior_k, prior_h, prior_w, valid_n, valid_h, valid_w,
    labels_n, labels_h, labels_w, confidence_n, confidence_h, confidence_w,
    probabilities_n, probabilities_k, probabilities_h, probabilities_w,
    classes, size, overlap, down, across,
    SOFTMAX: tl.constexpr, HAS_PRIOR: tl.constexpr, HAS_VALID: tl.constexpr, CONFIDENCE: tl.constexpr,
    PROBABILITIES: tl.constexpr, QUANTISED: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    n = (program // (down * across)).to(tl.int64)
    place = program % (down * across)
    i = ((place // across) * BLOCK_H + tl.arange(0, BLOCK_H)).to(tl.int64)[:, None]
    j = ((place % across) * BLOCK_W + tl.arange(0, BLOCK_W)).to(tl.int64)[None, :]
    inside = (i < size) & (j < size)

    # weights beyond the overlap are 1 and not read
    row = tl.load(row_weights + n * size + i, mask=i < overlap, other=1.0)
    col = tl.load(col_weights + n * size + j, mask=j < overlap, other=1.0)
    own_at = own + n * own_n + i * own_h + j * own_w
    share_at = probabilities + n * probabilities_n + i * probabilities_h + j * probabilities_w
    asked = inside
    if HAS_VALID:
        asked &= tl.load(valid + n * valid_n + i * valid_h + j * valid_w, mask=inside, other=0) != 0
    has_own = tl.load(present + n * 4) != 0
    if has_own & (tl.min(row) >= 1.0) & (tl.min(col) >= 1.0):
        found, sure, answered = _answer_alone(
            own_at,
            own_k,
            share_at,
            probabilities_k,
            inside,
            asked,
            classes,
            SOFTMAX,
            CONFIDENCE,
            PROBABILITIES,
            QUANTISED,
        )
    else:
        found, sure, answered = _answer_mixed(
            own_at, above + n * above_n + i * above_h + j * above_w,
            left + n * left_n + i * left_h + j * left_w, corner + n * corner_n + i * corner_h + j * corner_w,
            own_k, above_k, left_k, corner_k,
            prior + n * prior_n + i * prior_h + j * prior_w, prior_k, share_at, probabilities_k,
            present + n * 4, row, col, inside, asked, classes, SOFTMAX, HAS_PRIOR, PROBABILITIES, QUANTISED,
        )  # fmt: skip

    at = n * labels_n + i * labels_h + j * labels_w
    tl.store(labels + at, tl.where(answered, found, 255).to(tl.uint8), mask=inside)
    if CONFIDENCE:
        level = tl.where(answered, (254.0 * _to_unit(sure) + 0.5).to(tl.int32), 255)
        at = n * confidence_n + i * confidence_h + j * confidence_w
        tl.store(confidence + at, level.to(tl.uint8), mask=inside)


@triton.jit
@no_type_check
def _answer_alone(
    own, own_k, shares, shares_k, inside, asked, classes,
    SOFTMAX: tl.constexpr, CONFIDENCE: tl.constexpr, PROBABILITIES: tl.constexpr, QUANTISED: tl.constexpr,
):  # fmt: skip
    """Label, confidence and whether there is an answer, where own has all the weight."""
    best, found, sums, known = _read_alone(own, own_k, inside, classes, SOFTMAX, CONFIDENCE or PROBABILITIES)
    answered = asked & known
    if PROBABILITIES:
        for _ in range(classes):
            share = _activate(tl.load(own, mask=inside, other=0.0).to(tl.float32), best, sums, SOFTMAX)
            _store_share(shares, share, answered, inside, QUANTISED)
            own += own_k
            shares += shares_k
    if SOFTMAX:
        sure = 1.0 / sums
    else:
        sure = _activate(tl.abs(best), best, sums, False)
        found = tl.where(best < 0.0, 0, found + 1)
    return found, sure, answered


@triton.jit
@no_type_check
def _answer_mixed(
    own, above, left, corner, own_k, above_k, left_k, corner_k, prior, prior_k, shares, shares_k,
    present, row, col, inside, asked, classes,
    SOFTMAX: tl.constexpr, HAS_PRIOR: tl.constexpr, PROBABILITIES: tl.constexpr, QUANTISED: tl.constexpr,
):  # fmt: skip
    """Label, confidence and whether there is an answer, whoever makes it up."""
    r_own, w_own, rest_own = _share_out(row, col, tl.load(present), inside)
    r_above, w_above, rest_above = _share_out(1.0 - row, col, tl.load(present + 1), inside)
    r_left, w_left, rest_left = _share_out(row, 1.0 - col, tl.load(present + 2), inside)
    r_corner, w_corner, rest_corner = _share_out(1.0 - row, 1.0 - col, tl.load(present + 3), inside)
    rest = rest_own + rest_above + rest_left + rest_corner
    reads = r_own.to(tl.int32) + r_above.to(tl.int32) + r_left.to(tl.int32) + r_corner.to(tl.int32)
    uses_prior = (rest > 0.0) & HAS_PRIOR
    single = (reads == 1) & (uses_prior == 0)
    # without a prior, what absent sources leave is shared out among the others
    total = w_own + w_above + w_left + w_corner
    scale = 1.0 / tl.where((reads > 0) & (rest > 0.0) & (uses_prior == 0), total, 1.0)

    m_own, s_own = _read_powers(own, own_k, r_own, classes, SOFTMAX)
    m_above, s_above = _read_powers(above, above_k, r_above, classes, SOFTMAX)
    m_left, s_left = _read_powers(left, left_k, r_left, classes, SOFTMAX)
    m_corner, s_corner = _read_powers(corner, corner_k, r_corner, classes, SOFTMAX)
    best = tl.full(rest.shape, float("-inf"), tl.float32)
    sure = tl.zeros(rest.shape, tl.float32)
    found = tl.zeros(rest.shape, tl.int32)
    answered = asked & ((reads > 0) | uses_prior)
    # the second round, if any, stores what the first has found to be free of NaN
    rounds = 2 * classes if PROBABILITIES else classes
    for k in range(rounds):
        mixed, alone = tl.zeros(rest.shape, tl.float32), tl.zeros(rest.shape, tl.float32)
        mixed, alone = _add_source(own, r_own, w_own, m_own, s_own, mixed, alone, SOFTMAX)
        mixed, alone = _add_source(above, r_above, w_above, m_above, s_above, mixed, alone, SOFTMAX)
        mixed, alone = _add_source(left, r_left, w_left, m_left, s_left, mixed, alone, SOFTMAX)
        mixed, alone = _add_source(corner, r_corner, w_corner, m_corner, s_corner, mixed, alone, SOFTMAX)
        mixed *= scale
        if HAS_PRIOR:
            mixed += tl.where(uses_prior, rest * tl.load(prior, mask=uses_prior, other=0.0), 0.0)
        if k < classes:
            score = tl.where(single, alone, mixed)
            answered &= _is_number(mixed)
            rises = (score > best) | (k == 0)
            best, sure, found = (
                tl.where(rises, score, best),
                tl.where(rises, mixed, sure),
                tl.where(rises, k, found),
            )
        if PROBABILITIES:  # noqa: SIM102 - the outer is settled when compiling
            if k >= classes:
                _store_share(shares, mixed, answered, inside, QUANTISED)
                shares += shares_k
        # the second round begins where the first did
        jump = tl.where(k == classes - 1, 1 - classes, 1).to(tl.int64)
        own += jump * own_k
        above += jump * above_k
        left += jump * left_k
        corner += jump * corner_k
        prior += jump * prior_k
    if not SOFTMAX:
        nothing = best < tl.where(single, 0.0, 0.5)
        sure = tl.where(nothing, 1.0 - sure, sure)
        found = tl.where(nothing, 0, found + 1)
    return found, sure, answered


@triton.jit
@no_type_check
def _share_out(row, col, is_present, inside):
    """Where a source is read, its weight there, and the weight that is left over because it is absent."""
    wanted = inside & (row > 0.0) & (col > 0.0)
    read = wanted & (is_present != 0)
    weight = row * col
    return read, tl.where(read, weight, 0.0), tl.where(wanted & (is_present == 0), weight, 0.0)


@triton.jit
@no_type_check
def _read_alone(plane, step, mask, classes, SOFTMAX: tl.constexpr, POWERS: tl.constexpr):
    """Greatest logit, its first index, the sum of powers if asked for, and whether no logit was NaN."""
    best = tl.load(plane, mask=mask, other=0.0).to(tl.float32)
    found = tl.zeros(best.shape, tl.int32)
    sums = tl.full(best.shape, 1.0, tl.float32)
    known = _is_number(best)
    for k in range(1, classes):
        plane += step
        logit = tl.load(plane, mask=mask, other=0.0).to(tl.float32)
        known &= _is_number(logit)
        rises = logit > best
        if SOFTMAX and POWERS:
            sums = tl.where(rises, sums * tl.exp(best - logit) + 1.0, sums + _power(logit, best))
        best, found = tl.where(rises, logit, best), tl.where(rises, k, found)
    return best, found, sums, known


@triton.jit
@no_type_check
def _read_powers(plane, step, mask, classes, SOFTMAX: tl.constexpr):
    """Greatest logit and sum of powers; not read at all where no pixel of the patch asks, nor for sigmoid."""
    peak = tl.zeros(mask.shape, tl.float32)
    sums = tl.full(mask.shape, 1.0, tl.float32)
    if SOFTMAX:  # noqa: SIM102 - the outer is settled when compiling
        if tl.max(mask.to(tl.int32)) > 0:
            peak = tl.load(plane, mask=mask, other=0.0).to(tl.float32)
            sums = _power(peak, peak)
            for _ in range(1, classes):
                plane += step
                logit = tl.load(plane, mask=mask, other=0.0).to(tl.float32)
                rises = logit > peak
                sums = tl.where(rises, sums * tl.exp(peak - logit) + 1.0, sums + _power(logit, peak))
                peak = tl.where(rises, logit, peak)
    return peak, sums


@triton.jit
@no_type_check
def _add_source(plane, read, weight, peak, sums, mixed, alone, SOFTMAX: tl.constexpr):
    logit = tl.load(plane, mask=read, other=0.0).to(tl.float32)
    mixed += tl.where(read, weight * _activate(logit, peak, sums, SOFTMAX), 0.0)
    return mixed, alone + logit


@triton.jit
@no_type_check
def _is_number(value):
    # NaN alone differs from itself
    return value == value  # noqa: PLR0124


@triton.jit
@no_type_check
def _power(logit, peak):
    # a logit that equals the greatest is at distance 0 from it, infinite or not; NaN equals nothing
    return tl.exp(tl.where(logit == peak, 0.0, logit - peak))


@triton.jit
@no_type_check
def _activate(logit, peak, sums, SOFTMAX: tl.constexpr):
    if SOFTMAX:
        share = _power(logit, peak) / sums
    else:
        power = tl.exp(-tl.abs(logit))
        share = tl.where(logit < 0.0, power, 1.0) / (1.0 + power)
    return share


@triton.jit
@no_type_check
def _to_unit(share):
    return tl.minimum(tl.maximum(share, 0.0), 1.0)


@triton.jit
@no_type_check
def _store_share(at, share, answered, inside, QUANTISED: tl.constexpr):
    if QUANTISED:
        level = tl.where(answered, (255.0 * _to_unit(share) + 0.5).to(tl.int32), 0)
        tl.store(at, level.to(tl.uint8), mask=inside)
    else:
        tl.store(at, tl.where(answered, share, 0.0), mask=inside)
