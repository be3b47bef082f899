from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.random import default_rng

from hiresseg.errors import RecipeError
from hiresseg.models import load_model
from hiresseg.models.cascade import CoarseNet, RefineNet
from hiresseg_pipelines.cascade_recipe import read_recipe
from hiresseg_pipelines.cascade_scores import best_threshold, near_boundary, score_cascade, score_mask
from hiresseg_pipelines.train_cascade import begin_with, train_cascade, write_model

RECIPES = Path(__file__).resolve().parents[2] / "pipelines" / "recipes"


def write_pair(folder, name, height, width):
    """Bright rectangles on dark ground."""
    rng = default_rng(len(name))
    labels = np.zeros((1, height, width), np.uint8)
    for top, left in rng.integers(0, [height, width], (12, 2)):
        labels[0, top : top + 24, left : left + 18] = 1
    image = (60 + 120 * labels + rng.integers(0, 20, (3, height, width))).astype(np.uint8)
    paths = {}
    for kind, array in (("image", image), ("labels", labels)):
        paths[kind] = folder / f"{name}_{kind}.tif"
        profile = {"driver": "GTiff", "count": len(array), "height": height, "width": width, "dtype": "uint8"}
        with rasterio.open(
            paths[kind], "w", **profile, crs="EPSG:32645", transform=rasterio.Affine(2, 0, 7, 0, -2, 9)
        ) as out:
            out.write(array)
    return paths


def small_recipe(folder):
    train, val = write_pair(folder, "train", 128, 192), write_pair(folder, "val", 96, 128)
    text = f"""
[data]
image = "{train["image"]}"
labels = "{train["labels"]}"
held_back_cols = [128, 192]
validation_image = "{val["image"]}"
validation_labels = "{val["labels"]}"

[model]
folder = "{folder}/model"
name = "toy"
class_name = "box"
color = [1, 2, 3]
pixel_size_m = [1, 2]
refine_above = 0.3
licence = "CC0"
description = "Boxes."
"""
    common = "trim_px = 4\nbatch = 2\nlearning_rate = 1e-2\noverlap_px = 16\n"
    text += f"[coarse]\n{common}level = 2\ntile_px = 32\nwidths = [4, 6]\nsteps = 3\nfold_steps = 2\n"
    text += "crop_px = 32\n"
    text += f"[refine]\n{common}level = 0\ntile_px = 64\nwidths = [4, 6]\nsteps = 2\ncrop_px = 64\n"
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.fixture
def one_core():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_core")
def test_a_recipe_becomes_a_model_folder(tmp_path):
    recipe = read_recipe(small_recipe(tmp_path))
    coarse, refiner, material = train_cascade(recipe, tmp_path / "work")
    rows = score_cascade(recipe, coarse, refiner, material)
    write_model(recipe, (coarse, refiner), material, {"val_iou": rows["cascade"]["iou"]})

    model = load_model(tmp_path / "model")
    assert [(s.level, s.tile_px) for s in model.spec.stages] == [(2, 32), (0, 64)]
    assert model.spec.mean == tuple(pytest.approx(v, abs=1e-3) for v in material.mean.flatten().tolist())
    assert model.spec.scores["val_iou"] == rows["cascade"]["iou"]
    images, prior = torch.randn(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    # half precision on disk
    torch.testing.assert_close(
        model.segmenters[1](images, prior), refiner(images, prior), rtol=0.02, atol=0.02
    )
    assert rows["refiner, truth as prior"]["iou"] > rows["refiner, prior blanked"]["iou"]

    again = train_cascade(recipe, tmp_path / "work")[1]
    for name, value in refiner.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_the_refiner_begins_with_what_the_coarse_network_knows():
    coarse, refiner = CoarseNet((4, 6, 8)), RefineNet((4, 6))
    stem, head = refiner.stem[0].weight.clone(), refiner.head.weight.clone()
    begin_with(refiner, coarse)
    assert torch.equal(refiner.trunk.down[0][0][0].weight, coarse.trunk.down[0][0][0].weight)
    assert torch.equal(refiner.trunk.first.body[0].weight, coarse.trunk.first.body[0].weight)
    assert torch.equal(refiner.stem[0].weight, stem)
    assert torch.equal(refiner.head.weight, head)


def test_the_recipe_of_the_bundled_cascade_reads():
    recipe = read_recipe(RECIPES / "cascade-buildings.toml")
    assert recipe.coarse.lattice.level == 2
    assert recipe.refine.widths == (16, 40, 80, 128)
    assert recipe.model.color == (230, 60, 40)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 2\ncrop_px = 64", "crop_px = 64", "must have the keys"),
        ("level = 0", "level = 0\nlevels = 1", "must have the keys"),
        ("level = 0", 'level = "0"', "refine.level must be of type int"),
        ("level = 0", "level = 0.5", "refine.level must be of type int"),
        ("color = [1, 2, 3]", "color = 7", "model.color must be of type tuple"),
        ("color = [1, 2, 3]", "color = [1, 2, true]", "model.color must be of type tuple"),
        ("[refine]", "[refiner]", "must have the sections"),
        ("[refine]", "[refine", "cannot be read"),
    ],
)
def test_a_recipe_with_a_slip_is_refused(tmp_path, old, new, message):
    path = small_recipe(tmp_path)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RecipeError, match=message):
        read_recipe(path)


def test_figures_of_a_mask_worked_out_by_hand():
    labels = torch.zeros(20, 20, dtype=torch.uint8)
    labels[:, :10] = 1
    labels[0] = 255
    found = torch.zeros(20, 20, dtype=torch.bool)
    found[:, :12] = True
    figures = score_mask(found, labels)
    assert figures["iou"] == pytest.approx(10 / 12)
    assert figures["precision"] == pytest.approx(10 / 12)
    assert figures["recall"] == 1
    # of the band of 4 + 4 columns, two are wrong; row 0 is unknown, and row 1 to 4 touch its other class
    assert 0.7 < figures["boundary"] < 0.85


def test_boundary_band_reaches_its_radius_and_no_further():
    mask = torch.zeros(30, 30, dtype=torch.bool)
    mask[:, 15:] = True
    band = near_boundary(mask, 4)
    assert band[:, 11:19].all()
    assert band.sum() == 8 * 30
    assert not near_boundary(torch.ones(9, 9, dtype=torch.bool), 4).any()


def test_the_threshold_rule_is_found_again():
    image = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    image[0, 10:30, 10:30] = 180
    labels = (image[0] > 150).to(torch.uint8)
    rule, mask = best_threshold(image, labels, image.flip(2))
    assert "red" in rule
    assert torch.equal(mask, labels.flip(1) == 1)
