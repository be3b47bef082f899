"""Shards as written here are shards to any reader of zarr, and damage does not go unseen."""

from __future__ import annotations

import errno
import os
import stat

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg import shards
from hiresseg.durable import write_durably
from hiresseg.errors import StoreError
from hiresseg.shards import decode_chunk, encode_shard, read_index
from hiresseg.store import ArrayLayout, RunArray


def noise(*shape, fill=255, seed=0):
    """Random values, in which some chunks hold nothing but fill."""
    values = np.random.default_rng(seed).integers(0, 4, shape, np.uint8) * 85
    values[..., :20, 16:40] = fill
    return values


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 100), st.integers(1, 130), st.sampled_from([0, 1, 3]), st.sampled_from([0, 255]))
def test_zarr_python_reads_what_was_written(tmp_path_factory, height, width, channels, fill):
    folder = tmp_path_factory.mktemp("run")
    array = RunArray(folder, ArrayLayout("stages/0/answers", channels, height, width, 16, 48, fill))
    array.write_metadata()
    values = noise(*((channels,) if channels else ()), height, width, fill=fill, seed=height)
    for row in range(-(-height // 48)):
        for col in range(-(-width // 48)):
            part = values[..., row * 48 : (row + 1) * 48, col * 48 : (col + 1) * 48]
            array.write_shard(row, col, part)
    there = zarr.open_array(str(folder / "stages/0/answers"), mode="r")
    assert there.dtype == np.uint8
    assert there.fill_value == fill
    assert there.chunks[-2:] == (16, 16)
    np.testing.assert_array_equal(there[...], values)


def test_what_zarr_python_wrote_is_read_here(tmp_path):
    array = RunArray(tmp_path, ArrayLayout("labels", 0, 90, 70, 16, 48, 255))
    array.write_metadata()
    values = noise(90, 70)
    zarr.open_array(str(tmp_path / "labels"), mode="r+")[...] = values
    index = read_index(array.shard_path(1, 0), 3)
    # the lower row of the lower shards lies outside the array
    assert (2, 0) in index
    assert (2, 2) in index
    chunk = array.read_chunk(3, 1)
    np.testing.assert_array_equal(chunk, values[48:64, 16:32])


def test_the_same_pixels_are_the_same_bytes():
    values = noise(2, 33, 48)
    first = encode_shard(values, 16, 48, 255)
    assert first == encode_shard(np.asfortranarray(values), 16, 48, 255)
    wider = np.full((2, 48, 48), 255, np.uint8)
    wider[:, :33] = values
    # what a block leaves out at the scene's edge is fill
    assert encode_shard(wider, 16, 48, 255) == first


def test_chunks_of_fill_take_no_place(tmp_path):
    values = np.full((1, 48, 48), 7, np.uint8)
    assert encode_shard(values, 16, 48, 7) is None
    values[0, 20, 40] = 8
    path = tmp_path / "shard"
    path.write_bytes(encode_shard(values, 16, 48, 7))
    ((place, (offset, length)),) = read_index(path, 3).items()
    assert place == (1, 2)
    chunk = decode_chunk(path.read_bytes()[offset : offset + length], 1, 16)
    assert chunk.sum() == 7 * 256 + 1


def test_a_damaged_index_is_refused(tmp_path):
    path = tmp_path / "shard"
    data = bytearray(encode_shard(noise(1, 48, 48), 16, 48, 255))
    data[-20] ^= 4
    path.write_bytes(data)
    with pytest.raises(StoreError, match="does not match its checksum"):
        read_index(path, 3)


@pytest.mark.parametrize("size", [0, 40, 147])
def test_a_shard_shorter_than_its_index_is_refused(tmp_path, size):
    path = tmp_path / "shard"
    path.write_bytes(encode_shard(noise(1, 48, 48), 16, 48, 255)[-size:] if size else b"")
    with pytest.raises(StoreError, match="shard"):
        read_index(path, 3)


def test_a_damaged_chunk_is_refused(tmp_path):
    array = RunArray(tmp_path, ArrayLayout("labels", 0, 48, 48, 16, 48, 255))
    array.write_shard(0, 0, noise(48, 48))
    path = array.shard_path(0, 0)
    whole = path.read_bytes()
    start, length = read_index(path, 3)[2, 2]
    for place in (start, start + length // 2, start + length - 1):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(StoreError, match=r"labels: chunk \(2, 2\) is damaged"):
            array.read_chunk(2, 2)


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    write_durably(path, b"one")
    seen = []

    def fsync(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        seen.append((kind, path.read_bytes(), os.fstat(descriptor).st_size if kind == "file" else None))

    monkeypatch.setattr(shards.os, "fsync", fsync)
    write_durably(path, b"three")
    # the data are on disk before the name is, and the name before it returns
    assert seen == [("file", b"one", 5), ("folder", b"three", None)]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_partial(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    write_durably(path, b"old")

    def refuse(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = shards.os if step == "fsync" else shards.Path
    monkeypatch.setattr(target, step, refuse)
    with pytest.raises(StoreError, match=r"file: cannot be written \(No space left on device\).*it goes on"):
        write_durably(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
