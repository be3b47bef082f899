from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from hiresseg.geometry import Window
from hiresseg.models import load_model
from hiresseg.models.cascade import PRIOR_FLOOR, CoarseNet, RefineNet
from hiresseg.training.crops import halve, read_strip
from hiresseg.training.tiles import segment_strip


def lively(network):
    """Eval mode, with batch statistics that are not those of a fresh layer."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
    return network.double().eval().requires_grad_(False)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96)])
def test_logits_have_the_size_of_the_images(height, width):
    images, prior = torch.randn(2, 3, height, width), torch.rand(2, 1, height, width)
    for network in (CoarseNet(), RefineNet()):
        assert network.eval()(images, prior).shape == (2, 1, height, width)


@pytest.mark.parametrize(
    ("network", "halo_px"), [(CoarseNet((4, 6, 8), dropout=0.5), 64), (RefineNet((4, 6)), 64)]
)
def test_inner_pixels_do_not_depend_on_where_the_tile_was_cut(network, halo_px):
    network = lively(network)
    images = torch.randn(1, 3, 192, 208, dtype=torch.float64)
    prior = torch.rand(1, 1, 192, 208, dtype=torch.float64)
    whole = network(images, prior)
    part = network(images[..., 16:176, 32:192], prior[..., 16:176, 32:192])
    inner = slice(halo_px, -halo_px)
    same = whole[..., 16:176, 32:192]
    torch.testing.assert_close(part[..., inner, inner], same[..., inner, inner], rtol=0, atol=1e-12)
    assert (part - same).abs().max() > 1e-3


def test_coarse_net_does_not_read_a_prior():
    network = lively(CoarseNet((4, 6)))
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    prior = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    assert torch.equal(network(images, prior), network(images))


def test_no_prior_is_a_prior_that_knows_nothing():
    network = lively(RefineNet((4, 6)))
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    assert torch.equal(network(images), network(images, torch.full_like(images[:, :1], 0.5)))
    assert not torch.equal(network(images), network(images, torch.full_like(images[:, :1], 0.9)))


def test_refiner_that_corrects_nothing_hands_on_the_prior_pixel_by_pixel():
    network = lively(RefineNet((4, 6)))
    network.head.weight.zero_()
    network.head.bias.copy_(torch.tensor([0.0, 50.0]))
    prior = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    logits = network(torch.randn(1, 3, 32, 32, dtype=torch.float64), prior)
    expected = prior.clamp(PRIOR_FLOOR, 1 - PRIOR_FLOOR)
    torch.testing.assert_close(torch.sigmoid(logits), expected, rtol=0, atol=1e-9)


def test_refiner_is_moved_by_image_and_prior():
    network = RefineNet((4, 6))
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    prior = torch.rand(1, 1, 32, 32, requires_grad=True)
    network(images, prior).sum().backward()
    assert images.grad.abs().sum() > 0
    assert prior.grad.abs().sum() > 0


def test_weights_stay_small_enough_to_ship():
    count = sum(p.numel() for network in (CoarseNet(), RefineNet()) for p in network.state_dict().values())
    assert 2 * count < 8e6


@pytest.fixture(scope="module")
def town(shared_data):
    """A part of the validation strip: the bundle, what it reads, the truth, and the coarse answer."""
    model = load_model("cascade")
    folder = shared_data / "banepa_buildings" / "val"
    image, labels = read_strip(
        str(folder / "images" / "banepa_val.tif"),
        str(folder / "labels" / "banepa_val.tif"),
        Window(0, 0, 768, 1024),
    )
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.spec.mean, model.spec.std))
    coarse_stage = model.spec.stages[0]
    coarse_images = (halve(halve(image)).float() - mean) / std
    coarse = segment_strip(model.segmenters[0], coarse_images, coarse_stage)
    prior = interpolate((coarse * 255).round()[None] / 255, scale_factor=4, mode="bilinear")[0]
    return model, (image.float() - mean) / std, labels == 1, prior


def iou(prob, true):
    found = prob[0] > 0.5
    return ((found & true).sum() / (found | true).sum()).item()


def refine(model, images, prior):
    return segment_strip(model.segmenters[1], images, model.spec.stages[1], prior=prior)


def test_bundled_coarse_network_finds_buildings_it_never_saw(town):
    _, _, true, prior = town
    assert iou(prior, true) > 0.6


def test_bundled_refiner_does_no_harm_to_the_coarse_answer(town):
    model, images, true, prior = town
    assert iou(refine(model, images, prior), true) > iou(prior, true) - 0.01


@pytest.mark.xfail(strict=True, reason="the bundled refiner overrules right priors: 0.926 here; see its card")
def test_bundled_refiner_keeps_a_prior_that_is_the_truth(town):
    model, images, true, _ = town
    assert iou(refine(model, images, true[None] * 0.9 + 0.05), true) > 0.95


def test_bundled_refiner_keeps_most_of_a_prior_that_is_the_truth(town):
    model, images, true, prior = town
    kept = iou(refine(model, images, true[None] * 0.9 + 0.05), true)
    # no promise, but a guard: it must not get worse than it is
    assert kept > 0.9
    assert kept > iou(refine(model, images, prior), true) + 0.1


def test_bundled_refiner_looks_at_the_image(town):
    model, images, true, _ = town
    nothing = torch.full_like(images[:1], 0.5)
    seen = iou(refine(model, images, nothing), true)
    assert seen > iou(refine(model, images.roll(200, dims=2), nothing), true) + 0.2
    assert seen > iou(refine(model, torch.zeros_like(images), nothing), true) + 0.2
