"""Streams of finished windows: whole, bounded, and over when the consumer says so."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import hiresseg
from hiresseg import scenes, stages
from hiresseg.errors import ModelError, StoreError
from hiresseg.forward import ForwardSetting
from hiresseg.geometry import TileGrid, Window
from hiresseg.models import StageSpec
from hiresseg.selection import select_tiles
from hiresseg.stages import make_stages, normalisation, stage_layouts, stream
from hiresseg.store import RunStore
from hiresseg.testing import (
    ArrayScene,
    FakeSegmenter,
    constant,
    convolution,
    decide,
    make_model,
    segment_whole,
)

SIZE = 1000, 1100
ONE = (StageSpec(0, 256, 16, 2),)
TWO = (StageSpec(2, 64, 16, 2), StageSpec(0, 256, 16, 2))
TWO_WORKERS = ForwardSetting(workers=2)


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """All temporary folders and files lie here."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def blobs(height, width, seed=0, valid=None):
    """Smooth bands, so that answers have regions and boundaries."""
    coarse = torch.randn(
        (1, 3, height // 60 + 2, width // 60 + 2), generator=torch.Generator().manual_seed(seed)
    )
    smooth = torch.nn.functional.interpolate(coarse, scale_factor=60, mode="bilinear")[0, :, :height, :width]
    return ArrayScene(2 * smooth.numpy(), valid)


def one_stage(network=None, **options):
    return make_model(network or convolution(3, 3), stages=ONE, num_logits=3, **options)


def paint(answers, size=SIZE):
    """Labels and how often each pixel was answered."""
    labels, count = np.full(size, 99, np.uint8), np.zeros(size, int)
    for answer in answers:
        part = answer.window.slices_in(Window(0, 0, *size))
        labels[part] = answer.labels
        count[part] += 1
    return labels, count


def hiresseg_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("hiresseg")]


@pytest.mark.parametrize("workers", [1, 2])
def test_windows_cover_the_scene_once_and_each_tile_is_run_once(workers, scratch):
    network = convolution(3, 3)
    scene = blobs(*SIZE)
    setting = ForwardSetting(workers=workers)
    answers = list(stream(scene, one_stage(network), setting=setting, block_px=480))
    # no pixel was decoded twice
    assert scene.bytes_decoded == 3 * 4 * SIZE[0] * SIZE[1]
    labels, count = paint(answers)
    assert (count == 1).all()
    grid = TileGrid(256, 16, *SIZE)
    assert network.num_forwards == sum(answer.tiles.run for answer in answers) == grid.rows * grid.cols
    assert sum(answer.tiles.again for answer in answers) == 0
    assert len(answers) == 9
    assert (sum(answer.pixels for answer in answers) == np.bincount(labels.ravel(), minlength=256)).all()
    expected = segment_whole(scene, one_stage())
    clear = np.diff(np.sort(expected, axis=0)[-2:], axis=0)[0] > 1e-5
    np.testing.assert_array_equal(labels[clear], decide(expected, "softmax")[clear])
    assert hiresseg_threads() == []
    assert list(scratch.iterdir()) == []


def test_gives_what_was_asked_for_and_no_more():
    scene = blobs(300, 300)
    bare = next(stream(scene, one_stage(), setting=ForwardSetting()))
    assert bare.confidence is None
    assert bare.probabilities is None
    full = next(stream(scene, one_stage(), confidence=True, probabilities=True, setting=ForwardSetting()))
    assert full.confidence.shape == full.labels.shape == bare.labels.shape
    assert full.probabilities.shape == (3, *full.labels.shape)
    np.testing.assert_array_equal(full.labels, bare.labels)
    best = full.probabilities.max(axis=0)
    np.testing.assert_allclose(best / 255, full.confidence / 254, atol=1 / 254)


def test_blocks_are_as_large_as_asked():
    scene, model = blobs(*SIZE), one_stage()
    for asked, edge in ((480, 480), (900, 480), (1000, 960)):
        (stage,) = make_stages(model.spec, scene, 1, asked)
        assert stage.block_px == edge
        assert stage.is_last
    labels = [paint(stream(scene, model, setting=ForwardSetting(), block_px=edge))[0] for edge in (480, 960)]
    np.testing.assert_array_equal(*labels)


