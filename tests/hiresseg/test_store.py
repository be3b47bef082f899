"""The run on disk: what is done stays done, what is damaged is seen, and one process writes at a time."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from hiresseg import shards
from hiresseg import store as store_module
from hiresseg.errors import StoreError
from hiresseg.geometry import TileGrid, Window
from hiresseg.store import ArrayLayout, RunStore

SIZE = (1000, 700)
GRID = TileGrid(64, 16, *SIZE)
BLOCK_PX = 528
LAYOUTS = [
    ArrayLayout("labels", 0, *SIZE, 528, BLOCK_PX, 255),
    ArrayLayout("stages/0/probabilities", 2, *SIZE, 528, BLOCK_PX, 0),
]


def pixels(seed=0):
    labels = np.random.default_rng(seed).integers(0, 3, SIZE, np.uint8)
    # the last block holds nothing but fill
    labels[528:, 528:] = 255
    return labels


def arrays_of(block, labels):
    part = labels[block.window.slices_in(Window(0, 0, *SIZE))]
    return {"labels": part, "stages/0/probabilities": np.stack([part == 1, part == 2]).astype(np.uint8)}


def finish(store, blocks, labels):
    for block in blocks:
        store.finish_block(1, block, arrays_of(block, labels), {"tiles": 3})


@pytest.fixture
def store(tmp_path):
    opened = RunStore(tmp_path / "out")
    opened.lock()
    opened.create({"model": "m"}, LAYOUTS)
    yield opened
    opened.close()


@pytest.fixture
def blocks():
    return GRID.blocks(BLOCK_PX)


def keys(blocks):
    return {(1, block.row, block.col) for block in blocks}


def test_any_zarr_reads_a_run(store, blocks):
    labels = pixels()
    finish(store, blocks, labels)
    group = zarr.open_group(str(store.group), mode="r")
    np.testing.assert_array_equal(group["labels"][...], labels)
    np.testing.assert_array_equal(group["stages/0/probabilities"][1], labels == 2)
    assert group.attrs["hiresseg"]["model"] == "m"
    assert group["labels"].shards == (528, 528)


def test_reads_any_window_back(store, blocks):
    labels = pixels()
    finish(store, blocks, labels)
    for window in (Window(0, 0, *SIZE), Window(527, 527, 2, 2), Window(999, 0, 1, 700), Window(3, 4, 0, 5)):
        part = window.slices_in(Window(0, 0, *SIZE))
        np.testing.assert_array_equal(store.arrays["labels"].read(window), labels[None][:, *part])
        both = np.stack([labels == 1, labels == 2])[:, *part]
        np.testing.assert_array_equal(store.arrays["stages/0/probabilities"].read(window), both)


def test_reads_anew_what_was_written_anew(store, blocks):
    array = store.arrays["labels"]
    finish(store, blocks, pixels(0))
    assert array.read(Window(0, 0, 1, 1)) is not None
    finish(store, blocks, pixels(1))
    np.testing.assert_array_equal(array.read(Window(0, 0, *SIZE))[0], pixels(1))
    # from something to nothing but fill
    store.finish_block(1, blocks[0], {"labels": np.full((528, 528), 255, np.uint8)}, {})
    assert array.read_chunk(0, 0) is None


def test_a_block_of_fill_has_no_file_and_is_finished(store, blocks):
    finish(store, blocks, pixels())
    assert not store.arrays["labels"].shard_path(1, 1).exists()
    finished = store.finished_blocks()
    assert set(finished) == keys(blocks)
    assert finished[1, 1, 1]["files"] == {}
    assert finished[1, 0, 0]["tiles"] == 3
    assert set(finished[1, 0, 0]["files"]) == {"labels/c/0/0", "stages/0/probabilities/c/0/0/0"}


def test_no_block_is_finished_in_a_new_run(store):
    assert store.finished_blocks() == {}


def test_the_line_comes_after_the_data_and_both_are_durable(store, blocks, monkeypatch):
    synced, fsync = [], os.fsync

    def watch(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()).removeprefix(f"{store.group}/"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    finish(store, blocks[:1], pixels())
    assert synced[-1] == "journal"
    assert [name for name in synced if "partial" in name] == [
        f"labels/c/0/.0.{os.getpid()}.partial",
        f"stages/0/probabilities/c/0/0/.0.{os.getpid()}.partial",
    ]
    assert set(store.finished_blocks()) == keys(blocks[:1])


@pytest.mark.parametrize("cut", [1, 20, 10_000])
def test_a_torn_line_is_cut_off_and_the_run_goes_on(store, blocks, cut):
    labels = pixels()
    finish(store, blocks[:2], labels)
    journal = store.group / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[1][: max(1, len(lines[1]) - cut)])
    again = RunStore(store.folder)
    again.open_arrays(LAYOUTS)
    assert set(again.finished_blocks()) == keys(blocks[:1])
    finish(again, blocks[1:], labels)
    assert set(again.finished_blocks()) == keys(blocks)


def test_a_line_that_is_no_line_is_passed_over(store, blocks):
    finish(store, blocks[:3], pixels())
    journal = store.group / "journal"
    changed = journal.read_bytes().replace(b'"col": 1, "files"', b'"col": 9, "files"')
    assert changed != journal.read_bytes()
    journal.write_bytes(changed + b"\x00\x00\x00\n[]\n00000000 {}\n")
    assert set(store.finished_blocks()) == keys([blocks[0], blocks[2]])
    finish(store, blocks[1:2], pixels())
    assert set(store.finished_blocks()) == keys(blocks[:3])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [flip, lambda path: os.truncate(path, path.stat().st_size - 1), lambda path: path.unlink()],
    ids=["a flipped bit", "cut short", "deleted"],
)
@pytest.mark.parametrize("name", ["labels/c/0/1", "stages/0/probabilities/c/0/0/1"])
def test_a_block_with_a_damaged_shard_is_not_finished(store, blocks, harm, name):
    finish(store, blocks, pixels())
    harm(store.group / name)
    assert set(store.finished_blocks()) == keys(blocks) - {(1, 0, 1)}
    finish(store, blocks[1:2], pixels())
    assert set(store.finished_blocks()) == keys(blocks)


def test_the_order_of_blocks_does_not_change_a_byte(tmp_path, blocks):
    contents = []
    for order in (blocks, blocks[::-1]):
        store = RunStore(tmp_path / str(len(contents)))
        store.create({}, LAYOUTS)
        finish(store, order, pixels())
        files = sorted(path for path in store.group.rglob("*") if path.is_file() and path.name != "journal")
        contents.append({path.relative_to(store.group): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3 + 3 + 3


HOLDER = """
import sys, time
from pathlib import Path
from hiresseg.store import RunStore
store = RunStore(Path(sys.argv[1]))
store.lock()
print("locked", flush=True)
time.sleep(600)
"""


def test_one_process_writes_and_its_death_frees_the_folder(tmp_path):
    folder = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(StoreError, match=f"another run is writing there \\(process {holder.pid} on "):
            RunStore(folder).lock()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    store = RunStore(folder)
    store.lock()
    store.close()
    # and closing does too
    RunStore(folder).lock()


def test_a_name_that_the_disk_cannot_hold_is_refused(tmp_path):
    with pytest.raises(StoreError, match="cannot be written"):
        RunStore(tmp_path / ("x" * 5000)).lock()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_files_is_refused(tmp_path, overwrite):
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(StoreError, match=r"not of a run \(thesis.doc\); give another folder with -o"):
        RunStore(tmp_path).refuse_foreign(overwrite=overwrite)
    (tmp_path / "thesis.doc").unlink()
    (tmp_path / "run.zarr" / "precious").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"not of a run \(run.zarr/precious\)"):
        RunStore(tmp_path).refuse_foreign(overwrite=overwrite)
    assert (tmp_path / "run.zarr" / "precious").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_zarr_group_of_somebody_else_is_left_alone(tmp_path, overwrite):
    zarr.open_group(str(tmp_path / "run.zarr"), mode="w").create_array("labels", shape=(4,), dtype="uint8")
    with pytest.raises(StoreError, match=r"not of a run \(run.zarr/zarr.json\)"):
        RunStore(tmp_path).refuse_foreign(overwrite=overwrite)


def test_beginning_anew_removes_nothing_but_a_run(tmp_path):
    store = RunStore(tmp_path)
    store.create({}, LAYOUTS)
    (store.group / "notes").mkdir()
    (store.group / "notes" / "mine.txt").touch()
    store.create({}, LAYOUTS)
    assert (store.group / "notes" / "mine.txt").exists()


def test_what_a_run_reads_is_not_what_it_replaces(tmp_path):
    store = RunStore(tmp_path)
    store.create({}, LAYOUTS)
    scene = tmp_path / "labels.tif"
    scene.touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link.tif").symlink_to(scene)
    for path in (scene, tmp_path / "other" / "link.tif", store.group / "labels", tmp_path / "run.zarr"):
        with pytest.raises(StoreError, match=r"would be replaced .*; give another folder with -o"):
            store.refuse_input(path)
    (tmp_path / "scene.tif").touch()
    for path in (tmp_path / "scene.tif", tmp_path, tmp_path / "preview.png"):
        store.refuse_input(path)


def test_outputs_without_a_run_are_replaced_on_request_only(tmp_path):
    for name in ("labels.tif", ".DS_Store"):
        (tmp_path / name).touch()
    with pytest.raises(StoreError, match=r"holds labels.tif, and no run"):
        RunStore(tmp_path).refuse_foreign(overwrite=False)
    RunStore(tmp_path).refuse_foreign(overwrite=True)


@pytest.mark.parametrize("place", ["file", "file/out", "/proc/out"])
def test_a_place_that_cannot_be_written_is_said(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"(cannot be written \(.*\)|is a file.*); give another.* with -o"):
        RunStore(tmp_path / place).lock()


def test_a_lock_leaves_no_trace_where_nothing_was_made(tmp_path):
    (tmp_path / "stood").mkdir()
    for folder in (tmp_path / "out", tmp_path / "stood" / "a" / "b" / "out"):
        store = RunStore(folder)
        store.lock()
        store.close()
    assert list(tmp_path.rglob("*")) == [tmp_path / "stood"]


def test_no_run_is_begun_where_it_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    store = RunStore(tmp_path)
    monkeypatch.setattr(shards.os, "fsync", refuse)
    with pytest.raises(StoreError, match="Read-only file system"):
        store.create({}, LAYOUTS)
    assert not store.exists()


def test_a_run_is_one_only_when_its_record_is_there(tmp_path, blocks):
    store = RunStore(tmp_path)
    assert not store.exists()
    store.create({"model": "a"}, LAYOUTS)
    assert store.exists()
    assert store.read_record()["model"] == "a"
    finish(store, blocks, pixels())
    # beginning anew forgets all that was done
    store.create({"model": "b"}, LAYOUTS)
    assert store.read_record()["model"] == "b"
    assert store.finished_blocks() == {}
    assert not store.arrays["labels"].shard_path(0, 0).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a run of hiresseg"),
        ('{"attributes": {}}', "is not a run of hiresseg"),
        ('{"attributes": {"hiresseg": 3}}', "another version"),
        ('{"attributes": {"hiresseg": {"format": 999}}}', "another version"),
    ],
)
def test_a_record_that_is_not_ours_is_refused(tmp_path, content, message):
    (tmp_path / "run.zarr").mkdir()
    (tmp_path / "run.zarr" / "zarr.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        RunStore(tmp_path).read_record()


@pytest.mark.parametrize("fails", ["shard", "journal"])
def test_a_full_disk_is_said_and_the_run_goes_on_afterwards(store, blocks, monkeypatch, fails):
    labels = pixels()
    finish(store, blocks[:1], labels)
    fsync = os.fsync

    def full(descriptor):
        if str(Path(f"/proc/self/fd/{descriptor}").readlink()).endswith(
            "journal" if fails == "journal" else ".partial"
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "fsync", full)
        with pytest.raises(StoreError, match=r"No space left on device.*run the same command again"):
            finish(store, blocks[1:2], labels)
    assert list(store.folder.rglob("*.partial")) == []
    finished = set(store.finished_blocks())
    assert keys(blocks[:1]) <= finished <= keys(blocks[:2])
    finish(store, [block for block in blocks if (1, block.row, block.col) not in finished], labels)
    assert set(store.finished_blocks()) == keys(blocks)
    np.testing.assert_array_equal(store.arrays["labels"].read(Window(0, 0, *SIZE))[0], labels)


def test_a_real_limit_on_file_size_is_said(store, blocks):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(StoreError, match=r"labels/c/0/0: cannot be written \(File too large\)"):
            finish(store, blocks[:1], pixels())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert store.finished_blocks() == {}
    assert list(store.folder.rglob("*.partial")) == []


def test_what_a_killed_process_left_half_written_is_removed(store, blocks):
    finish(store, blocks, pixels())
    foreign = store.folder / ".important.partial"
    foreign.touch()
    (store.folder / ".labels.tif.partial").touch()
    halves = store.group / "labels" / "c" / "0" / ".1.4711.partial", store.scratch / "pages"
    for half in halves:
        half.write_bytes(b"half")
    again = RunStore(store.folder)
    again.resume(LAYOUTS)
    assert not any(half.exists() for half in halves)
    assert {path.name for path in store.folder.iterdir()} - {"run.zarr", ".lock"} == {foreign.name}
    assert set(again.finished_blocks()) == keys(blocks)
