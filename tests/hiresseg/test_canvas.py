"""One stage against its definition: no way of cutting, ordering or sharing the work changes a byte."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hiresseg.errors import ModelError
from hiresseg.forward import ForwardSetting
from hiresseg.models import StageSpec
from hiresseg.testing import (
    ArrayScene,
    FakeSegmenter,
    constant,
    convolution,
    decide,
    make_model,
    segment_whole,
)

TILE, OVERLAP = 32, 16
SMALL = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TWO_WORKERS = ForwardSetting(workers=2)


def noise(height, width, bands=3, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (bands, height, width)).astype(np.float32)


def patchy(height, width, seed=0):
    """Which pixels are valid: large patches that are not, whole tiles among them, and single ones."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((-(-height // 40), -(-width // 40))) < 0.6
    valid = np.kron(coarse, np.ones((40, 40), bool))[:height, :width]
    return valid & (generator.random((height, width)) < 0.97)


def one_stage(overlap=OVERLAP, trim=0, stride=16):
    return (StageSpec(0, stride + overlap, overlap, trim),)


def upsample(coarse, factor, size):
    """Bilinear, half-pixel, over the whole array at once."""
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(coarse.astype(np.float64))[None],
        scale_factor=factor,
        mode="bilinear",
        align_corners=False,
    )
    return whole[0, :, : size[0], : size[1]].numpy() / 255


def check_against(painted, expected, valid, activation):
    """Labels equal but for ties, the rest within the rounding of a byte."""
    if valid is None:
        valid = np.ones(expected.shape[1:], bool)
    assert (painted.labels[~valid] == 255).all()
    assert (painted.confidence[~valid] == 255).all()
    assert not painted.probabilities[:, ~valid].any()
    assert not np.isnan(expected[:, valid]).any()
    ordered = np.sort(expected, axis=0)
    if activation == "softmax":
        margin = ordered[-1] - ordered[-2]
        sure = ordered[-1]
    else:
        margin = np.abs(ordered[-1] - 0.5)
        if len(ordered) > 1:
            margin = np.minimum(margin, np.where(ordered[-1] < 0.5, 1, ordered[-1] - ordered[-2]))
        sure = np.maximum(ordered[-1], 1 - ordered[-1])
    decided = valid & (margin > 1e-5)
    assert decided.sum() >= 0.98 * valid.sum()
    np.testing.assert_array_equal(painted.labels[decided], decide(expected, activation)[decided])
    np.testing.assert_allclose(painted.confidence[decided] / 254, sure[decided], atol=0.5 / 254 + 1e-5)
    kept = expected[:, valid]
    np.testing.assert_allclose(painted.probabilities[:, valid] / 255, kept, atol=0.5 / 255 + 1e-5)