def test_all_workers_have_blocks_where_there_are_enough():
    scene = ArrayScene(np.broadcast_to(np.uint8(0), (3, 9000, 9000)))
    for workers in (1, 2, 8):
        (stage,) = make_stages(one_stage().spec, scene, workers)
        assert len(stage.blocks()) >= 4 * workers
        assert stage.block_px <= 2048
        assert stage.block_px % 480 == 0


def test_the_arrays_of_a_run_are_those_that_somebody_reads():
    model = make_model(convolution(3, 3), convolution(3, 3), stages=TWO, num_logits=3)
    layouts = stage_layouts(make_stages(model.spec, blobs(*SIZE), 1), 3, confidence=True)
    found = {
        layout.name: (layout.num_channels, layout.height, layout.width, layout.fill) for layout in layouts
    }
    assert found == {
        "stages/0/probabilities": (3, 250, 275, 0),
        "stages/0/labels": (0, 250, 275, 255),
        "labels": (0, *SIZE, 255),
        "confidence": (0, *SIZE, 255),
    }
    assert all(layout.shard_px % layout.chunk_px == 0 for layout in layouts)


@pytest.mark.parametrize("ends", ["break", "close"])
def test_a_consumer_that_stops_early_ends_the_work(ends, scratch):
    scene, network = blobs(*SIZE), convolution(3, 3)
    answers = stream(scene, one_stage(network), setting=TWO_WORKERS)
    next(answers)
    assert hiresseg_threads()
    assert list(scratch.iterdir())
    if ends == "close":
        answers.close()
    else:
        del answers
    assert hiresseg_threads() == []
    assert list(scratch.iterdir()) == []
    assert not scene.is_closed
    assert network.num_forwards < 25
    # and the scene can be used again
    assert (paint(stream(scene, one_stage(), setting=TWO_WORKERS))[1] == 1).all()


@pytest.mark.parametrize("outcome", ["all taken", "stopped early", "model missing", "wrong bands"])
def test_a_scene_given_by_its_address_is_closed(monkeypatch, outcome):
    opened = ArrayScene(np.ones((2 if outcome == "wrong bands" else 3, 50, 60), np.uint8))
    monkeypatch.setattr(scenes, "open_scene", lambda uri: opened)
    model = "no-such-model" if outcome == "model missing" else one_stage()
    answers = stream("scene.tif", model, setting=ForwardSetting())
    assert not opened.is_closed
    if outcome in {"model missing", "wrong bands"}:
        with pytest.raises(ModelError):
            next(answers)
    else:
        next(answers)
        answers.close() if outcome == "stopped early" else list(answers)
    assert opened.is_closed


@pytest.mark.parametrize("workers", [1, 3])
def test_a_slow_consumer_holds_the_work_up(monkeypatch, workers):
    begun, taken, ahead, segment = [], [], [], stages.segment_block
    lock = threading.Lock()

    def watch(work, block):
        with lock:
            begun.append(block)
            ahead.append(len(begun) - len(taken))
        return segment(work, block)

    monkeypatch.setattr(stages, "segment_block", watch)
    setting = ForwardSetting(workers=workers)
    for answer in stream(blobs(*SIZE), one_stage(), setting=setting, block_px=480):
        taken.append(answer)
        if len(taken) < 4:
            time.sleep(0.3)
            # all that may be begun has been, and no more
            assert len(begun) - len(taken) <= workers
    assert max(ahead) <= workers + 1
    assert [(block.row, block.col) for block in begun[:workers]] == [(0, col) for col in range(workers)]
    assert len(begun) == len(taken) == 9


def test_an_error_in_a_block_reaches_the_consumer_and_ends_the_work(scratch):
    def nan_at_seven(images, prior):
        return torch.where(images[:, :1] == 7, torch.nan, images)

    pixels = np.ones((3, *SIZE), np.float32)
    pixels[:, 700, 600] = 7
    answers = stream(ArrayScene(pixels), one_stage(FakeSegmenter(nan_at_seven)), setting=TWO_WORKERS)
    with pytest.raises(
        ModelError, match=r"NaN for 1 pixels of the 480 x 480 at row 480, column 480 \(level 0"
    ):
        list(answers)
    assert hiresseg_threads() == []
    assert list(scratch.iterdir()) == []


