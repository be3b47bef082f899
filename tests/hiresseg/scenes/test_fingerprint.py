import os

import numpy as np
import pytest

from hiresseg.errors import SceneError
from hiresseg.scenes import fingerprint as module
from hiresseg.scenes import open_scene
from hiresseg.scenes.fingerprint import fingerprint_file

PIXELS = np.arange(3 * 50 * 60, dtype=np.uint16).reshape(3, 50, 60)


def test_says_whether_the_pixels_bands_or_sidecars_are_others(make_raster):
    path = make_raster(PIXELS)
    first = open_scene(path).fingerprint()
    assert open_scene(path).fingerprint() == first
    assert open_scene(path, bands=[2]).fingerprint() != first
    path.with_name("scene.tif.msk").write_bytes(b"II*\0")
    with_mask = fingerprint_file(path)
    assert [file["name"] for file in with_mask["files"]] == ["scene.tif", "scene.tif.msk"]
    path.with_name("scene.tif.msk").unlink()
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    make_raster(PIXELS + 1)
    os.utime(path, ns=times)
    assert open_scene(path).fingerprint() != first


def test_a_touched_file_is_another(make_raster):
    path = make_raster(PIXELS)
    first = fingerprint_file(path)
    os.utime(path, ns=(1, 1))
    assert fingerprint_file(path) != first


def test_reads_little_of_a_large_file(tmp_path, monkeypatch):
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(100 << 30)
    first = fingerprint_file(path)["files"][0]
    assert first["bytes"] == 100 << 30
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert fingerprint_file(path)["files"][0]["blake2b"] != first["blake2b"]


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(SceneError, match="still there"):
        fingerprint_file(tmp_path / "gone.tif")


def test_pieces_reach_from_head_to_tail(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PIECE_BYTES", 10)
    path = tmp_path / "small.bin"
    path.write_bytes(bytes(340))
    first = fingerprint_file(path)["files"][0]["blake2b"]
    for at in range(0, 340, 7):
        path.write_bytes(bytes(at) + b"x" + bytes(339 - at))
        assert fingerprint_file(path)["files"][0]["blake2b"] != first
