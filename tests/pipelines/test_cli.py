"""What a person types, and what they then have."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from hiresseg_pipelines.progress import RunProgress, human_seconds
from hiresseg_pipelines.report import human_bytes
from hiresseg_pipelines.request import RunRequest, parse_bands, parse_bytes

from .conftest import read_report, save_toy_model, write_scene


def test_a_run_leaves_what_was_promised(finished, toy_scene):
    assert {path.name for path in finished.iterdir()} == {
        "labels.tif",
        "confidence.tif",
        "preview.png",
        "report.json",
        "run.zarr",
    }
    with rasterio.open(toy_scene) as scene, rasterio.open(finished / "labels.tif") as labels:
        assert (labels.crs, labels.transform, labels.shape) == (scene.crs, scene.transform, scene.shape)
        assert (labels.dtypes, labels.nodata) == (("uint8",), 255.0)
        assert labels.colormap(1)[1][:3] == (230, 60, 40)
        values, counts = np.unique(labels.read(1), return_counts=True)
    assert set(values) <= {0, 1, 255}
    report = read_report(finished)
    pixels = {row["value"]: row["pixels"] for row in report["classes"]}
    assert {value: count for value, count in pixels.items() if count} == dict(
        zip(values, counts, strict=True)
    )
    with Image.open(finished / "preview.png") as picture:
        picture.load()
        assert min(picture.size) > 300


def test_the_report_says_what_ran_and_what_it_took(finished, toy_scene):
    report = read_report(finished)
    assert report["scene"]["uri"] == str(toy_scene)
    assert len(report["scene"]["files"][0]["blake2b"]) == 32
    assert len(report["model"]["digest"]) == 64
    assert {"hiresseg", "torch", "rasterio", "gdal", "python"} <= set(report["versions"])
    assert "not every byte" in report["scene"]["digest_of"]
    assert report["parameters"] == {
        "bands": None,
        "normalize": "model",
        "tta": "none",
        "confidence": True,
        "refine_above": 0.5,
        "block_px": None,
        "precision": "fp32",
        "device": "cpu",
        "workers": 2,
        "max_memory_bytes": None,
    }
    assert report["machine"]["processor"]
    assert report["machine"]["cores"] >= 1
    begun, ended = (datetime.fromisoformat(report[name]) for name in ("begun_at", "finished_at"))
    assert begun.tzinfo == ended.tzinfo == UTC
    assert timedelta(0) < ended - begun < timedelta(minutes=30)
    assert {"open", "calibrate", "stage 1", "export"} <= set(report["seconds"])
    assert min(report["seconds"].values()) >= 0
    assert report["scene"]["read_amplification"] <= 1.05
    assert report["scene"]["bytes"] == 1300 * 1700 * 3
    memory = report["memory"]
    assert memory["planned_bytes"] == sum(memory["planned"].values())
    assert 0 < memory["peak_bytes"] <= 1.2 * memory["planned_bytes"]
    (stage,) = report["stages"]
    assert (stage["tiles_run"], stage["tiles_run_again"], stage["tiles_empty"]) == (48, 0, 0)
    # half a metre, in UTM zone 45
    areas = {row["name"]: (row["pixels"], row["area_m2"]) for row in report["classes"]}
    for pixels, area in areas.values():
        assert area == pytest.approx(0.25 * pixels, rel=2e-3)
    assert sum(row["pixels"] for row in report["classes"]) == 1300 * 1700
    assert sum(row["share"] for row in report["classes"]) == pytest.approx(1)


def test_plan_says_what_run_would_do_and_writes_nothing(hiresseg, tmp_path, toy_scene, toy_model):
    scene = shutil.copy(toy_scene, tmp_path)
    typed = hiresseg("plan", scene, "-m", toy_model, "--workers", 2)
    assert typed.code == 0
    for words in ("48 forwards", "12 blocks", "6.3 MiB to decode", "memory:", "disk: at most", "time: about"):
        assert words in typed.out, typed.out
    assert list(tmp_path.iterdir()) == [Path(scene)]


def test_outputs_go_beside_the_scene_and_are_named_at_the_end(hiresseg, tmp_path, toy_model):
    scene = write_scene(tmp_path / "a [red] town.tif", 70, 90)
    typed = hiresseg("run", scene, "-m", toy_model, "--workers", 1)
    assert typed.code == 0
    folder = tmp_path / "a [red] town.tif.hiresseg"
    for name in ("labels.tif", "preview.png", "report.json"):
        assert str(folder / name) in typed.out
        assert (folder / name).is_file()
    assert not (folder / "confidence.tif").exists()
    assert "stage 1 of 1: 1 of 1 tile," in typed.err
    # the plan is printed first
    assert typed.err.index("time: about") < typed.err.index("stage 1 of 1")
    assert read_report(folder)["stages"][0]["tiles_run"] == 1


def test_a_scene_without_a_place_has_no_areas_and_no_warning(hiresseg, tmp_path):
    scene = tmp_path / "plain.tif"
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):  # noqa: SIM117 - warns as it is opened
        with rasterio.open(scene, "w", driver="GTiff", width=1, height=1, count=3, dtype="uint8") as dataset:
            dataset.write(np.full((3, 1, 1), 7, np.uint8))
    model = save_toy_model(tmp_path / "m", pixel_size_m=(0.1, 0.3))
    assert hiresseg("run", scene, "-m", model, "--workers", 1).code == 0
    report = read_report(tmp_path / "plain.tif.hiresseg")
    assert report["pixel_area_m2"] is None
    assert report["warnings"] == []
    assert report["area_unknown"] == "there is no coordinate reference system"
    assert {row["area_m2"] for row in report["classes"]} == {None}
    assert sum(row["pixels"] for row in report["classes"]) == 1


@pytest.mark.parametrize(
    ("trained_m", "edge", "warned"),
    [
        ((0.1, 0.3), 0.5, False),
        ((0.1, 0.3), 0.7, True),
        ((1.5, 4.0), 0.8, False),
        ((1.5, 4.0), 0.7, True),
        (None, 30.0, False),
    ],
)
def test_pixels_far_from_those_of_the_training_are_warned_of(hiresseg, tmp_path, trained_m, edge, warned):
    model = save_toy_model(tmp_path / "m", pixel_size_m=trained_m)
    scene = write_scene(tmp_path / "scene.tif", 70, 90)
    with rasterio.open(scene, "r+") as dataset:
        dataset.transform = Affine(edge, 0.0, 500_000.0, 0.0, -edge, 3_000_000.0)
    planned = hiresseg("plan", scene, "-m", model, "--workers", 1)
    ran = hiresseg("run", scene, "-m", model, "--workers", 1)
    assert (planned.code, ran.code) == (0, 0)
    report = read_report(tmp_path / "scene.tif.hiresseg")
    assert report["scene"]["pixel_size_m"] == pytest.approx(edge, rel=1e-3)
    assert len(report["warnings"]) == warned
    for said in (planned.out, ran.err):
        assert ("warning: " in said) == warned
        for warning in report["warnings"]:
            assert warning in said
            assert f"{edge:.3g} m wide" in said
            assert f"{trained_m[0]:g} to {trained_m[1]:g} m" in said


def test_areas_of_the_world_add_up_to_the_earth(hiresseg, tmp_path, toy_model):
    scene = write_scene(tmp_path / "world.tif", 450, 900)
    with rasterio.open(scene, "r+") as dataset:
        dataset.crs, dataset.transform = "EPSG:4326", Affine(0.4, 0.0, -180.0, 0.0, -0.4, 90.0)
    assert hiresseg("run", scene, "-m", toy_model, "--workers", 1, "--block", 448).code == 0
    report = read_report(tmp_path / "world.tif.hiresseg")
    assert sum(row["area_m2"] for row in report["classes"]) == pytest.approx(5.1007e14, rel=1e-3)
    assert report["area_unknown"] is None


def test_bands_are_read_in_the_order_that_was_asked_for(hiresseg, tmp_path, toy_model):
    scene = write_scene(tmp_path / "four.tif", 300, 300, bands=4)
    with rasterio.open(scene) as dataset:
        profile, pixels = dataset.profile, dataset.read()
    with rasterio.open(tmp_path / "three.tif", "w", **profile | {"count": 3}) as dataset:
        dataset.write(pixels[[3, 0, 1]])
    assert hiresseg("run", scene, "-m", toy_model, "--workers", 1, "--bands", "4,1,2").code == 0
    assert hiresseg("run", tmp_path / "three.tif", "-m", toy_model, "--workers", 1).code == 0
    ours, theirs = (tmp_path / f"{name}.tif.hiresseg/labels.tif" for name in ("four", "three"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_augmented_answers_are_another_run(hiresseg, tmp_path, toy_model):
    scene = write_scene(tmp_path / "small.tif", 300, 280)
    labels = {}
    for tta in ("none", "d4"):
        typed = hiresseg("run", scene, "-m", toy_model, "-o", tmp_path / tta, "--tta", tta)
        assert typed.code == 0, typed
        with rasterio.open(tmp_path / tta / "labels.tif") as dataset:
            labels[tta] = dataset.read(1)
    assert read_report(tmp_path / "d4")["parameters"]["tta"] == "d4"
    assert 0 < (labels["none"] != labels["d4"]).mean() < 0.5
    refused = hiresseg("run", scene, "-m", toy_model, "-o", tmp_path / "none", "--tta", "flips")
    assert refused.code == 2
    assert "tta: 'none' there, 'flips' now" in refused.err


def test_models_say_what_they_are(hiresseg, toy_model):
    typed = hiresseg("models", toy_model)
    assert typed.code == 0
    for words in ("toy", "red, green, blue", "0 ground, 1 thing", "any", "Apache-2.0", "val_iou 0.25"):
        assert words in typed.out, typed.out
    assert hiresseg("models").code == 0
    missing = hiresseg("models", "nowhere")
    assert missing.code == 2
    assert "neither a folder nor a bundled model" in missing.err


def test_help_is_instant_and_imports_no_torch():
    script = "import sys; sys.argv = ['hiresseg', '--help']; from hiresseg_pipelines.cli import main\n"
    script += "try: main()\nexcept SystemExit: pass\n"
    script += "print(sorted({'torch', 'rasterio', 'dask', 'numpy'} & set(sys.modules)))"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # half a second is promised; the machine that tests is busy
    assert time.perf_counter() - started < 5
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("run", "plan", "models"):
        assert command in done.stdout


def test_progress_is_live_on_a_terminal_and_plain_elsewhere(capsys):
    screen = io.StringIO()
    with RunProgress(Console(file=screen, force_terminal=True, width=100)) as progress:
        progress.say("a [red] line")
        progress.begin("stage 1 of 2", 10, 0)
        progress.advance(10)
    assert "a [red] line" in screen.getvalue()
    assert "stage 1 of 2" in screen.getvalue()
    assert "10/10 tiles" in screen.getvalue()
    assert "tiles/s, 0 s left" in screen.getvalue()
    with RunProgress(Console(file=io.StringIO(), force_terminal=False)) as progress:
        progress.begin("stage 1 of 2", 10, 4)
        progress.advance(3)
        progress.advance(3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "stage 1 of 2: 4 of 10 tiles stood already"
    assert len(lines) == 2
    assert lines[1].startswith("stage 1 of 2: 10 of 10 tiles, ")


def test_the_default_folder_stands_beside_the_scene():
    assert RunRequest("data/town.tif", "m").folder == Path("data/town.tif.hiresseg")
    assert RunRequest("data/town.tif", "m", out=Path("x")).folder == Path("x")


@given(st.lists(st.integers(1, 99_999), min_size=1, max_size=9))
def test_bands_are_parsed_as_written(bands):
    assert parse_bands(" , ".join(map(str, bands))) == tuple(bands)


@given(st.text(alphabet="0123456789.,-+einfaKkMmGgTtBb _²", max_size=12))
def test_sizes_are_parsed_or_refused(text):
    try:
        assert parse_bytes(text) >= 1
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017 - either way is right, and the text decides


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 << 30),
        ("800 mib", 800 << 20),
        ("1.5kB", 1500),
        ("1000", 1000),
        ("2TB", 2 * 10**12),
        ("7b", 7),
    ],
)
def test_sizes_mean_what_they_say(text, size):
    assert parse_bytes(text) == size


def test_numbers_for_people():
    assert [human_seconds(s) for s in (0.4, 59.4, 200, 7500)] == ["0 s", "59 s", "3 min 20 s", "2 h 05 min"]
    assert [human_bytes(b) for b in (12, 1536, 3 << 40)] == ["12 B", "1.5 KiB", "3.0 TiB"]


def test_a_bug_is_shown_with_its_traceback(monkeypatch, hiresseg, toy_scene, toy_model, tmp_path):
    import hiresseg_pipelines.run

    def segment_wrongly(work, block):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(hiresseg_pipelines.run, "segment_block", segment_wrongly)
    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        hiresseg("run", toy_scene, "-m", toy_model, "-o", tmp_path / "out", "--workers", 2)
    assert any("while block (0, " in note for note in caught.value.__notes__)
    assert json.loads((tmp_path / "out" / "run.zarr" / "zarr.json").read_text())


def test_a_checkpoint_is_imported_or_its_keys_are_shown(hiresseg, tmp_path, toy_model):
    import torch
    from safetensors.torch import load_file

    shutil.copy(Path(toy_model) / "config.json", tmp_path)
    state = load_file(Path(toy_model) / "model.safetensors")
    state = {"net." + key.removeprefix("0."): value for key, value in state.items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(2)}}, tmp_path / "last.ckpt")
    refused = hiresseg("import-model", tmp_path / "last.ckpt", "-o", tmp_path / "out")
    assert refused.code == 2
    assert "1 unexpected:\n  loss.weight" in refused.err
    assert not (tmp_path / "out").exists()
    taken = hiresseg("import-model", tmp_path / "last.ckpt", "-o", tmp_path / "out", "--allow-missing")
    assert taken.code == 0, taken.err
    assert taken.out.startswith("left out of the keys: net.\n1 unexpected:\n  loss.weight\n")
    assert hiresseg("models", tmp_path / "out").code == 0