def test_a_store_that_fails_between_stages_ends_the_work(monkeypatch, scratch):
    def refuse(*args):
        raise StoreError("disk full")

    monkeypatch.setattr(RunStore, "finish_block", refuse)
    model = make_model(convolution(3, 3), convolution(3, 3), stages=TWO, num_logits=3)
    with pytest.raises(StoreError, match="disk full"):
        next(stream(blobs(*SIZE), model, setting=TWO_WORKERS))
    assert hiresseg_threads() == []
    assert list(scratch.iterdir()) == []


def test_a_cascade_is_its_two_stages_one_after_the_other():
    scene = blobs(*SIZE, seed=4)
    coarse, fine = convolution(3, 3, seed=1), convolution(3, 3, seed=2, kernel_px=3, prior_gain=3.0)
    model = make_model(coarse, fine, stages=TWO, num_logits=3, refine_above=0.95)
    painted, count = paint(stream(scene, model, setting=TWO_WORKERS))
    assert (count == 1).all()

    # the first alone, as a scene of its own; what it leaves is a byte per class
    alone = make_model(convolution(3, 3, seed=1), stages=TWO[:1], num_logits=3)
    bytes_left = np.floor(255 * segment_whole(scene, alone) + 0.5).astype(np.uint8)
    wide = torch.nn.functional.interpolate(
        torch.from_numpy(bytes_left).double()[None], scale_factor=4, mode="bilinear"
    )
    prior = wide[0, :, : SIZE[0], : SIZE[1]].numpy() / 255
    grid = TileGrid(256, 16, *SIZE)

    def read(window):
        rows, cols = window.slices_in(Window(0, 0, 250, 275))
        return bytes_left[:, rows, cols]

    selected = select_tiles(read, (250, 275), grid, 4, 0.95)
    expected = segment_whole(scene, model, 1, prior=prior, selected=selected)
    clear = np.diff(np.sort(expected, axis=0)[-2:], axis=0)[0] > 0.01
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(painted[clear], decide(expected, "softmax")[clear])


