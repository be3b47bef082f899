"""Memory for what is kept long, apart from the heap in which tensors come and go.

Pages and strips live for minutes between tensors that live for milliseconds. On one heap they leave holes
that nothing fits, and it grows though no more is in use. Here each has a mapping of its own, and a mapping
that has become free is used by the next array of its size.
"""

from __future__ import annotations

import mmap
import weakref
from collections import defaultdict

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray


class Pool:
    """Arrays in mappings of their own; a mapping comes back when the last view of its array is gone."""

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = defaultdict(list)

    def take(self, num_bytes: int) -> UInt8[ndarray, " n"]:
        """Uninitialised bytes."""
        # no mapping is empty, though a strip between tiles that do not overlap is
        size = max(1, -(-num_bytes // mmap.PAGESIZE)) * mmap.PAGESIZE
        free = self._free[size]
        try:
            mapping = free.pop()
        except IndexError:
            mapping = mmap.mmap(-1, size)
        array = np.frombuffer(mapping, np.uint8, num_bytes)
        # appending is atomic: it may happen in any thread, even amid another call of this
        weakref.finalize(array, free.append, mapping)
        return array
