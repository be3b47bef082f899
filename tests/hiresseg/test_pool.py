from __future__ import annotations

import gc

import numpy as np

from hiresseg.pool import Pool


def address(array):
    return array.__array_interface__["data"][0]


def test_arrays_do_not_share_memory():
    pool = Pool()
    arrays = [pool.take(5000) for _ in range(4)]
    for value, array in enumerate(arrays):
        array[:] = value
    assert [np.unique(array).tolist() for array in arrays] == [[0], [1], [2], [3]]


def test_memory_is_used_again_only_when_the_last_view_is_gone():
    pool = Pool()
    first = pool.take(8192)
    place, view = address(first), first.view(np.uint16).reshape(2, -1)[1]
    del first
    gc.collect()
    assert address(pool.take(8192)) != place
    del view
    gc.collect()
    kept = [pool.take(8192) for _ in range(3)]
    assert place in map(address, kept)


def test_nothing_takes_no_more_than_its_name():
    assert Pool().take(0).size == 0
