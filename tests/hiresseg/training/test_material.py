from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hiresseg.errors import RecipeError
from hiresseg.testing import ArrayScene
from hiresseg.training.classes import LabelClass
from hiresseg.training.material import Sources, load_material, pool_statistics
from hiresseg.training.pairs import Pair

CLASSES = (LabelClass(0, "ground", (0, 0, 0)), LabelClass(1, "box", (9, 9, 9)))


def test_a_part_of_many_scenes_is_held_back_and_always_the_same(make_pairs):
    images, labels = make_pairs([(40, 50)] * 10)
    material = load_material(Sources(images, labels), CLASSES)
    assert [p.name for p in material.validation] == ["scene4", "scene9"]
    assert len(material.training) == len(material.cells) == 8
    assert material.pixels.sum() == 8 * 40 * 50
    assert material.pixel_size_m is None


def test_of_two_scenes_one_is_held_back(make_pairs):
    material = load_material(Sources(*make_pairs([(40, 50)] * 2)), CLASSES)
    assert [p.name for p in material.validation] == ["scene1"]


@pytest.mark.parametrize(
    ("size", "trained", "held"),
    [((300, 1300), (300, 1024), (300, 276)), ((700, 300), (512, 300), (188, 300))],
)
def test_of_one_scene_the_end_is_held_back(make_pairs, size, trained, held):
    images, labels = make_pairs([size])
    material = load_material(Sources(images / "scene0.png", labels / "scene0.png"), CLASSES)
    for pairs, expected in ((material.training, trained), (material.validation, held)):
        (pair,) = pairs
        assert (pair.image.height, pair.image.width) == expected
        assert (pair.labels.height, pair.labels.width) == expected


def test_one_scene_too_small_to_be_parted_is_refused(make_pairs):
    with pytest.raises(RecipeError, match="nothing can be held back"):
        load_material(Sources(*make_pairs([(200, 250)])), CLASSES)


def test_scenes_named_for_validation_are_all_that_is_validated_on(make_pairs):
    train, val = make_pairs([(40, 50)] * 3), make_pairs([(30, 20)], folder="val")
    material = load_material(Sources(*train, *val), CLASSES)
    assert (len(material.training), len(material.validation)) == (3, 1)
    assert material.validation[0].image.height == 30
    with pytest.raises(RecipeError, match="is trained and validated on"):
        load_material(Sources(*train, *train), CLASSES)


def test_faults_of_labels_are_named_file_by_file_together_with_those_of_files(make_pairs):
    images, labels = make_pairs([(40, 50)] * 4, value=1)
    Image.fromarray(np.full((40, 50), 7, np.uint8)).save(labels / "scene1.png")
    Image.fromarray(np.full((40, 50), 255, np.uint8)).save(labels / "scene2.png")
    Image.fromarray(np.full((41, 50), 0, np.uint8)).save(labels / "scene3.png")
    with pytest.raises(RecipeError) as refused:
        load_material(Sources(images, labels), CLASSES)
    lines = str(refused.value).splitlines()
    for name, what in {
        "scene1.png": "holds 7 (2000 pixels); classes are 0 ground, 1 box",
        "scene2.png": "no pixel is labelled",
        "scene3.png": "is 41 x 50, its image",
    }.items():
        assert any(name in line and what in line for line in lines), str(refused.value)


def test_a_class_that_nowhere_is_is_named(make_pairs):
    classes = (*CLASSES, LabelClass(5, "road", (0, 0, 0)))
    with pytest.raises(RecipeError, match="class 5 road: no training scene has a pixel of it"):
        load_material(Sources(*make_pairs([(40, 50)] * 3)), classes)


def test_of_a_vast_scene_the_part_with_most_labels_is_validated(make_pairs, monkeypatch):
    monkeypatch.setattr("hiresseg.training.material.VALIDATION_PX", 256)
    train, (images, labels) = make_pairs([(40, 50)] * 2), make_pairs([(700, 600)], folder="val")
    truth = np.full((700, 600), 255, np.uint8)
    truth[600:, 300:500] = 1
    Image.fromarray(truth).save(labels / "scene0.png")
    (pair,) = load_material(Sources(*train, images, labels), CLASSES).validation
    assert pair.image.uri.endswith("#rows=512:700,cols=256:512")
    assert pair.labels.uri.endswith("#rows=512:700,cols=256:512")


def test_statistics_are_those_of_all_scenes_together():
    rng = np.random.default_rng(0)
    scenes = [rng.normal(mean, 5, (2, 64, 64)).astype(np.float32) for mean in (10, 50)]
    pairs = [Pair("a", ArrayScene(pixels), ArrayScene(pixels[:1])) for pixels in scenes]
    mean, std = pool_statistics(pairs)
    whole = np.concatenate([s.reshape(2, -1) for s in scenes], 1)
    assert mean == pytest.approx(whole.mean(1), abs=1e-2)
    assert std == pytest.approx(whole.std(1), rel=1e-3)
