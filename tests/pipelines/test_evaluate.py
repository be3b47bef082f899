"""`hiresseg evaluate`, as typed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.warp import transform_geom

from hiresseg.forward import ForwardSetting
from hiresseg.geometry import Window
from hiresseg.models import load_model
from hiresseg.models.spec import StageSpec
from hiresseg.testing import ArrayScene, convolution, make_model
from hiresseg_pipelines.evaluate_model import ShiftedScene, measure_seams, segment_scene, shift_of

PLACE = Affine(0.5, 0, 300_000, 0, -0.5, 3_000_000)
CRS = "EPSG:32645"


def write_map(path, labels, *, transform=PLACE, crs=CRS, **options):
    shape = {"height": labels.shape[0], "width": labels.shape[1], "count": 1, "dtype": labels.dtype}
    place = {"transform": transform, "crs": crs} if transform else {}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **options) as dataset:
        dataset.write(labels, 1)
    return path


def some_labels(seed=0, height=60, width=80, num_classes=3):
    small = np.random.default_rng(seed).integers(0, num_classes, (height // 10, width // 10), np.uint8)
    return small.repeat(10, 0).repeat(10, 1)


@pytest.fixture
def evaluate(hiresseg):
    def run(*words):
        typed = hiresseg("evaluate", *words, "--json")
        assert typed.code == 0, typed
        return json.loads(typed.out)

    return run


def test_a_pair_of_maps(tmp_path, evaluate, hiresseg):
    truth, prediction = some_labels(0), some_labels(1)
    truth[:5], prediction[5:8] = 255, 255
    paths = write_map(tmp_path / "p.tif", prediction, nodata=255), write_map(tmp_path / "t.tif", truth)
    total = evaluate(*paths, "--classes", "ground,tree,house", "-o", tmp_path / "out")["total"]
    known = truth != 255
    assert total["pixels"] == known.sum()
    assert total["unanswered"] == 3 * 80
    for row in total["classes"]:
        true, told = truth == row["value"], (prediction == row["value"]) & known
        assert row["iou"] == (true & told).sum() / (true | told).sum()
    assert total["pixel_accuracy"] == (truth == prediction)[known].mean()
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["total"] == total
    with Image.open(tmp_path / "out/p.png") as picture:
        assert picture.width > 600
    shown = hiresseg("evaluate", *paths, "--classes", "ground,tree,house").out
    assert f"{total['mean_iou']:.4f}" in shown
    assert "house" in shown
    assert "240 pixels have no answer" in shown


def test_maps_are_aligned_by_their_place(tmp_path, evaluate):
    labels = some_labels(2, 100, 120)
    moved = PLACE @ Affine.translation(30, 20)
    found = write_map(tmp_path / "p.tif", labels[:70, :90])
    truth = write_map(tmp_path / "t.tif", labels[20:, 30:], transform=moved)
    image = evaluate(found, truth)["images"][0]
    assert (image["height"], image["width"]) == (50, 60)
    assert image["pixels_outside"] == 80 * 90 - 50 * 60
    assert image["mean_iou"] == 1
    assert image["boundary_iou"]["mean"] == 1
    assert image["mba_published"]["value"] == 1


@pytest.mark.parametrize(
    ("transform", "crs", "says"),
    [
        (PLACE @ Affine.translation(0.5, 0), CRS, "0.50 columns"),
        (PLACE @ Affine.scale(1.01), CRS, "0.505 x 0.505"),
        (PLACE, "EPSG:32644", "EPSG:32645 and EPSG:32644"),
        (PLACE @ Affine.translation(500, 0), CRS, "no pixel in common"),
    ],
)
def test_grids_that_are_not_one_are_refused_with_the_remedy(tmp_path, hiresseg, transform, crs, says):
    found = write_map(tmp_path / "p.tif", some_labels())
    truth = write_map(tmp_path / "t.tif", some_labels(), transform=transform, crs=crs)
    typed = hiresseg("evaluate", found, truth)
    assert typed.code == 2
    assert says in typed.err
    assert "p.tif" in typed.err
    assert "no pixel" in says or "gdalwarp -r near -t_srs 'EPSG:32645' -te 300000" in typed.err


def test_without_a_place_sizes_must_agree(tmp_path, hiresseg):
    for name, size in (("p.png", (8, 6)), ("t.png", (8, 7))):
        Image.new("L", size).save(tmp_path / name)
    typed = hiresseg("evaluate", tmp_path / "p.png", tmp_path / "t.png")
    assert typed.code == 2
    assert "6 x 8 and 7 x 8" in typed.err


def test_all_ignored_gives_null_and_no_warning(tmp_path, evaluate, hiresseg):
    found = write_map(tmp_path / "p.tif", some_labels())
    truth = write_map(tmp_path / "t.tif", np.full((60, 80), 7, np.uint8))
    total = evaluate(found, truth, "--ignore", 7)["total"]
    assert total["pixels"] == 0
    assert total["mean_iou"] is None
    assert total["mba_published"] == {"value": None, "images": 0, "without_boundary": 1, "radii_px": [1]}
    assert hiresseg("evaluate", found, truth, "--ignore", 7, "-o", tmp_path / "out").code == 0


def test_polygons_are_drawn_on_the_grid_of_the_prediction(tmp_path, evaluate):
    found = np.zeros((60, 80), np.uint8)
    found[10:30, 20:50], found[40:50, 0:10] = 1, 2
    write_map(tmp_path / "p.tif", found)

    def polygon(top, left, bottom, right):
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        flat = {"type": "Polygon", "coordinates": [[PLACE @ corner for corner in corners]]}
        return transform_geom(CRS, "EPSG:4326", flat)

    features = [
        {"type": "Feature", "geometry": polygon(10, 20, 30, 50), "properties": {}},
        {"type": "Feature", "geometry": polygon(40, 0, 50, 10), "properties": {"kind": 2}},
    ]
    path = tmp_path / "truth.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    result = evaluate(tmp_path / "p.tif", path, "--class-attribute", "kind")
    assert [row["pixels"] for row in result["total"]["classes"]] == [4100, 600, 100]
    assert result["total"]["mean_iou"] == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"type": "FeatureCollection", "features": []}', '{"type": "Feature"}', "[" * 9999],
)
def test_what_is_no_geojson_of_polygons_is_refused(tmp_path, hiresseg, text):
    write_map(tmp_path / "p.tif", some_labels())
    (tmp_path / "t.geojson").write_text(text)
    typed = hiresseg("evaluate", tmp_path / "p.tif", tmp_path / "t.geojson")
    assert typed.code == 2
    assert "t.geojson" in typed.err


def test_maps_of_ids(tmp_path, evaluate):
    truth, found = np.zeros((20, 30), np.uint16), np.zeros((20, 30), np.uint16)
    truth[:10, :10], truth[12:, 15:25] = 300, 255
    found[:10, :8], found[0:3, 20:25] = 9, 1
    paths = write_map(tmp_path / "p.tif", found), write_map(tmp_path / "t.tif", truth)
    panoptic = evaluate(*paths, "--panoptic")["panoptic"]
    expected = {"pq": 0.4, "sq": 0.8, "rq": 0.5, "matched": 1, "false": 1, "missed": 1}
    assert panoptic["categories"]["1"] == pytest.approx(expected)
    table = [{"id": 300, "category_id": 4}, {"id": 255, "category_id": 5, "iscrowd": 1}]
    (tmp_path / "t.json").write_text(json.dumps({"segments_info": table}))
    table = [{"id": 9, "category_id": 4}, {"id": 1, "category_id": 4}]
    (tmp_path / "p.json").write_text(json.dumps({"segments_info": table}))
    # 0 is void in a COCO table, so what lies there is no mistake
    panoptic = evaluate(*paths, "--panoptic")["panoptic"]
    assert panoptic["categories"] == {
        "4": {"pq": 0.8, "sq": 0.8, "rq": 1.0, "matched": 1, "false": 0, "missed": 0}
    }


def test_a_model_on_a_folder(tmp_path, evaluate, hiresseg, toy_model, toy_scene):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    with rasterio.open(toy_scene) as dataset:
        pixels, profile = dataset.read(), dataset.profile
    for name, rows in (("a", slice(0, 600)), ("b", slice(600, 1300))):
        place = profile["transform"] @ Affine.translation(0, rows.start)
        profile |= {"height": rows.stop - rows.start, "transform": place}
        with rasterio.open(tmp_path / f"images/{name}.tif", "w", **profile) as dataset:
            dataset.write(pixels[:, rows])
        hiresseg("run", tmp_path / f"images/{name}.tif", "-m", toy_model, "-o", tmp_path / "run")
        (tmp_path / "run/labels.tif").rename(tmp_path / f"labels/{name}.tif")
        (tmp_path / "run").rename(tmp_path / f"run-{name}")
    result = evaluate("--model", toy_model, "--data", tmp_path, "--seam")
    assert [image["name"] for image in result["images"]] == ["a.tif", "b.tif"]
    assert result["total"]["pixel_accuracy"] == 1
    assert result["total"]["pixels"] == pixels[0].size
    assert [row["name"] for row in result["classes"]] == ["ground", "thing"]
    assert 0 <= result["total"]["seam"]["share"] < 0.2
    (tmp_path / "labels/b.tif").unlink()
    assert "b.tif: has no labels" in hiresseg("evaluate", "--model", toy_model, "--data", tmp_path).err


def test_the_bundled_cascade_is_worth_what_its_card_says(shared_data, evaluate):
    data = shared_data / "banepa_buildings/val"
    total = evaluate("--model", "cascade", "--data", data)["total"]
    assert total["classes"][1]["iou"] == pytest.approx(
        load_model("cascade").spec.scores["val_iou"], abs=0.003
    )
    assert total["boundary_accuracy"]["within_px"]["16"] > 0.8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give either PREDICTION and TRUTH"),
        (("p.tif",), "give either PREDICTION and TRUTH"),
        (("--model", "cascade"), "give either PREDICTION and TRUTH"),
        (("p.tif", "t.tif", "--seam"), "--seam runs a model twice"),
        (("--model", "cascade", "--data", "x", "--panoptic"), "--panoptic compares two maps"),
        (("p.tif", "t.tif", "--ignore", "x"), "give a value of the truth"),
        (("p.tif", "t.tif", "--classes", "a"), "give the names of all classes"),
    ],
)
def test_contradictions_are_refused(hiresseg, words, says):
    typed = hiresseg("evaluate", *words)
    assert typed.code == 2
    assert says in " ".join(typed.err.replace("│", " ").split())


def test_exact_networks_have_no_seams_and_others_do(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 150, 170), np.uint8)
    scene, setting = ArrayScene(pixels), ForwardSetting(workers=1)
    shares = {}
    for kernel_px in (1, 15):
        segmenter = convolution(3, 3, kernel_px=kernel_px)
        model = make_model(segmenter, stages=(StageSpec(0, 48, 0),), num_logits=3)
        first = segment_scene(scene, model, setting, tmp_path / f"a{kernel_px}.npy", lambda _: None)
        seams = measure_seams(scene, model, setting, first, tmp_path / f"b{kernel_px}.npy", lambda _: None)
        assert seams.pixels == 150 * 170
        shares[kernel_px] = seams.share
    assert shares[1] == 0
    assert shares[15] > 0.01


def test_the_shift_moves_every_lattice_by_about_half_a_stride():
    def shift(*stages):
        model = make_model(*[convolution(3, 2)] * len(stages), stages=stages, num_logits=2)
        return shift_of(model.spec)

    # half a tile would be a whole stride here
    assert shift(StageSpec(0, 256, 128)) == 64
    coarse, fine = StageSpec(2, 256, 64), StageSpec(0, 256, 64)
    moved = shift(coarse, fine)
    assert moved % 4 == 0
    assert all(math.isclose(moved % stride / stride, 0.5, abs_tol=0.13) for stride in (192, 768))


def test_a_shifted_scene_is_the_scene_after_nothing():
    pixels = np.random.default_rng(0).integers(0, 255, (2, 21, 34), np.uint8)
    shifted = ShiftedScene(ArrayScene(pixels), 8)
    whole = np.pad(pixels, ((0, 0), (8, 0), (8, 0)))
    seen, valid = shifted.read(Window(3, 5, 20, 25))
    np.testing.assert_array_equal(seen, whole[:, 3:23, 5:30])
    assert not valid[:5].any()
    assert valid[5:, 3:].all()
