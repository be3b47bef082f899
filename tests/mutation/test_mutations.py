"""Damaged files end in pixels or in an error of hiresseg's own: no crash, no hang, no flood of memory.

300 cases in every run of the tests, 10,000 with `-m slow`. One case alone, as a failure names it:
`python tests/mutation/child.py FOLDER KIND NUMBER NUMBER+1`, FOLDER made by `write_whole_files`.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning

from hiresseg.geometry import Window
from hiresseg.models import ClassInfo, ModelSpec, NetworkConfig, StageSpec, save_model
from hiresseg.models.cascade import CoarseNet
from hiresseg.scenes import open_scene

CODECS = {
    "none.tif": {},
    "deflate.tif": {"compress": "deflate", "predictor": 2},
    "zstd.tif": {"compress": "zstd"},
    "lzw.tif": {"compress": "lzw"},
    "jpeg.tif": {"compress": "jpeg", "photometric": "ycbcr"},
    "lerc.tif": {"compress": "lerc"},
    "webp.tif": {"compress": "webp"},
}
PICTURES = {"scene.jp2": "JP2OpenJPEG", "scene.png": "PNG"}
MODELS = ("folder", "onnx", "exported")
SECONDS = 30
"""For one case."""
RESIDENT_BYTES = 1200 << 20
"""Of which torch with all its libraries takes up to a half."""


@pytest.fixture(scope="session")
def whole_files(tmp_path_factory) -> Path:
    return write_whole_files(tmp_path_factory.mktemp("whole"))


def write_whole_files(folder: Path) -> Path:
    """One file per codec, one folder per kind of model."""
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 200, (3, 16, 16)), np.ones((16, 16), int))
    pixels = (pixels + rng.integers(0, 40, pixels.shape)).astype("uint8")
    shape = {"count": 3, "height": 256, "width": 256, "dtype": "uint8"}
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel"}
    with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
        for name, driver in PICTURES.items():
            with rasterio.open(folder / name, "w", driver=driver, **shape) as dataset:
                dataset.write(pixels)
        for name, options in CODECS.items():
            with rasterio.open(folder / name, "w", driver="GTiff", **shape, **tiles, **options) as dataset:
                dataset.write(pixels)
            with rasterio.open(folder / name, "r+", driver="GTiff") as dataset:
                dataset.build_overviews([2])
    _write_models(folder)
    return folder


def _write_models(folder: Path) -> None:
    torch.manual_seed(0)
    network = CoarseNet(widths=(2, 4)).eval()
    classes = ClassInfo("ground", (0, 0, 0)), ClassInfo("thing", (255, 0, 0))
    bands = "red", "green", "blue"
    spec = ModelSpec("toy", bands, classes, "sigmoid", (1.0,) * 3, (2.0,) * 3, stages=(StageSpec(0, 64, 16),))
    config = NetworkConfig("hiresseg", "CoarseNet", {"widths": [2, 4]})
    save_model(folder / "folder", spec, [network], [config])
    short = (
        '{"bands": ["red", "green", "blue"], "activation": "sigmoid", "mean": [1, 1, 1], '
        '"std": [2, 2, 2], "classes": [{"name": "ground", "color": [0, 0, 0]}, {"name": "thing", '
        '"color": [255, 0, 0]}], "stages": [{"tile_px": 64, "overlap_px": 16}]}'
    )
    plain, example = torch.nn.Conv2d(3, 1, 3, padding=1).eval(), (torch.zeros(1, 3, 64, 64),)
    for kind in ("onnx", "exported"):
        (folder / kind).mkdir()
        (folder / kind / "config.json").write_text(short)
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(torch.export.export(plain, example), folder / "exported" / "net.pt2")
        torch.onnx.export(plain, example, folder / "onnx" / "net.onnx", dynamo=False, input_names=["images"])


def run_cases(folder: Path, kind: str, first: int, last: int) -> tuple[Counter, list[str]]:
    """(what became of the cases, what should not have); a crash ends one case, and the next go on."""
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    while first < last:
        begun, errors = _run_child(folder, kind, (first, last), outcomes)
        if errors is None:
            break
        failures.append(f"{kind} case {begun}: {errors}")
        first = begun + 1
    return outcomes, failures


def _run_child(folder: Path, kind: str, cases: tuple[int, int], outcomes: Counter) -> tuple[int, str | None]:
    """Runs cases in a process until it ends or one takes too long: (the last begun, what went wrong)."""
    command = [sys.executable, str(Path(__file__).with_name("child.py")), str(folder), kind, *map(str, cases)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    begun, lines = cases[0], queue.SimpleQueue()
    with (
        (folder / f"{kind}.errors").open("w+") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as child,
    ):
        threading.Thread(target=lambda: [*map(lines.put, child.stdout), lines.put("")], daemon=True).start()
        while True:
            try:
                # the first one also waits for the imports
                line = lines.get(timeout=SECONDS * (1 if outcomes else 3))
            except queue.Empty:
                child.kill()
                return begun, f"took more than {SECONDS} s"
            word, _, rest = line.partition(" ")
            if word == "case":
                begun = int(rest)
            elif word == "done":
                outcomes[rest.split(" | ")[1]] += 1
            elif word == "peak" and int(rest) > RESIDENT_BYTES:
                return cases[1], f"cases {cases} took {int(rest) >> 20} MiB"
            elif not line:
                code = child.wait()
                errors.seek(0)
                return begun, None if code == 0 else f"exit {code}\n{errors.read()[-1500:]}"


@pytest.mark.parametrize("kind", [*CODECS, *PICTURES])
def test_a_damaged_scene_gives_pixels_or_a_refusal(whole_files, kind):
    outcomes, failures = run_cases(whole_files, kind, 0, 20)
    assert not failures, "\n".join(failures)
    assert outcomes.total() == 20


@pytest.mark.parametrize("kind", MODELS)
def test_a_damaged_model_answers_or_is_refused(whole_files, kind):
    outcomes, failures = run_cases(whole_files, kind, 0, 20)
    assert not failures, "\n".join(failures)
    assert outcomes.total() == 20
    assert outcomes["refused"]


@pytest.mark.parametrize("kind", [*CODECS, *PICTURES])
def test_what_is_damaged_was_whole(whole_files, kind):
    scene = open_scene(whole_files / kind)
    pixels, valid = scene.read(Window(0, 0, 256, 256))
    scene.close()
    assert pixels.std() > 10
    assert valid is None


FOUND = {"none.tif": [1641], "folder": [1071, 1486], "onnx": [1186], "exported": [1432]}
"""What ended otherwise once: text in a TIFF that is none, NaN in a weight, another shape, no end of a zip."""


@pytest.mark.parametrize(
    ("kind", "number"), [(kind, each) for kind, found in FOUND.items() for each in found]
)
def test_what_was_found_stays_mended(whole_files, kind, number):
    outcomes, failures = run_cases(whole_files, kind, number, number + 1)
    assert not failures, "\n".join(failures)
    assert outcomes["refused"] == 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", [*CODECS, *PICTURES, *MODELS])
def test_many_damaged_files(whole_files, kind):
    outcomes, failures = run_cases(whole_files, kind, 1000, 1000 + (800 if kind in MODELS else 650))
    print(kind, dict(outcomes), len(failures))  # noqa: T201 - the counts are what is asked for
    assert not failures, "\n".join(failures)
