"""How a network is run: shapes, layouts, precision, and what calibration does with threads."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch

from hiresseg.errors import ModelError
from hiresseg.forward import (
    ForwardSetting,
    available_cpus,
    calibrate,
    empty_tiles,
    keep_freed_memory,
    measure_tile_seconds,
    place_model,
    run_segmenter,
)
from hiresseg.models import StageSpec
from hiresseg.testing import FakeSegmenter, constant, convolution, make_model

STAGES = (StageSpec(1, 32, 16), StageSpec(0, 32, 16))


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def two_stages(*segmenters):
    return make_model(*segmenters, stages=STAGES, num_logits=2)


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_batch_has_the_layout_of_the_setting(channels_last):
    tiles = empty_tiles(ForwardSetting(batch=3, channels_last=channels_last), 5, 32)
    assert tiles.shape == (3, 5, 32, 32)
    assert not tiles.any()
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    assert tiles.is_contiguous(memory_format=wanted)


def test_networks_are_placed_in_the_layout_of_the_setting():
    network = torch.nn.Conv2d(3, 8, 3)
    model = make_model(network, stages=STAGES[1:], num_logits=8)
    place_model(model, ForwardSetting(threads=2))
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.get_num_threads() == 2
    place_model(model, ForwardSetting(channels_last=False))
    assert network.weight.is_contiguous()
    assert torch.get_num_threads() == 1


def test_a_forward_keeps_no_gradient():
    weight = torch.ones(1, requires_grad=True)
    network = FakeSegmenter(lambda images, prior: images * weight)
    logits = run_segmenter(network, torch.ones(1, 2, 16, 16), None, ForwardSetting(), 2)
    assert not logits.requires_grad


def test_half_precision_reaches_the_network():
    network = torch.nn.Conv2d(2, 2, 1)
    images = torch.ones(1, 2, 16, 16)
    logits = run_segmenter(
        FakeSegmenter(lambda images, _: network(images)), images, None, ForwardSetting(precision="bf16"), 2
    )
    assert logits.dtype == torch.bfloat16


@pytest.mark.parametrize("answer", [None, "list", torch.zeros(2, 3, 16, 16), torch.zeros(1, 3, 16, 15)])
def test_an_answer_of_another_shape_is_refused(answer):
    with pytest.raises(ModelError, match=r"\(1, 2, 16, 16\) with .* instead of \(1, 3, 16, 16\)"):
        run_segmenter(lambda images, prior: answer, torch.ones(1, 2, 16, 16), None, ForwardSetting(), 3)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_an_answer_that_is_no_logits_is_refused(dtype):
    with pytest.raises(ModelError, match=f"answered with {dtype} instead of logits"):
        run_segmenter(
            lambda images, prior: images.to(dtype), torch.ones(1, 3, 16, 16), None, ForwardSetting(), 3
        )


def test_an_answer_in_double_precision_is_taken():
    images = torch.rand(1, 3, 16, 16)
    logits = run_segmenter(lambda images, prior: images.double(), images, None, ForwardSetting(), 3)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, images)


def test_calibration_measures_every_stage_and_shows_priors_to_the_later_ones():
    coarse, fine = constant(0.0, 1.0), constant(1.0, 0.0)
    wanted = ForwardSetting(workers=2, batch=3)
    result = calibrate(two_stages(coarse, fine), wanted, "nothing")
    assert result.setting == wanted
    assert len(result.tile_seconds) == 2
    assert all(seconds > 0 for seconds in result.tile_seconds)
    assert [name for name, _ in result.tried] == [wanted.describe()]
    assert {tuple(images.shape) for images in fine.images} == {(3, 3, 32, 32)}
    assert set(coarse.priors) == {None}
    assert all(prior.shape == (3, 2, 32, 32) and prior.max() <= 1 for prior in fine.priors)
    assert json.loads(json.dumps(result.as_record()))["setting"]["workers"] == 2


def test_seconds_per_tile_are_of_all_workers_and_the_whole_batch():
    def slow(images, prior):
        time.sleep(0.03)
        return torch.zeros(len(images), 2, 32, 32)

    model = make_model(FakeSegmenter(slow), stages=STAGES[1:], num_logits=2)
    alone = measure_tile_seconds(model, ForwardSetting(), 0)
    together = measure_tile_seconds(model, ForwardSetting(workers=3, batch=2), 0)
    # sleeping takes no processor: six tiles in the time of one
    assert alone >= 0.03
    assert 0.03 / 6 <= together < alone / 2


def test_the_faster_setting_wins_when_it_wins_clearly():
    def answer(images, prior):
        time.sleep(0.05 if images.is_contiguous(memory_format=torch.channels_last) else 0.001)
        return torch.zeros(len(images), 2, 32, 32)

    model = make_model(FakeSegmenter(answer), stages=STAGES[1:], num_logits=2)
    assert not calibrate(model, ForwardSetting(), "all").setting.channels_last


def test_noise_does_not_decide():
    def answer(images, prior):
        time.sleep(0.03 if images.is_contiguous(memory_format=torch.channels_last) else 0.029)
        return torch.zeros(len(images), 2, 32, 32)

    model = make_model(FakeSegmenter(answer), stages=STAGES[1:], num_logits=2)
    result = calibrate(model, ForwardSetting(), "layout")
    assert result.setting.channels_last
    assert len(result.tried) == 2


@pytest.mark.parametrize(("seconds", "workers"), [(0.001, 2), (0.06, 1)])
def test_workers_are_given_up_only_for_long_forwards(seconds, workers):
    def answer(images, prior):
        # as if two threads inside a forward were much better than two forwards
        time.sleep(seconds / (8 if torch.get_num_threads() == 2 else 1))
        return torch.zeros(len(images), 2, 32, 32)

    model = make_model(FakeSegmenter(answer), stages=STAGES[1:], num_logits=2)
    before = torch.get_num_threads()
    try:
        setting = calibrate(model, ForwardSetting(workers=2), "all").setting
    finally:
        torch.set_num_threads(before)
    assert (setting.workers, setting.threads) == (workers, 3 - workers)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_network_that_fails_ends_calibration_with_its_own_error(workers):
    model = make_model(constant(0.0), stages=STAGES[1:], num_logits=2)
    threads = threading.active_count()
    with pytest.raises(ModelError, match="instead of"):
        calibrate(model, ForwardSetting(workers=workers), "nothing")
    assert threading.active_count() == threads


def test_a_setting_says_what_it_is():
    assert ForwardSetting(workers=2, threads=3, batch=4).describe() == (
        "cpu, fp32, 2 x 3 threads, batch 4, channels last"
    )
    assert available_cpus() >= 1


def test_memory_is_kept_without_a_word():
    keep_freed_memory()


def test_a_fake_obeys_its_own_contract():
    network = convolution(3, 2)
    images = torch.ones(2, 3, 8, 8)
    assert torch.equal(network(images, None), network(images, None))
    assert network.num_forwards == 2
