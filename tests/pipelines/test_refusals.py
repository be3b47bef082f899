"""What cannot be done is refused with exit code 2, one clear message, and nothing half written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from .conftest import save_toy_model, write_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def assert_refused(typed, *words: str) -> None:
    assert typed.code == 2, typed
    for word in words:
        assert word in typed.err, (word, typed.err)
    assert "Traceback" not in typed.err
    assert typed.out == ""


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, ["no such file", "check the path"]),
        (lambda path: path.mkdir(), ["no regular file", "GeoTIFF"]),
        (lambda path: path.write_bytes(b""), ["empty", "copy it again"]),
        (lambda path: path.write_text("<VRTDataset/>"), ["a VRT", "gdal_translate"]),
        (lambda path: path.write_bytes(b"II*\0" + b"\7" * 100), ["cannot be opened"]),
    ],
    ids=["missing", "folder", "empty", "vrt", "garbage"],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_scene_that_is_none_is_refused(hiresseg, tmp_path, toy_model, command, make, words):
    scene = tmp_path / "it.tif"
    make(scene)
    assert_refused(hiresseg(command, scene, "--model", toy_model), str(scene), *words)
    assert not (tmp_path / "it.tif.hiresseg").exists()


@pytest.mark.parametrize(
    "text", ["", ".", "..", "https://example.org/a.tif", "/vsizip/a.zip/b.tif", "a" * 5000]
)
def test_a_path_that_is_no_scene_is_refused(hiresseg, toy_model, text):
    assert_refused(hiresseg("run", text, "--model", toy_model), text[:20] or "")


def test_bands_and_sample_types_that_the_model_cannot_take_are_refused(hiresseg, tmp_path, toy_model, out):
    five = write_scene(tmp_path / "five.tif", 40, 50, bands=5)
    refused = hiresseg("run", five, "-m", toy_model, "-o", out)
    assert_refused(refused, "five.tif", "5 bands", "red, green, blue", "--bands 1,2,3")
    deep = write_scene(tmp_path / "deep.tif", 40, 50, dtype="uint16")
    assert_refused(hiresseg("run", deep, "-m", toy_model, "-o", out), "uint16", "uint8", "--normalize scene")
    refused = hiresseg("run", five, "-m", toy_model, "-o", out, "--bands", "1,2,9")
    assert_refused(refused, "five.tif", "bands 1 to 5", "[1, 2, 9]")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bands", "red"], ["--bands", "4,3,2", "red"]),
        (["--bands", "0,1,2"], ["--bands", "from 1"]),
        (["--bands", ""], ["--bands"]),
        (["--bands", "1,,2"], ["--bands"]),
        (["--max-memory", "lots"], ["--max-memory", "4GiB", "lots"]),
        (["--max-memory", "nan"], ["--max-memory"]),
        (["--max-memory", "inf"], ["--max-memory"]),
        (["--max-memory", "-4GiB"], ["--max-memory"]),
        (["--max-memory", "0"], ["--max-memory"]),
        (["--max-memory", "4 parsecs"], ["--max-memory"]),
        (["--workers", "0"], ["--workers"]),
        (["--workers", "two"], ["--workers"]),
        (["--block", "-5"], ["--block"]),
        (["--precision", "fp64"], ["--precision", "bf16"]),
        (["--normalize", "tile"], ["--normalize", "scene"]),
        (["--device", "meta"], ["--device", "cuda"]),
        (["--device", "tpu:0"], ["--device", "cuda"]),
        (["--fast"], ["--fast"]),
        (["another.tif"], ["another.tif"]),
    ],
    ids=" ".join,
)
def test_options_that_say_nothing_are_refused(hiresseg, toy_scene, toy_model, out, words, said):
    assert_refused(hiresseg("run", toy_scene, "--model", toy_model, "-o", out, *words), *said)
    assert not out.exists()


def test_a_command_without_a_model_or_a_scene_says_so(hiresseg, toy_scene, toy_model):
    assert_refused(hiresseg("run", toy_scene), "--model")
    assert_refused(hiresseg("run", "--model", toy_model), "SCENE")
    assert_refused(hiresseg("segment", toy_scene), "segment")


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="has a CUDA device")
def test_a_device_that_is_not_there_is_refused(hiresseg, toy_scene, toy_model, out):
    assert_refused(hiresseg("run", toy_scene, "-m", toy_model, "-o", out, "--device", "cuda"), "cuda", "cpu")
    assert not out.exists()


def test_a_folder_that_is_no_model_is_refused(hiresseg, toy_scene, toy_model, tmp_path, out):
    for command in (["run", toy_scene, "-o", out], ["plan", toy_scene]):
        assert_refused(hiresseg(*command, "-m", tmp_path / "nowhere"), "nowhere", "bundled")
        empty = tmp_path / "empty"
        empty.mkdir(exist_ok=True)
        assert_refused(hiresseg(*command, "-m", empty), "empty", "config.json", "model.safetensors")
    pickled = tmp_path / "net.pth"
    pickled.write_bytes(b"\x80\x04.")
    assert_refused(hiresseg("run", toy_scene, "-m", pickled, "-o", out), "net.pth", "save_model")
    assert not out.exists()


def test_a_model_whose_classes_do_not_fit_its_network_is_refused(
    hiresseg, toy_scene, toy_model, tmp_path, out
):
    folder = shutil.copytree(toy_model, tmp_path / "wrong")
    config = json.loads((folder / "config.json").read_text())
    config["classes"].append({"name": "third", "color": [1, 2, 3]})
    (folder / "config.json").write_text(json.dumps(config))
    assert_refused(hiresseg("run", toy_scene, "-m", folder, "-o", out), "classes", "change")
    assert not out.exists()


def test_a_model_that_answers_nan_is_refused(hiresseg, toy_scene, tmp_path, out):
    huge = save_toy_model(tmp_path / "huge", scale=1e30)
    refused = hiresseg("run", toy_scene, "-m", huge, "-o", out, "--workers", 2)
    assert_refused(refused, "NaN", "row 0", "weights")
    assert not (out / "labels.tif").exists()


def test_more_memory_than_allowed_is_refused_with_the_sum(hiresseg, toy_scene, toy_model, out):
    for command in (["run", toy_scene, "-o", out], ["plan", toy_scene]):
        refused = hiresseg(*command, "-m", toy_model, "--workers", 1, "--max-memory", "100MiB")
        assert refused.code == 2
        assert "--max-memory allows 100 MiB" in refused.err
        assert "decoded pixels" in refused.err
        assert not out.exists()


def test_more_workers_than_memory_allows_are_refused_before_they_work(
    hiresseg, toy_scene, toy_model, out, monkeypatch
):
    def calibrate(*args):
        raise AssertionError("the calibration of all workers has begun")

    monkeypatch.setattr("hiresseg_pipelines.run.calibrate", calibrate)
    refused = hiresseg("run", toy_scene, "-m", toy_model, "-o", out, "--workers", 900, "--max-memory", "4GiB")
    assert_refused(refused, "--max-memory allows 4,096 MiB", "blocks under way, one for each of 900 workers")
    assert not out.exists()


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_scene_among_the_outputs_is_not_replaced(hiresseg, toy_scene, toy_model, out, options):
    out.mkdir()
    scene = shutil.copy(toy_scene, out / "labels.tif")
    before = Path(scene).read_bytes()
    refused = hiresseg("run", scene, "-m", toy_model, "-o", out, *options)
    assert_refused(refused, str(scene), "would be replaced", "give another folder with -o")
    assert Path(scene).read_bytes() == before
    assert [path.name for path in out.iterdir()] == ["labels.tif"]


def test_an_output_folder_that_is_not_ours_is_left_alone(hiresseg, toy_scene, toy_model, tmp_path, finished):
    file = tmp_path / "file"
    file.write_text("mine")
    assert_refused(hiresseg("run", toy_scene, "-m", toy_model, "-o", file), str(file), "is a file", "-o")
    assert file.read_text() == "mine"
    assert_refused(hiresseg("run", toy_scene, "-m", toy_model, "-o", file / "deeper"), "deeper", "-o")

    holidays = tmp_path / "holidays"
    holidays.mkdir()
    (holidays / "beach.jpg").write_text("mine")
    for option in ([], ["--overwrite"]):
        refused = hiresseg("run", toy_scene, "-m", toy_model, "-o", holidays, *option)
        assert_refused(refused, "holidays", "beach.jpg", "-o")
        assert [path.name for path in holidays.iterdir()] == ["beach.jpg"]

    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "labels.tif").write_text("drawn by hand")
    assert_refused(hiresseg("run", toy_scene, "-m", toy_model, "-o", masks), "labels.tif", "--overwrite")
    assert (masks / "labels.tif").read_text() == "drawn by hand"

    other = tmp_path / "zarr"
    (other / "run.zarr").mkdir(parents=True)
    (other / "run.zarr" / ".zgroup").write_text("{}")
    (other / "run.zarr" / "temperature").mkdir()
    refused = hiresseg("run", toy_scene, "-m", toy_model, "-o", other, "--overwrite")
    assert_refused(refused, "run.zarr/temperature")
    assert (other / "run.zarr" / "temperature").is_dir()


def test_a_place_that_cannot_be_written_is_refused(hiresseg, toy_scene, toy_model):
    # not even root may make a folder there
    refused = hiresseg("run", toy_scene, "-m", toy_model, "-o", "/proc/hiresseg")
    assert_refused(refused, "/proc/hiresseg", "cannot be written", "-o")


def test_another_run_on_the_same_folder_is_refused_with_what_differs(
    hiresseg, toy_scene, toy_model, tmp_path, finished
):
    out = shutil.copytree(finished, tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    same = ["run", toy_scene, "-m", toy_model, "-o", out, "--confidence", "--workers", 2]
    changes = {
        "setting.precision": [*same, "--precision", "bf16"],
        "confidence: True there, False now": [word for word in same if word != "--confidence"],
        "normalisation.from": [*same, "--normalize", "scene"],
        "bands": [*same, "--bands", "3,2,1"],
        "model.digest": [*same[:3], save_toy_model(tmp_path / "toy", seed=4), *same[4:]],
        "scene": ["run", write_scene(tmp_path / "other.tif", 1300, 1700, seed=9), *same[2:]],
    }
    for field, command in changes.items():
        assert_refused(hiresseg(*command), str(out), field, "--overwrite")
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_run_of_another_version_is_refused(hiresseg, toy_scene, toy_model, tmp_path, finished):
    out = shutil.copytree(finished, tmp_path / "out")
    record = out / "run.zarr" / "zarr.json"
    command = "run", toy_scene, "-m", toy_model, "-o", out
    for text in (
        "{",
        "{}",
        record.read_text().replace('"format": 3', '"format": 2'),
        record.read_text().replace('"workers"', '"crew"'),
    ):
        record.write_text(text)
        assert_refused(hiresseg(*command), "run.zarr", "--overwrite")


def test_a_truncated_scene_ends_the_run_promptly_and_keeps_what_is_done(
    hiresseg, toy_scene, toy_model, tmp_path
):
    scene = tmp_path / "cut.tif"
    with rasterio.open(toy_scene) as dataset:
        profile, pixels = dataset.profile, dataset.read()
    with rasterio.open(scene, "w", **profile) as dataset:
        dataset.write(pixels)
        # the tile in row 3 and column 0 is written last, and is what is cut off
        noise = np.random.default_rng(1).integers(0, 255, (3, 256, 256), np.uint8)
        dataset.write(noise, window=rasterio.windows.Window(0, 3 * 256, 256, 256))
    size = scene.stat().st_size
    with scene.open("r+b") as file:
        file.truncate(size - 10_000)
    out = tmp_path / "out"
    refused = hiresseg("run", scene, "-m", toy_model, "-o", out, "--workers", 2)
    assert_refused(refused, "cut.tif", "decod", "truncated or damaged")
    done = (out / "run.zarr" / "journal").read_text().count("\n")
    assert 1 <= done < 12
    assert not (out / "labels.tif").exists()
    assert not list(out.rglob("*.partial"))
