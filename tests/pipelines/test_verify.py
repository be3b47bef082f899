"""A run that is whole is proved to be, and every kind of harm is named."""

from __future__ import annotations

import json
import re
import shutil

import google_crc32c
import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from hiresseg.shards import encode_shard
from hiresseg_pipelines.verify import verify_run


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def write_line(journal, entry):
    text = json.dumps(entry, sort_keys=True).encode()
    with journal.open("ab") as file:
        file.write(f"{google_crc32c.value(text):08x} ".encode() + text + b"\n")


def lines_of(journal):
    return [json.loads(line.partition(b" ")[2]) for line in journal.read_bytes().splitlines()]


def test_a_whole_run_is_whole_and_nothing_is_changed(hiresseg, run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    typed = hiresseg("verify", run)
    assert typed.code == 0, typed
    assert "2,210,000 pixels, each written by one of 12 blocks; 24 shards" in typed.out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_both_stages_of_a_cascade_are_looked_at(hiresseg, toy_scene, toy_cascade, tmp_path):
    out = tmp_path / "out"
    assert hiresseg("run", toy_scene, "-m", toy_cascade, "-o", out).code == 0
    assert verify_run(out).faults == ()
    (out / "run.zarr" / "stages" / "0" / "labels" / "c" / "0" / "0").unlink()
    assert verify_run(out).faults == ("stages/0/labels/c/0/0: is missing; run the same command again",)


def drop_a_line(run):
    journal = run / "run.zarr" / "journal"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[1:]))
    return "is not finished"


def add_a_block(run):
    entry = lines_of(run / "run.zarr" / "journal")[0]
    write_line(run / "run.zarr" / "journal", {**entry, "row": 77, "files": {}})
    return r"block \(77, \d\), which is none of the run"


def let_two_blocks_write_one_shard(run):
    first, second = lines_of(run / "run.zarr" / "journal")[:2]
    write_line(run / "run.zarr" / "journal", {**second, "files": first["files"]})
    return "written by 2 blocks"


def flip_a_bit(run):
    path = run / "run.zarr" / "labels" / "c" / "1" / "1"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 2
    path.write_bytes(data)
    return "labels/c/1/1: does not match its checksum"


def add_a_shard(run):
    shutil.copy(run / "run.zarr" / "labels" / "c" / "1" / "1", run / "run.zarr" / "labels" / "c" / "1" / "99")
    return "labels/c/1/99: was written by no block"


def swap_labels(run):
    path = run / "run.zarr" / "labels" / "c" / "1" / "1"
    data = encode_shard(np.ones((1, 448, 448), np.uint8), 448, 448, 255)
    path.write_bytes(data)
    entry = next(e for e in lines_of(run / "run.zarr" / "journal") if (e["row"], e["col"]) == (1, 1))
    entry["files"]["labels/c/1/1"] = [len(data), google_crc32c.value(data)]
    write_line(run / "run.zarr" / "journal", entry)
    return r"block \(1, 1\) holds other labels than its line says"


def paint_over(run):
    with rasterio.open(run / "confidence.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.write(np.full((1, 3, 3), 7, np.uint8), window=Window(900, 500, 3, 3))
    return r"confidence.tif: block \(1, 2\) differs from what was computed"


def truncate(run):
    data = (run / "labels.tif").read_bytes()
    (run / "labels.tif").write_bytes(data[:-2000])
    return "labels.tif: cannot be read"


def remove(run):
    (run / "labels.tif").unlink()
    return "labels.tif: is missing"


@pytest.mark.parametrize(
    "harm",
    [
        drop_a_line,
        add_a_block,
        let_two_blocks_write_one_shard,
        flip_a_bit,
        add_a_shard,
        swap_labels,
        paint_over,
        truncate,
        remove,
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_harm_is_named(hiresseg, run, harm):
    words = harm(run)
    typed = hiresseg("verify", run)
    assert typed.code == 2, typed
    assert "Traceback" not in typed.err
    assert re.search(words, typed.err), typed.err


def test_a_folder_without_a_run_is_refused(hiresseg, tmp_path):
    typed = hiresseg("verify", tmp_path)
    assert typed.code == 2
    assert "is not a run of hiresseg" in typed.err