def test_where_everything_is_selected_a_network_that_ignores_the_prior_decides_alone():
    scene = blobs(*SIZE)
    model = make_model(
        convolution(3, 3, seed=8), convolution(3, 3), stages=TWO, num_logits=3, refine_above=0.0
    )
    np.testing.assert_array_equal(
        paint(stream(scene, model, setting=TWO_WORKERS))[0],
        paint(stream(scene, one_stage(), setting=TWO_WORKERS))[0],
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_where_nothing_is_selected_the_fine_network_is_not_asked(activation):
    valid = np.ones(SIZE, bool)
    valid[300:600, 200:900] = False
    scene = blobs(*SIZE, valid=valid)
    fine = constant(9.0, -9.0)
    coarse = constant(-3.0, 3.0)
    model = make_model(coarse, fine, stages=TWO, num_logits=2, activation=activation, refine_above=1.0)
    # the coarse answer has a boundary only beside what is not valid
    answers = list(stream(scene, model, confidence=True, setting=TWO_WORKERS))
    labels, _ = paint(answers)
    unselected = sum(answer.tiles.unselected for answer in answers)
    grid = TileGrid(256, 16, *SIZE)
    assert fine.num_forwards == grid.rows * grid.cols - unselected - sum(a.tiles.empty for a in answers)
    assert unselected > 0
    sure = 1 / (1 + math.exp(-6)) if activation == "softmax" else 1 / (1 + math.exp(-3))
    kept = answers[0].confidence[:200, :180]
    assert (answers[0].labels[:200, :180] == (1 if activation == "softmax" else 2)).all()
    np.testing.assert_allclose(kept / 254, sure, atol=1 / 254)
    np.testing.assert_array_equal(labels == 255, ~valid)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_coarse_answer_is_as_sure_beside_a_hole_as_elsewhere(activation):
    valid = np.ones(SIZE, bool)
    valid[300:601, 203:899] = False
    logits = constant(2.0, -1.0)
    model = make_model(logits, logits, stages=TWO, num_logits=2, activation=activation, refine_above=1.0)
    for answer in stream(blobs(*SIZE, valid=valid), model, confidence=True, setting=TWO_WORKERS):
        has_data = valid[answer.window.slices_in(Window(0, 0, *SIZE))]
        assert len(np.unique(answer.labels[has_data])) <= 1
        # the stored answer has steps of 1/255, and where it is refined it has none
        assert np.ptp(answer.confidence[has_data].astype(int)) <= 1 if has_data.any() else True


def test_a_caller_keeps_the_threads_of_torch():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        answers = stream(blobs(*SIZE), one_stage(), setting=ForwardSetting(threads=1))
        next(answers)
        answers.close()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_every_stage_sees_its_level_and_the_later_ones_a_prior():
    coarse, fine = convolution(3, 3), convolution(3, 3)
    model = make_model(coarse, fine, stages=TWO, num_logits=3, refine_above=0.0)
    list(stream(blobs(*SIZE), model, setting=TWO_WORKERS))
    assert {tuple(images.shape) for images in coarse.images} == {(1, 3, 64, 64)}
    assert set(coarse.priors) == {None}
    assert {tuple(images.shape) for images in fine.images} == {(1, 3, 256, 256)}
    assert {tuple(prior.shape) for prior in fine.priors} == {(1, 3, 256, 256)}
    for prior in fine.priors:
        assert prior.min() >= 0
        np.testing.assert_allclose(prior.sum(dim=1), 1, atol=0.01)


def test_a_scene_of_other_bands_or_samples_is_refused():
    model = one_stage()
    with pytest.raises(ModelError, match=r"array: has 2 bands, and fake reads 3 .*--bands 1,2,3"):
        next(stream(ArrayScene(np.ones((2, 9, 9), np.uint8)), model))
    odd = ArrayScene(np.ones((3, 9, 9), np.uint32))
    with pytest.raises(ModelError, match=r"holds uint32, .*--normalize scene"):
        next(stream(odd, model))
    assert next(stream(odd, model, normalize="scene")).labels.shape == (9, 9)


def test_the_scene_can_bring_its_own_normalisation():
    scene = blobs(200, 200)
    scene._pixels[2] = 5
    model = one_stage()
    assert normalisation(scene, model.spec, from_scene=False) == ((0, 0, 0), (1, 1, 1))
    mean, std = normalisation(scene, model.spec, from_scene=True)
    assert mean == pytest.approx(scene._pixels.mean(axis=(1, 2), dtype=float))
    assert std[:2] == pytest.approx(scene._pixels[:2].std(axis=(1, 2), dtype=float))
    # a band of one value carries nothing, and must not become noise
    assert std[2] == 1
    network = convolution(3, 3)
    list(stream(scene, one_stage(network), normalize="scene", setting=ForwardSetting()))
    shown = network.images[0][0, :, :200, :200]
    np.testing.assert_allclose(shown[:2].mean(dim=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(shown[2], 0, atol=1e-5)


def test_a_model_brings_its_own_normalisation():
    network = convolution(3, 3)
    model = one_stage(network)
    model = replace(model, spec=replace(model.spec, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0)))
    pixels = np.random.default_rng(0).integers(0, 255, (3, 100, 100), np.uint8)
    list(stream(ArrayScene(pixels), model, setting=ForwardSetting()))
    expected = (pixels - np.array([1, 2, 3])[:, None, None]) / np.array([2, 4, 8])[:, None, None]
    np.testing.assert_allclose(network.images[0][0, :, :100, :100], expected, atol=1e-5)
    # beyond the scene there is nothing, not the colour whose value is 0
    assert not network.images[0][0, :, 100:].any()


def test_a_path_and_a_name_are_enough(make_raster):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 300, 200), np.uint8)
    path = make_raster(pixels, photometric="rgb")
    answers = list(hiresseg.stream(str(path), one_stage()))
    assert [answer.window for answer in answers] == [Window(0, 0, 300, 200)]
    same = list(hiresseg.stream(ArrayScene(pixels), one_stage()))
    np.testing.assert_array_equal(answers[0].labels, same[0].labels)
