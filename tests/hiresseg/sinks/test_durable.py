import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hiresseg import durable
from hiresseg.durable import replacing
from hiresseg.errors import HiressegError, StoreError
from hiresseg.geometry import Georef
from hiresseg.sinks import cog, write_cog


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def write(folder, array_chunks, land, patches):
    def write_one(source=None, **options):
        return write_cog(
            folder / "mask.tif", source or array_chunks(patches), Georef(), meaning=land, **options
        )

    return write_one


@pytest.mark.parametrize("earlier", [None, b"an earlier result"])
@pytest.mark.parametrize(
    ("owner", "call"),
    [
        (cog.tempfile, "TemporaryFile"),
        (shutil, "copyfileobj"),
        (Path, "open"),
        (os, "fsync"),
        (Path, "replace"),
    ],
)
def test_a_failing_write_leaves_what_was_there(folder, write, monkeypatch, owner, call, earlier):
    if earlier:
        (folder / "mask.tif").write_bytes(earlier)
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, no_space)
        with pytest.raises(StoreError, match=r"mask\.tif cannot be written: .*No space left") as caught:
            write()
    assert isinstance(caught.value, OSError)
    assert [entry.name for entry in folder.iterdir()] == (["mask.tif"] if earlier else [])
    if earlier:
        assert (folder / "mask.tif").read_bytes() == earlier


FULL_DISK = """
import json, resource, sys
from pathlib import Path
import numpy as np
from hiresseg.deflate import compress_gzip
from hiresseg.errors import StoreError
from hiresseg.geometry import Georef
from hiresseg.sinks import ScaledMeaning, write_cog

class Noise:
    shape, chunk_px = (200, 200), 32
    def read_chunk_gzip(self, row, col):
        return compress_gzip(np.random.default_rng(row * 99 + col).integers(0, 255, (32, 32), dtype=np.uint8))

folder, outcomes = Path(sys.argv[1]), {}
for limit in (0, 100, 9_000, 14_000, 38_000, 45_000, 1_000_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_cog(folder / "mask.tif", Noise(), Georef(), meaning=ScaledMeaning())
        outcome = "written"
    except StoreError as error:
        outcome = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    outcomes[limit] = outcome, sorted(entry.name for entry in folder.iterdir())
print(json.dumps(outcomes))
"""


def test_a_full_disk_is_noticed_wherever_it_strikes(folder):
    # the limit on file size strikes a whole process, so it needs one of its own
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL_DISK, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    )
    outcomes = json.loads(done.stdout)
    assert outcomes.pop("1000000") == ["written", ["mask.tif"]]
    assert len(outcomes) == 6
    for message, names in outcomes.values():
        assert "mask.tif cannot be written" in message
        assert "File too large" in message
        assert names == []


@pytest.mark.parametrize("level", [0, 1, 4])
def test_a_tile_that_reads_back_differently_is_noticed(folder, write, monkeypatch, level):
    genuine = cog._assemble

    def assemble(path, levels, tags):
        levels[level].digests[0, 0] ^= 1
        return genuine(path, levels, tags)

    monkeypatch.setattr(cog, "_assemble", assemble)
    with pytest.raises(StoreError, match=rf"tile \(0, 0\) of level {level} has other pixels"):
        write()
    assert list(folder.iterdir()) == []


def test_a_file_damaged_on_its_way_is_noticed(folder, write, monkeypatch):
    genuine = cog._assemble

    def assemble(path, *rest):
        result = genuine(path, *rest)
        file = bytearray(path.read_bytes())
        file[len(file) - 2000] ^= 16
        path.write_bytes(file)
        return result

    monkeypatch.setattr(cog, "_assemble", assemble)
    with pytest.raises(StoreError, match=r"mask\.tif does not read back as it was written"):
        write()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("place", [0, 12, -6, -2])
def test_a_damaged_chunk_is_noticed(folder, write, array_chunks, patches, place):
    class Damaged(array_chunks):
        def read_chunk_gzip(self, row, col):
            member = bytearray(super().read_chunk_gzip(row, col))
            member[place] ^= 8 * ((row, col) == (1, 1))
            return bytes(member)

    with pytest.raises(StoreError, match=r"chunk \(1, 1\) is damaged .*run the same command again"):
        write(Damaged(patches))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [HiressegError("the run's store is broken"), KeyboardInterrupt()])
def test_trouble_of_the_source_passes_as_it_is(folder, write, array_chunks, patches, error):
    class Broken(array_chunks):
        def read_chunk(self, row, col):
            if row == 7:
                raise error
            return super().read_chunk(row, col)

    with pytest.raises(type(error)) as caught:
        write(Broken(patches), num_threads=2)
    assert caught.value is error
    assert list(folder.iterdir()) == []


def test_a_folder_is_not_replaced(folder, array_chunks, land):
    with pytest.raises(StoreError, match="is a folder"):
        write_cog(folder, array_chunks(np.zeros((4, 4), np.uint8)), Georef(), meaning=land)
    assert folder.is_dir()


def test_a_missing_folder_is_named(folder, array_chunks, land):
    with pytest.raises(StoreError, match=r"its folder does not exist; create .*absent first"):
        write_cog(
            folder / "absent" / "a.tif", array_chunks(np.zeros((4, 4), np.uint8)), Georef(), meaning=land
        )


def test_what_a_killed_process_left_is_overwritten(folder, write):
    (folder / ".mask.tif.partial").write_bytes(b"half a file")
    write()
    assert [entry.name for entry in folder.iterdir()] == ["mask.tif"]


def test_a_folder_that_cannot_be_synced_gets_no_new_file(folder, monkeypatch):
    def sync(path):
        if path == folder:
            no_space()

    monkeypatch.setattr(durable, "sync", sync)
    with pytest.raises(StoreError, match="No space left"), replacing(folder / "a.bin") as partial:
        partial.write_bytes(b"abc")
    assert list(folder.iterdir()) == []
