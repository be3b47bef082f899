"""Strips between blocks: the same bytes from memory and from disk, and nobody waits in vain."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import contextmanager

import pytest
import torch

from hiresseg.borders import Borders
from hiresseg.errors import StoreError

WRITER, READER, OTHER = (0, 0), (0, 1), (1, 0)
KEY = ("right", 3, 4)


@pytest.fixture(params=[0, 1 << 20], ids=["spilled", "in memory"])
def borders(request, tmp_path):
    opened = Borders([WRITER, READER, OTHER], request.param, tmp_path)
    yield opened
    opened.close()


@contextmanager
def a_waiting_reader(borders):
    """A thread that waits for KEY; gives the list that its answer comes to lie in."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(borders.take(KEY, READER, WRITER)), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not borders._changed._waiters:
        assert time.monotonic() < deadline, "the reader does not wait"
        time.sleep(0.001)
    assert not answers
    yield answers
    thread.join(20)
    assert not thread.is_alive(), "the reader was not woken"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gives_the_bytes_that_were_left(borders, dtype):
    torch.manual_seed(0)
    strips = {("right", row, 4): torch.randn(5, 8, 3).to(dtype) for row in range(4)}
    for key, strip in strips.items():
        borders.leave(key, strip, READER)
    for key, strip in reversed(strips.items()):
        found, taken = borders.take(key, READER, WRITER)
        assert found
        assert taken.dtype == dtype
        assert torch.equal(taken, strip)


def test_keeps_a_copy_of_a_view(borders):
    buffer = torch.arange(60.0).reshape(3, 4, 5)
    borders.leave(KEY, buffer[:, :, 2:], READER)
    buffer.zero_()
    _, taken = borders.take(KEY, READER, WRITER)
    assert torch.equal(taken, torch.arange(60.0).reshape(3, 4, 5)[:, :, 2:])


def test_a_strip_is_taken_once(borders):
    borders.leave(KEY, torch.ones(1), READER)
    assert borders.take(KEY, READER, WRITER)[0]
    assert borders.take(KEY, READER, WRITER) == (False, None)


def test_a_tile_that_was_not_run_is_no_missing_strip(borders):
    borders.leave(KEY, None, READER)
    assert borders.take(KEY, READER, WRITER) == (True, None)


def test_nothing_is_kept_for_a_block_that_is_done_or_unknown(borders):
    borders.finish(READER)
    borders.leave(KEY, torch.ones(1), READER)
    borders.leave(KEY, torch.ones(1), (7, 7))
    assert borders.take(KEY, READER, WRITER) == (False, None)
    assert borders.take(KEY, (7, 7), WRITER) == (False, None)


def test_a_finished_reader_drops_what_it_did_not_take(tmp_path):
    borders = Borders([READER, OTHER], 100, tmp_path)
    for turn in range(50):
        borders.leave(("right", turn, 0), torch.ones(20), READER)
        borders.leave(("bottom", turn, 0), torch.ones(20), OTHER)
        for key, block in ((("right", turn, 0), READER), (("bottom", turn, 0), OTHER)):
            assert borders.take(key, block, WRITER)[0]
    # places in the file are used again: never more than the two strips that lay there together
    assert 0 < sum(file.size_bytes for file in borders._files.values()) <= 2 * 80
    borders.leave(KEY, torch.ones(20), READER)
    borders.finish(READER)
    assert borders._held_bytes == 0
    borders.close()


def test_memory_is_bounded_and_the_scratch_file_has_no_name(tmp_path):
    borders = Borders([READER], 1000, tmp_path)
    strips = [torch.full((100,), float(n)) for n in range(10)]
    for n, strip in enumerate(strips):
        borders.leave(("right", n, 0), strip, READER)
        assert borders._held_bytes <= 1000
    assert sum(file.size_bytes for file in borders._files.values()) == 400 * 8
    assert list(tmp_path.iterdir()) == []
    for n, strip in enumerate(strips):
        assert torch.equal(borders.take(("right", n, 0), READER, WRITER)[1], strip)
    borders.close()


def test_nobody_waits_for_a_block_that_is_not_running(borders):
    assert borders.take(KEY, READER, WRITER) == (False, None)
    borders.start(WRITER)
    borders.finish(WRITER)
    assert borders.take(KEY, READER, WRITER) == (False, None)


def test_a_waiting_reader_is_woken_by_the_strip(borders):
    borders.start(WRITER)
    with a_waiting_reader(borders) as answers:
        borders.leave(("right", 0, 0), torch.zeros(1), READER)
        borders.leave(KEY, torch.full((2,), 5.0), READER)
    (found, strip), *_ = answers
    assert found
    assert strip.tolist() == [5, 5]


@pytest.mark.parametrize("end", ["finish", "stop"])
def test_a_waiting_reader_is_woken_by_the_end(borders, end):
    borders.start(WRITER)
    with a_waiting_reader(borders) as answers:
        borders.finish(WRITER) if end == "finish" else borders.stop()
    assert answers == [(False, None)]


def test_after_a_stop_nobody_waits(borders):
    borders.start(WRITER)
    borders.stop()
    assert borders.take(KEY, READER, WRITER) == (False, None)


@pytest.mark.parametrize("failure", ["at once", "half way"])
def test_a_full_disk_is_said_and_leaves_no_half_of_a_strip(tmp_path, monkeypatch, failure):
    pwrite = os.pwrite

    def full(descriptor, data, offset):
        # a full disk takes what it still can, and only then says so
        if failure == "at once" or len(data) < 400:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, bytes(data)[:7], offset)

    monkeypatch.setattr(os, "pwrite", full)
    borders = Borders([READER], 0, tmp_path)
    with pytest.raises(StoreError, match=r"No space left on device.*run the same command again"):
        borders.leave(KEY, torch.ones(100), READER)
    borders.close()
