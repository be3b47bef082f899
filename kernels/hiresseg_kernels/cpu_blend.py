"""The compiled blend: one core, no interpreter lock, one rectangle of one cell at a time.

A cell falls into rectangles by its weights (0, between, 1), and on each of them the same sources speak.
Most pixels have one source of weight 1: there the label is a running maximum over the planes where they
are, and nothing is exponentiated unless asked for. Elsewhere the planes are gathered into patches that fit
a core's cache.
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-untyped-decorators=False
from __future__ import annotations

from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hiresseg_kernels.cpu_cut import BRAIN, SINGLE
from hiresseg_kernels.cpu_loops import (
    MIDDLE,
    NO_ANSWER,
    ONE,
    ZERO,
    add,
    add_product,
    argmax,
    blank,
    copy,
    divide,
    exp,
    fill,
    gather,
    inner,
    peak,
    put_product,
    quantise,
    raise_powers,
    select,
    settle,
    sigmoid,
    sum_powers,
    weigh,
    widen_brain,
    widen_half,
    write,
)

# five classes of it, in and out, fill half of a 32 KiB cache
_PATCH_PX = 512
_STRETCH_ROWS = 16
# a literal 0 would be a type of its own, and everything it reaches would be compiled twice
_START = np.int64(0)


class Sources(NamedTuple):
    """Memory of own, above, left and corner, as float32 or as bits in the format `kind`."""

    floats: tuple[NDArray[np.float32], ...]
    bits: tuple[NDArray[np.uint16], ...]
    kind: int
    strides: NDArray[np.int64]
    """One row per source: tile, plane, row, column."""


class Beside(NamedTuple):
    """Memory of the prior and of the mask; empty where there is none."""

    prior: NDArray[np.float32]
    prior_strides: tuple[int, ...]
    valid: NDArray[np.uint8]
    valid_strides: tuple[int, ...]


class Answers(NamedTuple):
    """Memory to write; empty where nobody asked."""

    labels: NDArray[np.uint8]
    label_strides: tuple[int, ...]
    confidence: NDArray[np.uint8]
    confidence_strides: tuple[int, ...]
    bytes: NDArray[np.uint8]
    floats: NDArray[np.float32]
    probability_strides: tuple[int, ...]
    """Of `bytes` or `floats`, whichever is not empty."""


class _Patch(NamedTuple):
    """Room to work in: planes of classes first, then single runs."""

    logits: NDArray[np.float32]
    powers: NDArray[np.float32]
    mixed: NDArray[np.float32]
    best: NDArray[np.float32]
    sums: NDArray[np.float32]
    weight: NDArray[np.float32]
    total: NDArray[np.float32]
    sure: NDArray[np.float32]
    found: NDArray[np.int32]
    labels: NDArray[np.int32]
    codes: NDArray[np.int32]


@no_type_check
@njit(nogil=True, cache=True, error_model="numpy")
def blend(sources, shape, present, row_weights, col_weights, beside, answers):  # noqa: ANN201
    """Write the answers for every cell; `shape` is (classes, overlap, is_softmax)."""
    classes, overlap, is_softmax = shape
    count, size = row_weights.shape
    patch = _make_patch(classes, max(size, _PATCH_PX))
    rows, cols = np.empty((2, size), np.float32), np.empty((2, size), np.float32)
    row_ends, col_ends = np.empty(size, np.int64), np.empty(size, np.int64)
    for n in range(count):
        bands = _split(row_weights[n], overlap, rows, row_ends)
        pieces = _split(col_weights[n], overlap, cols, col_ends)
        begin = _START
        for band in range(bands):
            # a few rows at a time over the full width, so that memory is read in long stretches
            for top in range(begin, row_ends[band], _STRETCH_ROWS):
                bottom = min(top + _STRETCH_ROWS, row_ends[band])
                left = _START
                for piece in range(pieces):
                    box = n, top, bottom, left, col_ends[piece]
                    speakers = _who_speaks(present[n], rows[:, top], cols[:, left])
                    _answer_box(
                        sources, classes, is_softmax, rows, cols, beside, answers, patch, box, speakers
                    )
                    left = col_ends[piece]
            begin = row_ends[band]


@no_type_check
@njit(nogil=True, error_model="numpy")
def _make_patch(classes, size):
    planes = classes * size
    return _Patch(
        np.empty(planes, np.float32), np.empty(planes, np.float32), np.empty(planes, np.float32),
        np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32),
        np.empty(size, np.float32), np.empty(size, np.float32),
        np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32),
    )  # fmt: skip


@no_type_check
@inner
def _split(weights, overlap, factors, ends):
    """Fill in both factors of an axis; cut it where one of them becomes 0 or ceases to be; count the runs."""
    runs, before = 0, -1
    for j in range(ends.size):
        weight = weights[j] if j < overlap else ONE
        factors[0, j] = weight
        factors[1, j] = ONE - weight
        sort = 2 * (weight > ZERO) + (weight < ONE)
        runs += sort != before
        before = sort
        ends[runs - 1] = j + 1
    return runs


@no_type_check
@inner
def _who_speaks(present, row, col):
    """Sources of any weight, as bits: those that are present, and those that are absent."""
    readers, absent = 0, 0
    for q in range(4):
        if row[q & 1] > ZERO and col[q >> 1] > ZERO:
            if present[q]:
                readers |= 1 << q
            else:
                absent |= 1 << q
    return readers, absent


@no_type_check
@inner
def _answer_box(sources, classes, is_softmax, rows, cols, beside, answers, patch, box, speakers):
    n, top, bottom, left, right = box
    readers, absent = speakers
    width = right - left
    rest = absent != 0 and beside.prior.size > 0
    alone = readers != 0 and readers & (readers - 1) == 0 and not rest
    first = _first_of(readers)
    in_place = alone and sources.kind == SINGLE and sources.strides[first, 3] == 1
    height = 1 if in_place else max(1, _PATCH_PX // width)
    for i in range(top, bottom, height):
        part = n, i, min(i + height, bottom), left, right
        size = (part[2] - i) * width
        if in_place:
            at, step = _begin(sources.strides[first], part), sources.strides[first, 1]
            _answer_alone(sources.floats[first], at, step, size, classes, is_softmax, patch, answers)
        elif alone:
            _gather_planes(sources, first, classes, patch.logits, part)
            _answer_alone(patch.logits, _START, size, size, classes, is_softmax, patch, answers)
        elif readers == 0 and not rest:
            fill(patch.labels[:size], NO_ANSWER)
        else:
            _mix(sources, classes, is_softmax, rows, cols, beside, answers, patch, part, speakers)
        for r in range(part[2] - i):
            _write_row(beside, answers, patch, classes, size, r * width, (n, i + r, left, width))


@no_type_check
@inner
def _first_of(readers):
    q = 0
    while q < 3 and not readers >> q & 1:
        q += 1
    return q


@no_type_check
@inner
def _begin(strides, part):
    n, top, _, left, _ = part
    return n * strides[0] + top * strides[-2] + left * strides[-1]


@no_type_check
@inner
def _answer_alone(x, at, step, size, classes, is_softmax, patch, answers):
    """One source is the answer: its logits decide, and become probabilities only if somebody wants them."""
    best, found, sums, sure = patch.best[:size], patch.found[:size], patch.sums[:size], patch.sure[:size]
    keep, need_sure = answers.bytes.size + answers.floats.size > 0, answers.confidence.size > 0
    argmax(x, at, step, classes, best, found)
    if is_softmax and keep:
        raise_powers(x, at, step, classes, best, patch.powers, sums)
        for k in range(classes):
            divide(patch.powers[k * size : (k + 1) * size], sums, patch.mixed[k * size : (k + 1) * size])
    elif is_softmax and need_sure:
        sum_powers(x, at, step, classes, best, sums)
    elif keep:
        for k in range(classes):
            sigmoid(x[at + k * step : at + k * step + size], patch.mixed[k * size : (k + 1) * size])
    if need_sure and is_softmax:
        for j in range(size):
            sure[j] = ONE / sums[j]
    elif need_sure:
        for j in range(size):
            sure[j] = ONE / (ONE + exp(-abs(best[j])))
    settle(best, found, is_softmax, ZERO, patch.labels[:size])


@no_type_check
@inner
def _mix(sources, classes, is_softmax, rows, cols, beside, answers, patch, part, speakers):
    """Several sources, or the prior, make up the answer: weigh their probabilities and decide by the sum."""
    _, top, bottom, left, right = part
    readers, absent = speakers
    size = (bottom - top) * (right - left)
    total, best, found = patch.total[:size], patch.best[:size], patch.found[:size]
    fill(total, ZERO)
    spoken = _START
    for q in range(4):
        if readers >> q & 1:
            weight = patch.weight[:size]
            weigh(rows[q & 1, top:bottom], cols[q >> 1, left:right], weight)
            add(weight, total)
            if bottom - top == 1 and sources.kind == SINGLE and sources.strides[q, 3] == 1:
                logits, at, step = sources.floats[q], _begin(sources.strides[q], part), sources.strides[q, 1]
                _add_source(logits, at, step, classes, is_softmax, size, spoken == 0, patch)
            else:
                _gather_planes(sources, q, classes, patch.logits, part)
                _add_source(patch.logits, _START, size, classes, is_softmax, size, spoken == 0, patch)
            spoken += 1
    if absent and beside.prior.size:
        fill(total, ZERO)
        for q in range(4):
            if absent >> q & 1:
                weigh(rows[q & 1, top:bottom], cols[q >> 1, left:right], patch.weight[:size])
                add(patch.weight[:size], total)
        _gather_prior(beside, classes, patch.logits, part)
        for k in range(classes):
            share, mixed = patch.logits[k * size : (k + 1) * size], patch.mixed[k * size : (k + 1) * size]
            if spoken == 0:
                put_product(share, total, mixed)
            else:
                add_product(share, total, mixed)
    elif absent:
        for k in range(classes):
            divide(patch.mixed[k * size : (k + 1) * size], total, patch.mixed[k * size : (k + 1) * size])
    argmax(patch.mixed, _START, size, classes, best, found)
    if answers.confidence.size:
        sure = patch.sure[:size]
        for j in range(size):
            sure[j] = select(is_softmax | (best[j] >= MIDDLE), best[j], ONE - best[j])
    settle(best, found, is_softmax, MIDDLE, patch.labels[:size])


@no_type_check
@inner
def _add_source(x, at, step, classes, is_softmax, size, is_first, patch):
    """Add the weighed probabilities of a source to what is mixed, or begin with them."""
    weight, sums, powers = patch.weight[:size], patch.sums[:size], patch.powers
    if is_softmax:
        peak(x, at, step, classes, patch.best[:size])
        raise_powers(x, at, step, classes, patch.best[:size], powers, sums)
        divide(weight, sums, weight)
    else:
        for k in range(classes):
            sigmoid(x[at + k * step : at + k * step + size], powers[k * size : (k + 1) * size])
    for k in range(classes):
        power, mixed = powers[k * size : (k + 1) * size], patch.mixed[k * size : (k + 1) * size]
        if is_first:
            put_product(power, weight, mixed)
        else:
            add_product(power, weight, mixed)


@no_type_check
@inner
def _gather_planes(sources, q, classes, out, part):
    """Lay the planes of a part of a source one after the other, as float32."""
    _, top, bottom, left, right = part
    strides, width = sources.strides[q], right - left
    at, to = _begin(strides, part), 0
    for k in range(classes):
        for r in range(bottom - top):
            row, begin = out[to : to + width], at + k * strides[1] + r * strides[2]
            if sources.kind == SINGLE:
                gather(sources.floats[q], begin, strides[3], row)
            else:
                gather(sources.bits[q], begin, strides[3], row.view(np.int32))
            to += width
    if sources.kind == BRAIN:
        widen_brain(out[:to].view(np.int32))
    elif sources.kind != SINGLE:
        widen_half(out[:to].view(np.int32))


@no_type_check
@inner
def _gather_prior(beside, classes, out, part):
    _, top, bottom, left, right = part
    at, to, width = _begin(beside.prior_strides, part), 0, right - left
    for k in range(classes):
        for r in range(bottom - top):
            begin = at + k * beside.prior_strides[1] + r * beside.prior_strides[2]
            gather(beside.prior, begin, beside.prior_strides[3], out[to : to + width])
            to += width


@no_type_check
@inner
def _write_row(beside, answers, patch, classes, size, begin, place):
    """Write a row of a part whose answers begin at `begin`; `place` is cell, row, column and width."""
    n, i, left, width = place
    at = n, i, i, left, left
    labels, codes, end = patch.labels[begin : begin + width], patch.codes[:width], begin + width
    if beside.valid.size:
        unmasked = patch.found[begin:end]
        copy(labels, unmasked)
        blank(beside.valid, _begin(beside.valid_strides, at), beside.valid_strides[2], unmasked, labels)
    write(labels, answers.labels, _begin(answers.label_strides, at), answers.label_strides[2])
    if answers.confidence.size:
        quantise(patch.sure[begin:end], np.float32(254), labels, NO_ANSWER, codes)
        sure_strides = answers.confidence_strides
        write(codes, answers.confidence, _begin(sure_strides, at), sure_strides[2])
    for k in range(classes):
        strides = answers.probability_strides
        share = patch.mixed[k * size + begin : k * size + end]
        if answers.bytes.size:
            quantise(share, np.float32(255), labels, np.int32(0), codes)
            write(codes, answers.bytes, _begin(strides, at) + k * strides[1], strides[3])
        elif answers.floats.size:
            kept = patch.powers[:width]
            for j in range(width):
                kept[j] = select(labels[j] != NO_ANSWER, share[j], ZERO)
            write(kept, answers.floats, _begin(strides, at) + k * strides[1], strides[3])
