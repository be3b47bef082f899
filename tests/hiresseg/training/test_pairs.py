from __future__ import annotations

import shutil

import numpy as np
import pytest

from hiresseg.errors import RecipeError
from hiresseg.training.pairs import find_files, open_pairs, refuse

from .conftest import write_picture


def test_pairs_are_found_by_name_whatever_the_suffix_and_the_word_mask(make_pairs):
    images, labels = make_pairs([(20, 30), (40, 20)])
    (labels / "scene1.png").rename(labels / "scene1_mask.png")
    (images / "notes.txt").write_text("not a picture")
    files, faults = find_files(images, labels)
    assert faults == []
    pairs, faults = open_pairs(files)
    assert faults == []
    assert [(p.name, p.image.num_bands, p.labels.num_bands) for p in pairs] == [
        ("scene0", 3, 1),
        ("scene1", 3, 1),
    ]


def test_palette_labels_are_read_as_their_numbers(make_pairs):
    images, labels = make_pairs([(20, 30)], value=2, palette=True)
    (pair,), faults = open_pairs(find_files(images, labels)[0])
    assert faults == []
    from hiresseg.geometry import Window

    values, valid = pair.labels.read(Window(0, 0, 20, 30))
    assert set(np.unique(values)) == {0, 2}
    assert valid is None


def test_a_scene_by_itself_is_a_pair(make_pairs):
    images, labels = make_pairs([(20, 30)])
    files, faults = find_files(images / "scene0.png", labels / "scene0.png")
    assert (len(files), faults) == (1, [])


def test_all_faults_of_all_files_are_named_at_once(make_pairs, tmp_path):
    images, labels = make_pairs([(20, 30)] * 8, suffix=".tif")
    here = {"crs": "EPSG:32645", "transform": (2.0, 0, 700, 0, -2.0, 900)}
    image = np.full((3, 20, 30), 9, np.uint8)
    (labels / "scene1.png").unlink()
    (images / "scene2.tif").unlink()
    write_picture(labels / "scene3.png", np.zeros((3, 20, 31), np.uint8))
    (images / "scene4.tif").write_bytes(b"not a TIFF at all")
    for name, there in (
        ("scene5", {**here, "crs": "EPSG:32644"}),
        ("scene6", {**here, "transform": (2.0, 0, 704, 0, -2.0, 900)}),
        ("scene7", here),
    ):
        write_picture(images / f"{name}.tif", image, **_placed(here))
        (labels / f"{name}.png").unlink()
        write_picture(labels / f"{name}.tif", image[:1] * 0, **_placed(there))
    write_picture(images / "scene8.tif", image[:1])
    shutil.copy(labels / "scene0.png", labels / "scene8.png")
    write_picture(labels / "scene9.png", image)

    files, faults = find_files(images, labels)
    pairs, more = open_pairs(files)
    assert [p.name for p in pairs if p] == ["scene0", "scene7"]
    with pytest.raises(RecipeError) as refused:
        refuse([*faults, *more], "the data")
    said = str(refused.value)
    for name, what in {
        "images/scene1.tif": "has no labels of that name",
        "labels/scene2.png": "has no image of that name",
        "labels/scene3.png": "labels are one band of whole numbers, this has 3 of uint8",
        "images/scene4.tif": "is of an unknown format",
        "labels/scene5.tif": r"its CRS (EPSG:32644) is another than that (EPSG:32645)",
        "labels/scene6.tif": "its grid lies 2.0 pixels",
        "images/scene8.tif": "has 1 bands of uint8",
        "labels/scene9.png": "has no image of that name",
    }.items():
        assert any(name in line and what in line for line in said.splitlines()), (name, said)
    assert any("is 20 x 31, its image" in line for line in said.splitlines())


def _placed(place):
    from rasterio import Affine

    return {"crs": place["crs"], "transform": Affine(*place["transform"])}


def test_folders_that_are_none_are_named(tmp_path):
    files, faults = find_files(tmp_path / "a", tmp_path / "b")
    assert files == []
    assert len(faults) == 2
    refuse([], "nothing wrong")
