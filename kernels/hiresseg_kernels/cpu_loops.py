"""The inner loops of the blend: runs of float32 in, runs out, so that they vectorise on any processor.

numba's cache of `cpu_blend.blend` looks at the date of that file alone: after a change here, delete
`__pycache__` (the tests do).
"""

# ruff: noqa: ANN201, D103 - arrays in and arrays out; the names say the rest
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-untyped-decorators=False
from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

NO_ANSWER = np.int32(255)
ZERO, MIDDLE, ONE = np.float32(0), np.float32(0.5), np.float32(1)

_LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts, the first with so few bits that its product with a small integer is exact
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# adding it rounds a small float to an integer and leaves that integer in the low bits
_ROUNDER = np.float32(12582912.0)
# a power of it times a weight is no subnormal yet, at which some processors are slow
_LOWEST = np.float32(-80.0)
_C2, _C3 = np.float32(0.49999141), np.float32(0.16666887)
_C4, _C5 = np.float32(0.04189881), np.float32(0.00833384)

# Without reference counts: these functions allocate nothing and give nothing back, and counting costs more
# than a short loop. `no_type_check` above: a function that is wrapped to be checked at run time is none
# that numba could compile.
inner = njit(nogil=True, error_model="numpy", _nrt=False)


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def select(typing_context, condition, then, other):  # noqa: ARG001 - numba's signature
    """`then if condition else other`, both sides evaluated; Python's own form compiles to a branch."""
    if then != other:
        return None
    signature = then(types.boolean, then, other)
    return signature, lambda context, builder, _, arguments: builder.select(*arguments)  # noqa: ARG005


@no_type_check
@inner
def argmax(x, at, step, classes, best, found):
    """Greatest value over the planes and its first index; after a NaN `best` is and stays NaN."""
    size = best.size
    copy(x[at : at + size], best)
    fill(found, np.int32(0))
    k = 1
    while k < classes:
        # the last plane may come more than once, which changes nothing
        b, c, d = min(k + 1, classes - 1), min(k + 2, classes - 1), min(k + 3, classes - 1)
        row_a, row_b = x[at + k * step : at + k * step + size], x[at + b * step : at + b * step + size]
        if k + 2 < classes:
            row_c, row_d = x[at + c * step : at + c * step + size], x[at + d * step : at + d * step + size]
            rise_four(
                row_a, row_b, row_c, row_d, (np.int32(k), np.int32(b), np.int32(c), np.int32(d)), best, found
            )
        else:
            rise_two(row_a, row_b, (np.int32(k), np.int32(b)), best, found)
        k += 4


# In the loops below no array gets back, through a single select, what was just read from it: LLVM makes a
# masked store of that, which takes some processors twenty cycles. Hence planes in pairs and fours, and
# outputs apart from inputs.


@no_type_check
@inner
def rise_two(row_a, row_b, indices, best, found):
    for j in range(best.size):
        held, index = greater(row_a[j], indices[0], best[j], found[j])
        best[j], found[j] = greater(row_b[j], indices[1], held, index)


@no_type_check
@inner
def rise_four(row_a, row_b, row_c, row_d, indices, best, found):
    for j in range(best.size):
        held, index = greater(row_a[j], indices[0], best[j], found[j])
        held, index = greater(row_b[j], indices[1], held, index)
        held, index = greater(row_c[j], indices[2], held, index)
        best[j], found[j] = greater(row_d[j], indices[3], held, index)


@no_type_check
@inner
def greater(value, k, held, index):
    # a number that differs from itself is NaN
    rises = (value > held) | (value != value)  # noqa: PLR0124
    return select(rises, value, held), select(rises, k, index)


@no_type_check
@inner
def peak(x, at, step, classes, best):
    """Greatest value over the planes; anything where there is a NaN, since the sum of powers shows that."""
    size = best.size
    copy(x[at : at + size], best)
    for k in range(1, classes, 2):
        b = min(k + 1, classes - 1)
        row_a, row_b = x[at + k * step : at + k * step + size], x[at + b * step : at + b * step + size]
        for j in range(size):
            held = select(row_a[j] > best[j], row_a[j], best[j])
            best[j] = select(row_b[j] > held, row_b[j], held)


@no_type_check
@inner
def settle(best, found, is_softmax, threshold, labels):
    """Turn indices into labels: 255 for NaN; under sigmoid 0 below the threshold, else one more."""
    if is_softmax:
        for j in range(best.size):
            labels[j] = select(best[j] == best[j], found[j], NO_ANSWER)
    else:
        for j in range(best.size):
            label = select(best[j] >= threshold, np.int32(found[j] + np.int32(1)), np.int32(0))
            labels[j] = select(best[j] == best[j], label, NO_ANSWER)


