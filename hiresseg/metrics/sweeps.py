"""The loops of `nearest`, compiled when they are first used."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np

# not checked at run time: a wrapped function is none that numba could compile


@no_type_check
@numba.njit(nogil=True, cache=True)
def sweep(labels, reach, down, near, far, near_label):
    """Nearest label above (or below) each pixel, how far it is, and how far the nearest other."""
    height, width = labels.shape
    for step in range(height):
        row = step if down else height - 1 - step
        before = row - 1 if down else row + 1
        for col in range(width):
            first, second, name = reach + 1, reach + 1, -1
            if step:
                first, second = near[before, col] + 1, far[before, col] + 1
                name = near_label[before, col]
            if labels[row, col] >= 0:
                if labels[row, col] != name:
                    second, name = first, labels[row, col]
                first = 0
            near[row, col] = min(first, reach + 1)
            far[row, col] = min(second, reach + 1)
            near_label[row, col] = name if first <= reach else -1


@no_type_check
@numba.njit(nogil=True, cache=True)
def join(near, far, name, near2, far2, name2):
    """Take into the first three what the sweep from the other side found."""
    for row in range(near.shape[0]):
        for col in range(near.shape[1]):
            a, b, one, other = near[row, col], near2[row, col], name[row, col], name2[row, col]
            if one == other:
                near[row, col] = min(a, b)
                far[row, col] = min(far[row, col], far2[row, col])
            elif a <= b:
                far[row, col] = min(far[row, col], b)
            else:
                near[row, col], name[row, col] = b, other
                far[row, col] = min(a, far2[row, col])


@no_type_check
@numba.njit(nogil=True, cache=True)
def cross(labels, reach, is_ellipse, near, far, name, out):
    """Least key over the columns in reach: squared and shifted for the ellipse, plain for the square."""
    height, width = labels.shape
    left_run, right_run = np.zeros(width, np.int32), np.zeros(width, np.int32)
    limit = reach * reach if is_ellipse else reach
    for row in range(height):
        # columns that hold nothing but one class in reach, and the same as their neighbour, need no look
        for col in range(1, width):
            same = name[row, col] == name[row, col - 1]
            plain = far[row, col] > reach and far[row, col - 1] > reach
            left_run[col] = left_run[col - 1] + 1 if same and plain else 0
        for col in range(width - 1, 0, -1):
            right_run[col - 1] = right_run[col] + 1 if left_run[col] else 0
        for col in range(width):
            own = labels[row, col]
            if own < 0:
                continue
            best = limit + 1
            begin = min(left_run[col], right_run[col]) if far[row, col] > reach else 0
            # at the rim there is no run to be cut short by
            if col - begin <= 0:
                begin = right_run[col]
            elif col + begin >= width - 1:
                begin = left_run[col]
            for across in range(begin, reach + 1):
                least = across * across - across + 1 if is_ellipse and across else across
                if least >= best:
                    break
                for at in (col - across, col + across):
                    if at < 0 or at >= width:
                        continue
                    up = near[row, at] if name[row, at] != own else far[row, at]
                    if up > reach:
                        continue
                    key = max(up, across)
                    if is_ellipse:
                        key = up * up + (across * across - across + 1 if across else 0)
                    best = min(best, key)
            if best > limit:
                continue
            radius = best
            if is_ellipse:
                radius = int(np.sqrt(best))
                while radius * radius < best:
                    radius += 1
            out[row, col] = radius