@st.composite
def cases(draw):
    stride = draw(st.sampled_from([16, 32]))
    overlap = draw(st.sampled_from([0, 5, 16, stride]))
    overlap = min(overlap, stride)
    sizes = [
        max(1, draw(st.integers(0, 4)) * stride + draw(st.sampled_from([-1, 0, 1, overlap, overlap + 1])))
        for _ in range(2)
    ]
    return {
        "stage": StageSpec(0, stride + overlap, overlap, draw(st.integers(0, overlap // 2))),
        "size": tuple(sizes),
        "has_gaps": draw(st.booleans()),
        "has_prior": draw(st.booleans()),
        "is_selective": draw(st.booleans()),
        "activation": draw(st.sampled_from(["softmax", "sigmoid"])),
        "num_logits": draw(st.integers(1, 4)),
        "step": draw(st.integers(1, 4)),
        "batch": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 99)),
    }


CORNER = {
    "stage": StageSpec(0, 32, 16, 3), "size": (49, 81), "has_gaps": True, "has_prior": True,
    "is_selective": True, "activation": "softmax", "num_logits": 3, "step": 2, "batch": 2, "seed": 1,
}  # fmt: skip


@settings(SMALL, max_examples=16)
@given(case=cases())
@example(case=CORNER)
@example(case={**CORNER, "size": (1, 1), "has_prior": False, "is_selective": False, "has_gaps": False})
@example(case={**CORNER, "size": (1, 70), "activation": "sigmoid", "num_logits": 1, "has_gaps": False})
@example(case={**CORNER, "size": (70, 70), "has_prior": False, "is_selective": False, "step": 1})
def test_a_stage_is_what_its_definition_says(case, bench, make_prior, tmp_path):
    height, width = case["size"]
    activation, num_logits = case["activation"], case["num_logits"]
    num_logits += activation == "softmax" and num_logits == 1
    generator = np.random.default_rng(case["seed"])
    valid = patchy(height, width, case["seed"]) if case["has_gaps"] else None
    scene = ArrayScene(noise(height, width, seed=case["seed"]), valid)
    network = convolution(3, num_logits, kernel_px=5, seed=case["seed"], prior_gain=1.5)
    model = make_model(network, stages=(case["stage"],), num_logits=num_logits, activation=activation)
    work = bench(scene, model, tmp_path)
    prior, wide, selected = None, None, None
    if case["has_prior"]:
        coarse = generator.integers(0, 256, (num_logits, -(-height // 4), -(-width // 4)), np.uint8)
        prior = make_prior(coarse, 4)
        wide = upsample(coarse, 4, (height, width))
        selected = generator.random((work.grid.rows, work.grid.cols)) < 0.5 if case["is_selective"] else None
    work = replace(work, prior=prior, selected=selected)

    expected = segment_whole(scene, model, prior=wide, selected=selected)
    looked_at = network.num_forwards
    painted = work.run(work.cut(case["step"]), ForwardSetting(batch=case["batch"]))

    check_against(painted, expected, valid, activation)
    assert painted.tiles.again == 0
    assert painted.tiles.run == looked_at
    counted = painted.tiles.run + painted.tiles.empty + painted.tiles.unselected
    assert counted == work.grid.rows * work.grid.cols
    if selected is not None:
        assert painted.tiles.unselected == (~selected).sum()


@pytest.fixture(scope="module")
def patchwork(bench, make_prior, tmp_path_factory):
    """A scene with gaps, a prior and a selection: all that can differ from block to block."""
    size = 100, 118
    scene = ArrayScene(noise(*size), patchy(*size))
    network = convolution(3, 3, kernel_px=5, prior_gain=1.0)
    model = make_model(network, stages=one_stage(trim=3), num_logits=3)
    coarse = np.random.default_rng(5).integers(0, 256, (3, 50, 59), np.uint8)
    work = bench(scene, model, tmp_path_factory.mktemp("scratch"), prior=make_prior(coarse, 2))
    selected = np.random.default_rng(6).random((work.grid.rows, work.grid.cols)) < 0.6
    return replace(work, selected=selected)


@pytest.fixture(scope="module")
def whole(patchwork):
    """Its answer in one block."""
    painted = patchwork.run()
    assert 10 < painted.tiles.run < painted.tiles.run + painted.tiles.empty < 42
    assert len(np.unique(painted.labels)) == 4
    return painted


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_blocks_and_workers_do_not_change_a_byte_nor_a_forward(patchwork, whole, step, workers):
    painted = patchwork.run(patchwork.cut(step), ForwardSetting(workers=workers))
    assert painted.same_bytes(whole)
    assert (painted.tiles.run, painted.tiles.again) == (whole.tiles.run, 0)


@SMALL
@given(st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 3))
def test_the_order_of_blocks_does_not_change_a_byte(patchwork, whole, random, step, workers):
    blocks = patchwork.cut(step)
    random.shuffle(blocks)
    assert patchwork.run(blocks, ForwardSetting(workers=workers)).same_bytes(whole)


@SMALL
@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_a_run_in_two_processes_does_not_change_a_byte(patchwork, whole, random, step):
    blocks = patchwork.cut(step)
    done = random.sample(range(len(blocks)), random.randint(0, len(blocks)))
    half = patchwork.run([block for n, block in enumerate(blocks) if n in done])
    rest = patchwork.run([block for n, block in enumerate(blocks) if n not in done], into=half)
    assert rest.same_bytes(whole)
    assert rest.tiles.run - rest.tiles.again == whole.tiles.run


def test_strips_on_disk_do_not_change_a_byte(patchwork, whole):
    spilled = replace(patchwork, borders_bytes=0).run(patchwork.cut(1), TWO_WORKERS)
    assert spilled.same_bytes(whole)
    assert spilled.tiles.again == 0


@pytest.mark.parametrize("num_logits", [1, 3])
def test_where_nothing_is_selected_the_upsampled_prior_stands(bench, make_prior, tmp_path, num_logits):
    size = 117, 145
    activation = "sigmoid" if num_logits == 1 else "softmax"
    coarse = np.random.default_rng(7).integers(0, 256, (num_logits, 30, 37), np.uint8)
    network = constant(*[5.0] * num_logits)
    model = make_model(network, stages=one_stage(), num_logits=num_logits, activation=activation)
    work = bench(ArrayScene(np.ones((3, *size), np.uint8)), model, tmp_path, prior=make_prior(coarse, 4))
    painted = replace(work, selected=np.zeros((work.grid.rows, work.grid.cols), bool)).run(work.cut(2))
    assert network.num_forwards == 0
    assert painted.tiles.unselected == work.grid.rows * work.grid.cols
    wide = upsample(coarse, 4, size)
    np.testing.assert_array_equal(painted.labels, decide(wide.astype(np.float32), activation))
    np.testing.assert_allclose(painted.probabilities, 255 * wide, atol=0.5 + 1e-4)


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_the_batch_does_not_change_a_byte(patchwork, whole, batch):
    setting = ForwardSetting(batch=batch)
    assert patchwork.run(patchwork.cut(3), setting).same_bytes(whole)


def test_every_forward_has_the_same_shape(patchwork):
    network = patchwork.model.segmenters[0]
    before = network.num_forwards
    patchwork.run(patchwork.cut(2), ForwardSetting(batch=3))
    assert {tuple(images.shape) for images in network.images[before:]} == {(3, 3, 32, 32)}
    assert {tuple(prior.shape) for prior in network.priors[before:]} == {(3, 3, 32, 32)}


@pytest.mark.parametrize("workers", [1, 2])
def test_each_tile_is_seen_once_and_in_its_place(bench, tmp_path, workers):
    rows, cols = np.indices((130, 150), np.float32)
    # every pixel says where it is; 0 is left for what lies outside
    scene = ArrayScene(np.stack([rows, cols]) + 1)
    network = constant(0.0, 1.0)
    model = make_model(network, stages=one_stage(), num_logits=2, num_bands=2)
    work = bench(scene, model, tmp_path)
    painted = work.run(work.cut(2), ForwardSetting(workers=workers))
    grid = work.grid
    seen = Counter((int(images[0, 0, 0, 0]) - 1, int(images[0, 1, 0, 0]) - 1) for images in network.images)
    places = [(row, col) for row in range(grid.rows) for col in range(grid.cols)]
    assert seen == Counter((row * grid.stride_px, col * grid.stride_px) for row, col in places)
    assert painted.tiles.run == len(network.images) == grid.rows * grid.cols
    for images in network.images:
        top, left = (int(edge) - 1 for edge in images[0, :, 0, 0])
        shown = np.zeros((2, 32, 32), np.float32)
        part = np.stack([rows, cols])[:, top : top + 32, left : left + 32] + 1
        shown[:, : part.shape[1], : part.shape[2]] = part
        np.testing.assert_array_equal(images[0].numpy(), shown)


def lattice_sizes():
    stride, tile = 16, 32
    around = sorted({n + d for n in (OVERLAP, tile, 2 * stride + OVERLAP, 3 * stride) for d in (-1, 0, 1)})
    return [(1, 1), (1, 100), *((around[n], around[-1 - n]) for n in range(len(around)))]


@pytest.mark.parametrize("size", lattice_sizes(), ids=str)
@pytest.mark.parametrize(
    ("activation", "logits", "label", "sure"),
    [
        ("softmax", (0.3, -1.2, 2.0), 2, np.exp(2.0) / np.exp([0.3, -1.2, 2.0]).sum()),
        ("sigmoid", (-3.0, 0.7), 2, 1 / (1 + np.exp(-0.7))),
        ("sigmoid", (-3.0, -0.7), 0, 1 - 1 / (1 + np.exp(0.7))),
    ],
)
def test_a_constant_comes_out_as_it_went_in(bench, tmp_path, size, activation, logits, label, sure):
    network = constant(*logits)
    model = make_model(network, stages=one_stage(trim=5), num_logits=len(logits), activation=activation)
    work = bench(ArrayScene(np.ones((3, *size), np.uint8)), model, tmp_path)
    painted = work.run(work.cut(2))
    assert (painted.labels == label).all()
    assert (painted.confidence == np.floor(254 * sure + 0.5)).all()
    probabilities = torch.tensor(logits).double()
    chances = probabilities.softmax(0) if activation == "softmax" else probabilities.sigmoid()
    expected = np.floor(255 * chances.numpy() + 0.5)
    assert (painted.probabilities == expected[:, None, None]).all()
    assert network.num_forwards == work.grid.rows * work.grid.cols


def test_what_has_no_data_is_never_shown_nor_answered(bench, tmp_path):
    size = 130, 150
    valid = patchy(*size)
    pixels = noise(*size)
    network = convolution(3, 2, kernel_px=3)
    model = make_model(network, stages=one_stage(), num_logits=2)
    model = replace(model, spec=replace(model.spec, mean=(7.0, 8.0, 9.0), std=(2.0, 3.0, 4.0)))
    clean = bench(ArrayScene(pixels, valid), model, tmp_path).run()
    shown = network.images.copy()
    # whatever lies under the mask
    scene = ArrayScene(np.where(valid, pixels, 1e30).astype(np.float32), valid)
    scene._pixels = np.where(valid, pixels, 1e30).astype(np.float32)
    dirty = bench(scene, model, tmp_path).run()
    assert dirty.same_bytes(clean)
    assert all(torch.equal(*pair) for pair in zip(shown, network.images[len(shown) :], strict=True))
    np.testing.assert_array_equal(clean.labels == 255, ~valid)
    np.testing.assert_array_equal(clean.confidence == 255, ~valid)
    # 0 is what the network sees there, not the normalised 0
    assert max(float(images.abs().max()) for images in shown) < 20
    assert any((images == 0).all(dim=1).any() for images in shown)


def test_a_tile_without_a_valid_pixel_is_not_run(bench, tmp_path):
    valid = np.zeros((130, 150), bool)
    valid[100, 40] = True
    network = constant(0.0, 1.0)
    work = bench(
        ArrayScene(np.ones((3, 130, 150), np.uint8), valid),
        make_model(network, stages=one_stage(), num_logits=2),
        tmp_path,
    )
    painted = work.run(work.cut(2))
    # row 100 lies in tile rows 5 and 6, column 40 in tile columns 1 and 2
    assert network.num_forwards == 4 == painted.tiles.run
    assert painted.tiles.empty == work.grid.rows * work.grid.cols - 4
    assert painted.labels[100, 40] == 1
    assert (painted.labels != 255).sum() == 1


def test_a_scene_without_any_valid_pixel_is_answered_without_the_network(bench, tmp_path):
    network = constant(0.0, 1.0)
    scene = ArrayScene(np.ones((3, 50, 60), np.uint8), np.zeros((50, 60), bool))
    painted = bench(scene, make_model(network, stages=one_stage(), num_logits=2), tmp_path).run()
    assert network.num_forwards == 0
    assert (painted.labels == 255).all()


def nan_at(images, prior):
    """NaN where the first band is 7."""
    logits = images[:, :2].clone()
    logits[:, 1][images[:, 0] == 7] = torch.nan
    return logits


def test_nan_is_an_error_with_its_window(bench, tmp_path):
    pixels = np.ones((3, 130, 150), np.float32)
    pixels[0, 70, 90] = 7
    model = make_model(FakeSegmenter(nan_at), stages=one_stage(), num_logits=2)
    work = bench(ArrayScene(pixels), model, tmp_path)
    with pytest.raises(ModelError, match=r"NaN for 1 pixels of the 32 x 32 at row 64, column 64 .*fp32"):
        work.run(work.cut(2))


def test_nan_where_there_are_no_data_is_none(bench, tmp_path):
    pixels, valid = np.ones((3, 130, 150), np.float32), np.ones((130, 150), bool)
    valid[70, 90] = False

    def nan_at_zero(images, prior):
        return torch.where((images[:, :1] == 0) & (images[:, 1:2] == 0), torch.nan, images[:, :2])

    model = make_model(FakeSegmenter(nan_at_zero), stages=one_stage(), num_logits=2)
    painted = bench(ArrayScene(pixels, valid), model, tmp_path).run()
    np.testing.assert_array_equal(painted.labels == 255, ~valid)


@pytest.mark.parametrize(
    ("answer", "shape"),
    [
        (lambda images, prior: images[:, :1], r"\(1, 1, 32, 32\)"),
        (lambda images, prior: images[:, :2, ::2, ::2], r"\(1, 2, 16, 16\)"),
        (lambda images, prior: images[0, :2], r"\(2, 32, 32\)"),
    ],
)
def test_another_shape_is_an_error_with_both(bench, tmp_path, answer, shape):
    model = make_model(FakeSegmenter(answer), stages=one_stage(), num_logits=2)
    work = bench(ArrayScene(np.ones((3, 50, 60), np.uint8)), model, tmp_path)
    with pytest.raises(ModelError, match=rf"{shape} instead of \(1, 2, 32, 32\)"):
        work.run()


def test_a_failing_block_fails_alone_and_wakes_who_waits_for_it(bench, tmp_path):
    pixels = np.ones((3, 130, 150), np.float32)
    pixels[0, 5, 5] = 7
    model = make_model(FakeSegmenter(nan_at), stages=one_stage(), num_logits=2)
    work = bench(ArrayScene(pixels), model, tmp_path)
    with pytest.raises(ModelError, match="row 0, column 0"):
        work.run(work.cut(2), ForwardSetting(workers=3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_may_answer_in_half_precision(patchwork, whole, dtype):
    network = patchwork.model.segmenters[0]
    half = FakeSegmenter(lambda images, prior: network(images, prior).to(dtype))
    work = replace(patchwork, model=replace(patchwork.model, segmenters=(half,)))
    rough = work.run()
    assert work.run(work.cut(1), TWO_WORKERS).same_bytes(rough)
    assert (rough.labels != whole.labels).mean() < 0.05