@no_type_check
@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def exp(value):
    """Give e ** value for value <= 0 or NaN, to a relative 2e-7; 2e-35 for everything below -80."""
    value = select(value < _LOWEST, _LOWEST, value)
    rounded = value * _LOG2_E + _ROUNDER
    power = rounded - _ROUNDER
    r = (value - power * _LN2_HIGH) - power * _LN2_LOW
    series = (((_C5 * r + _C4) * r + _C3) * r + _C2) * r * r + r + ONE
    exponent = np.int32(np.int32(np.float32(rounded).view(np.int32) << np.int32(23)) + np.int32(0x3F800000))
    return series * np.int32(exponent).view(np.float32)


@no_type_check
@inner
def distance(value, best):
    # a logit that equals the greatest is at distance 0 from it, infinite or not
    return exp(select(value == best, ZERO, value - best))


@no_type_check
@inner
def raise_powers(x, at, step, classes, best, powers, sums):
    size = best.size
    fill(sums, ZERO)
    for k in range(classes):
        row, out = x[at + k * step : at + k * step + size], powers[k * size : (k + 1) * size]
        for j in range(size):
            power = distance(row[j], best[j])
            out[j] = power
            sums[j] += power


@no_type_check
@inner
def sum_powers(x, at, step, classes, best, sums):
    size = best.size
    fill(sums, ZERO)
    for k in range(classes):
        row = x[at + k * step : at + k * step + size]
        for j in range(size):
            sums[j] += distance(row[j], best[j])


@no_type_check
@inner
def sigmoid(row, out):
    for j in range(row.size):
        power = exp(-abs(row[j]))
        out[j] = select(row[j] < ZERO, power, ONE) / (ONE + power)


@no_type_check
@inner
def weigh(row, col, weight):
    for i in range(row.size):
        out = weight[i * col.size : (i + 1) * col.size]
        for j in range(col.size):
            out[j] = row[i] * col[j]


@no_type_check
@inner
def fill(row, value):
    for j in range(row.size):
        row[j] = value


@no_type_check
@inner
def copy(row, out):
    for j in range(row.size):
        out[j] = row[j]


@no_type_check
@inner
def add(row, out):
    for j in range(row.size):
        out[j] += row[j]


@no_type_check
@inner
def put_product(row, weight, out):
    for j in range(row.size):
        out[j] = row[j] * weight[j]


@no_type_check
@inner
def add_product(row, weight, out):
    for j in range(row.size):
        out[j] += row[j] * weight[j]


@no_type_check
@inner
def divide(row, by, out):
    for j in range(row.size):
        out[j] = row[j] / by[j]


@no_type_check
@inner
def gather(memory, at, step, row):
    if step == 1:
        copy(memory[at : at + row.size], row)
    else:
        # unsigned, since numba tests every signed index for being negative
        source, place, pace = memory[at:], np.uint64(0), np.uint64(step)
        for j in range(row.size):
            row[j] = source[place]
            place += pace


@no_type_check
@inner
def widen_brain(words):
    for j in range(words.size):
        words[j] = np.int32(words[j] << np.int32(16))


@no_type_check
@inner
def widen_half(words):
    # 2 ** 112 corrects the bias of the exponent, for subnormal halves too
    bias = np.float32(2.0**112)
    for j in range(words.size):
        word = words[j]
        size = np.int32(np.int32(word & np.int32(0x7FFF)) << np.int32(13))
        scaled = np.float32(np.int32(size).view(np.float32) * bias).view(np.int32)
        # infinities and NaN keep their payload under the widest exponent
        scaled = select(size >= np.int32(0x0F800000), np.int32(size | np.int32(0x7F800000)), scaled)
        words[j] = np.int32(scaled | np.int32(np.int32(word & np.int32(0x8000)) << np.int32(16)))


@no_type_check
@inner
def blank(valid, at, step, labels, out):
    if step == 1:
        row = valid[at : at + labels.size]
        for j in range(labels.size):
            out[j] = select(row[j] != 0, labels[j], NO_ANSWER)
    else:
        for j in range(labels.size):
            out[j] = select(valid[at + j * step] != 0, labels[j], NO_ANSWER)


@no_type_check
@inner
def quantise(row, levels, labels, no_answer, codes):
    for j in range(row.size):
        share = select(row[j] > ZERO, row[j], ZERO)
        share = select(share < ONE, share, ONE)
        codes[j] = select(labels[j] != NO_ANSWER, np.int32(levels * share + MIDDLE), no_answer)


@no_type_check
@inner
def write(row, out, at, step):
    if step == 1:
        target = out[at : at + row.size]
        for j in range(row.size):
            target[j] = row[j]
    else:
        for j in range(row.size):
            out[at + j * step] = row[j]
