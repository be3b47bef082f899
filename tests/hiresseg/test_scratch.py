import os

import pytest

from hiresseg.errors import StoreError
from hiresseg.scratch import ScratchFile


def test_slots_hold_what_was_written(tmp_path):
    scratch = ScratchFile(tmp_path, 100)
    slots = [scratch.take_slot() for _ in range(5)]
    for slot in slots:
        scratch.write(slot, bytes([slot]) * (90 + slot))
    for slot in reversed(slots):
        into = bytearray(90 + slot)
        scratch.read_into(slot, memoryview(into))
        assert into == bytes([slot]) * (90 + slot)
    assert not list(tmp_path.iterdir())
    scratch.close()
    scratch.close()


def test_a_freed_slot_is_used_again(tmp_path):
    scratch = ScratchFile(tmp_path, 10)
    first, second = scratch.take_slot(), scratch.take_slot()
    scratch.free_slot(first)
    assert scratch.take_slot() == first
    assert scratch.take_slot() not in {first, second}


def test_a_full_disk_is_an_error_of_the_store(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match=r"cannot be put aside.*No space left"):
        ScratchFile(tmp_path, 10).write(0, b"x")


def test_a_short_write_goes_on(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, rest, at: pwrite(file, rest[:3], at))
    scratch = ScratchFile(tmp_path, 10)
    scratch.write(1, b"0123456789")
    into = bytearray(10)
    scratch.read_into(1, memoryview(into))
    assert into == b"0123456789"


def test_what_was_never_written_is_no_page(tmp_path):
    scratch = ScratchFile(tmp_path, 10)
    scratch.write(0, b"0123456789")
    with pytest.raises(StoreError, match="ends at byte 10"):
        scratch.read_into(1, memoryview(bytearray(4)))
