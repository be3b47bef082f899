"""The benchmarks themselves: what can be run without a GPU and in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio
import torch
from rasterio.windows import Window

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"


def run_python(*arguments: str, code: int = 0, **env: str) -> str:
    paths = os.pathsep.join([str(FOLDER), *(str(ROOT / wing) for wing in (".", "kernels", "pipelines"))])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, **env},
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def test_gpu_script_runs_dry():
    *told, last = run_python(str(FOLDER / "gpu.py"), "--dry-run").splitlines()
    found = json.loads(last)
    assert found["wrong"] == []
    assert found["checked"] > 60
    assert found["runs_left_out"]
    assert "| op | case | MB | ms | GB/s | of a copy |" in told
    assert {row["op"] for row in found["speeds"]} == {"blend", "cut", "pool"}
    assert sum(line.startswith("| blend |") for line in told) == sum(
        row["op"] == "blend" for row in found["speeds"]
    )


def test_gpu_script_finds_a_wrong_kernel():
    tampered = """
import gpu_checks as g
right = g.blend_tiles_triton
def wrong(*sources, labels, **rest):
    right(*sources, labels=labels, **rest)
    labels[0, 0, 0] = (labels[0, 0, 0] + 1) % 2
g.blend_tiles_triton = wrong
case = g._blend_case("K=2", (1, 2, 9, 2), g.FLOATS[0])
print(repr(g.check_blend(case, "cpu")))
g.blend_tiles_triton = right
print(repr(g.check_blend(case, "cpu")))
"""
    complaint, nothing = run_python("-c", tampered, TRITON_INTERPRET="1").splitlines()
    assert "1 labels differ" in complaint
    assert nothing == "''"


def test_gpu_script_wants_a_device():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run_python(str(FOLDER / "gpu.py"), code=2)


@pytest.mark.parametrize("layout", ["tiled", "striped"])
def test_a_scene_is_written_by_windows(tmp_path, layout):
    path = tmp_path / "scene.tif"
    options = ["--striped"] if layout == "striped" else []
    run_python(str(FOLDER / "scenes.py"), "700", str(path), *options)
    with rasterio.open(path) as dataset:
        assert dataset.shape == (700, 700)
        assert dataset.profile["tiled"] == (layout == "tiled")
        pixels = dataset.read()
        # pixels of a corner that no window fills
        assert dataset.read(window=Window(699, 699, 1, 1)).any()
    assert pixels.std() > 20
    # as a photograph: it shrinks, and not to nothing
    assert 0.4 < path.stat().st_size / pixels.nbytes < 0.9
