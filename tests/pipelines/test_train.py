"""`hiresseg train`, from two folders to a model that `hiresseg run` takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hiresseg.errors import Interrupted, RecipeError
from hiresseg.models import load_model
from hiresseg_pipelines.train import train
from hiresseg_pipelines.train_curves import CurveWriter, draw_curves
from hiresseg_pipelines.train_recipe import parse_recipe, read_train_recipe, write_recipe
from hiresseg_pipelines.train_request import TrainRequest, parse_network


def write_folders(folder, count=4, *, value=1, bands=3, size=(96, 128)):
    """Bright boxes on dark ground."""
    for number in range(count):
        rng = np.random.default_rng(number)
        truth = np.zeros(size, np.uint8)
        for top, left in zip(rng.integers(0, size[0], 4), rng.integers(0, size[1], 4), strict=True):
            truth[top : top + 30, left : left + 30] = value
        light = 60 + 120 * (truth == value)[..., None] + rng.integers(0, 20, (*size, bands))
        for kind, pixels in (("images", light.astype(np.uint8)), ("masks", truth)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    return folder / "images", folder / "masks"


@pytest.fixture(autouse=True)
def one_core():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SMALL = {
    "crop_px = 256": "crop_px = 64",
    "tile_px = 512": "tile_px = 64",
    "overlap_px = 64": "overlap_px = 16",
    "trim_px = 16": "trim_px = 4",
    "batch = 8": "batch = 2",
    "arguments = {}": "arguments = {widths = [4, 8]}",
}


def small_recipe(folder, images, masks, *, steps=6, changes=()):
    """The recipe that the command writes, made small."""
    request = TrainRequest(
        images=images, labels=masks, out=folder, steps=steps, licence="CC0-1.0", check=True
    )
    train(request, lambda _: None)
    path = folder / "recipe.toml"
    text = path.read_text()
    for old, new in {**SMALL, **dict(changes)}.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
    return path


def weights_of(folder):
    return load_model(folder).segmenters[0].state_dict()


def test_two_folders_become_a_model_that_runs(tmp_path, hiresseg):
    images, masks = write_folders(tmp_path)
    model = tmp_path / "model"
    words = "--images", images, "--labels", masks, "-o", model, "--licence", "CC0-1.0", "--steps", 40
    checked = hiresseg("train", *words, "--check")
    assert (checked.code, checked.out) == (0, "the data can be trained on\n")
    assert "classes found: 0 background, 1 class_1" in checked.err
    recipe = small_recipe(tmp_path / "model", images, masks, steps=40)
    trained = hiresseg("train", recipe)
    assert trained.code == 0, trained.err
    assert "s left" in trained.err
    assert f"hiresseg run SCENE --model {model}" in trained.out

    assert {path.name for path in model.iterdir()} == {
        "README.md", "config.json", "curves.png", "data.json", "model.safetensors", "recipe.toml", "training",
    }  # fmt: skip
    card = (model / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: hiresseg\n")
    assert "license: cc0-1.0" in card
    assert "| 1 | class_1 |" in card
    data = json.loads((model / "data.json").read_text())
    assert [entry["image"]["name"] for entry in data["validation"]] == ["3.png"]
    assert len(data["training"][0]["labels"]["files"][0]["blake2b"]) == 32
    assert "mtime_ns" not in (model / "data.json").read_text()

    ran = hiresseg("run", images / "3.png", "--model", model, "-o", tmp_path / "out", "--block", "64")
    assert ran.code == 0, ran.err
    found = np.array(Image.open(tmp_path / "out" / "labels.tif"))
    truth = np.array(Image.open(masks / "3.png"))
    spec = load_model(model).spec
    # what the card says is what the run gives
    assert spec.scores["val_accuracy"] == pytest.approx((found == truth).mean(), abs=1e-3)
    assert spec.licence == "CC0-1.0"


def test_stopped_and_resumed_it_ends_in_the_same_weights(tmp_path):
    images, masks = write_folders(tmp_path)
    recipe = small_recipe(
        tmp_path / "one", images, masks, changes={"validate_every = 1": "validate_every = 4"}
    )
    other = tmp_path / "two" / "recipe.toml"
    other.parent.mkdir()
    other.write_text(
        recipe.read_text().replace(str(tmp_path / "one"), str(tmp_path / "two")).replace('"one"', '"two"')
    )
    train(TrainRequest(recipe), lambda _: None)
    asked = iter([False, False, True])
    with pytest.raises(Interrupted, match="after step 3"):
        train(TrainRequest(other), lambda _: None, lambda: next(asked))
    assert not (tmp_path / "two" / "config.json").exists()
    lines = []
    train(TrainRequest(other), lines.append)
    assert "checkpoint: goes on after step 3" in lines
    theirs = weights_of(tmp_path / "two")
    for name, value in weights_of(tmp_path / "one").items():
        assert torch.equal(value, theirs[name]), name


def test_a_checkpoint_is_not_gone_on_with_on_other_data(tmp_path):
    images, masks = write_folders(tmp_path)
    recipe = small_recipe(tmp_path / "model", images, masks, steps=2)
    train(TrainRequest(recipe), lambda _: None)
    shutil.copy(images / "0.png", images / "1.png")
    with pytest.raises(RecipeError, match="of another recipe or other data"):
        train(TrainRequest(recipe), lambda _: None)


def test_bad_data_are_named_file_by_file_before_anything_is_trained(tmp_path, hiresseg):
    images, masks = write_folders(tmp_path)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(masks / "1.png")
    Image.fromarray(np.full((96, 128), 9, np.uint8)).save(masks / "2.png")
    (tmp_path / "classes.txt").write_text("0 ground\n1 box #ff0000\n")
    (masks / "3.png").unlink()
    words = "train", "--images", images, "--labels", masks, "--classes", tmp_path / "classes.txt"
    refused = hiresseg(*words, "-o", tmp_path / "model")
    assert refused.code == 2
    for said in ("1.png: is 5 x 5", "2.png: holds 9 (12288 pixels)", "3.png: has no labels"):
        assert said in refused.err
    assert not (tmp_path / "model").exists()


def test_black_and_white_masks_are_two_classes(tmp_path):
    images, masks = write_folders(tmp_path, value=255)
    lines = []
    train(TrainRequest(images=images, labels=masks, out=tmp_path / "m", check=True), lines.append)
    assert any("255 is taken for a class" in line for line in lines)
    assert [c.value for c in read_train_recipe(tmp_path / "m" / "recipe.toml").classes] == [0, 255]


@pytest.mark.parametrize("name", ["Unet", "FPN", "DeepLabV3Plus", "Segformer", "UPerNet"])
def test_networks_of_smp_are_trained_on_any_number_of_bands(tmp_path, name):
    images, masks = write_folders(tmp_path, bands=4, size=(64, 64))
    recipe = small_recipe(
        tmp_path / "model",
        images,
        masks,
        steps=1,
        changes={
            'library = "hiresseg"': 'library = "smp"',
            'name = "FCN"': f'name = "{name}"',
            "arguments = {}": 'arguments = {encoder_name = "mobilenet_v2"}',
            "bands = []": "bands = [1, 2]",
        },
    )
    train(TrainRequest(recipe), lambda _: None)
    model = load_model(tmp_path / "model")
    assert model.spec.bands == ("red", "green")
    assert model.segmenters[0](torch.zeros(1, 2, 64, 64), None).shape == (1, 2, 64, 64)


def test_half_precision_and_every_term_of_the_loss(tmp_path):
    images, masks = write_folders(tmp_path)
    changes = {
        'precision = "fp32"': 'precision = "bf16"',
        "accumulate = 1": "accumulate = 2",
        "focal = 0.0": "focal = 1.0",
        "boundary = 0.0": "boundary = 2.0",
        "l1 = 0.0": "l1 = 0.5",
        "l2 = 0.0": "l2 = 1",
        "class_weights = []": "class_weights = [1, 2.5]",
    }
    recipe = small_recipe(tmp_path / "model", images, masks, steps=2, changes=changes)
    assert read_train_recipe(recipe).loss.class_weights == (1.0, 2.5)
    assert "mean IoU" in train(TrainRequest(recipe), lambda _: None)


def test_a_recipe_is_written_as_it_is_read(tmp_path):
    images, masks = write_folders(tmp_path)
    path = small_recipe(tmp_path / "model", images, masks)
    recipe = read_train_recipe(path)
    assert parse_recipe_of(write_recipe(recipe)) == recipe


def parse_recipe_of(text):
    import tomllib

    return parse_recipe(tomllib.loads(text), "text")


def test_the_recipe_that_stands_in_the_repository_reads_and_its_data_are_sound(shared_data, monkeypatch):
    path = Path(__file__).resolve().parents[2] / "pipelines" / "recipes" / "breeding-plots.toml"
    recipe = read_train_recipe(path)
    assert [entry.name for entry in recipe.classes] == ["background", "plot"]
    monkeypatch.chdir(path.parents[2])
    assert train(TrainRequest(path, check=True), lambda _: None) == "the data can be trained on"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch = 2", "batch = 2\nbatches = 1", "data must have the keys"),
        ("batch = 2", 'batch = "2"', "data.batch must be of type int"),
        ("batch = 2", "batch = 0", "data.batch must be at least 1"),
        ("crop_px = 64", "crop_px = 50", "multiple of 32"),
        ("label_smoothing = 0.0", "label_smoothing = 1.5", "label_smoothing must lie"),
        ("class_weights = []", "class_weights = [1.0]", "one positive number for each class"),
        ('precision = "fp32"', 'precision = "fp8"', "precision must be one of fp32, bf16, fp16"),
        ("flip = true", "flip = 1", "views.flip must be of type bool"),
        ("[loss]", "[losses]", "must have the sections"),
        ("value = 1", "value = 0", "value 0 stands there more than once"),
        ('validation_images = ""', 'validation_images = "x"', "go together"),
    ],
)
def test_a_recipe_with_a_slip_is_refused(tmp_path, old, new, message):
    path = small_recipe(tmp_path / "model", *write_folders(tmp_path))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(RecipeError, match=message):
        read_train_recipe(path)


def test_a_recipe_that_stands_there_is_not_written_over(tmp_path):
    images, masks = write_folders(tmp_path)
    request = TrainRequest(images=images, labels=masks, out=tmp_path / "m", check=True)
    train(request, lambda _: None)
    train(request, lambda _: None)
    (tmp_path / "m" / "recipe.toml").write_text("mine")
    with pytest.raises(RecipeError, match="says something else"):
        train(request, lambda _: None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("recipe.toml", "--steps", "9", "--network", "Unet"), "--network, --steps: the recipe"),
        (("--images", "x"), "give a recipe, or --images, --labels and --out"),
        (("none.toml",), "none.toml cannot be read"),
    ],
)
def test_contradictions_are_refused(hiresseg, words, message):
    refused = hiresseg("train", *words)
    assert refused.code == 2
    assert message in refused.err


def test_networks_by_their_short_names():
    assert parse_network("FCN").library == "hiresseg"
    assert parse_network("Unet:mit_b0").arguments == {"encoder_name": "mit_b0"}
    assert parse_network("FPN").arguments == {"encoder_name": "resnet18"}
    with pytest.raises(RecipeError, match="is none"):
        parse_network("YOLO")


def test_curves_are_drawn_and_go_on_in_event_files(tmp_path):
    from hiresseg.training.loop import Point

    points = [Point(step, 1 / step, 1 - 1 / step, 1e-3) for step in (1, 5, 9)]
    draw_curves(points, tmp_path / "curves.png")
    pixels = np.array(Image.open(tmp_path / "curves.png"))
    assert (pixels == (200, 80, 40)).all(-1).sum() > 100
    assert (pixels == (30, 110, 180)).all(-1).sum() > 100
    draw_curves(points[:1], tmp_path / "one.png")

    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for part in (points[:2], points[2:]):
        with CurveWriter(tmp_path, print) as writer:
            for point in part:
                writer.add(point)
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    scalars = read.Scalars("score/validation")
    assert [(s.step, round(s.value, 4)) for s in scalars] == [(p.step, round(p.score, 4)) for p in points]


def test_without_tensorboard_it_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    lines = []
    from hiresseg.training.loop import Point

    with CurveWriter(tmp_path, lines.append) as writer:
        writer.add(Point(1, 1.0, 0.5, 1e-3))
    assert len(lines) == 1
    assert "hiresseg[tensorboard]" in lines[0]


def test_the_recipe_of_the_cascade_is_taken_too(tmp_path, hiresseg):
    from .test_train_cascade import small_recipe as cascade_recipe

    path = cascade_recipe(tmp_path)
    trained = hiresseg("train", path, "--work", tmp_path / "work")
    assert trained.code == 0, trained.err
    assert "cascade: iou" in trained.out
    assert load_model(tmp_path / "model").spec.name == "toy"
    assert (tmp_path / "work" / "refine.pt").exists()
