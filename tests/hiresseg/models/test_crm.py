"""The continuous refiner: its factorisation, its geometry, and tiles against the whole."""

from __future__ import annotations

import pytest
import torch

from hiresseg.models.crm import HALO_PX, ContinuousRefiner, PointDecoder, axis_neighbours, keep_sure


def lively(network):
    """Eval mode, in float64, with batch statistics that are not those of a fresh layer."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
    return network.double().eval().requires_grad_(False)


def decode_plainly(decoder, features, scale):
    """As the paper writes it: coordinates from -1 to 1, one network call on the gathered vectors."""
    count, _, h, w = features.shape
    big_h, big_w = h * scale, w * scale
    logits = features.new_zeros(count, 1, big_h, big_w)
    for i in range(big_h):
        for j in range(big_w):
            c = torch.tensor([-1 + (2 * i + 1) / big_h, -1 + (2 * j + 1) / big_w], dtype=features.dtype)
            answers, areas = [], []
            for v_y in (-1, 1):
                for v_x in (-1, 1):
                    moved = c + torch.tensor([v_y / h + 1e-6, v_x / w + 1e-6])
                    cell = ((moved.clamp(-1 + 1e-6, 1 - 1e-6) + 1) / 2 * torch.tensor([h, w])).long()
                    centre = -1 + (2 * cell + 1) / torch.tensor([h, w], dtype=features.dtype)
                    relative = (c - centre) * torch.tensor([h, w])
                    size = torch.tensor([2 / big_h * h, 2 / big_w * w], dtype=features.dtype)
                    vector = torch.cat(
                        [features[:, :, cell[0], cell[1]], torch.cat([relative, size])[None]], 1
                    )
                    answers.append(decoder.rest(decoder.first(vector[:, :, None, None]))[:, 0, 0, 0])
                    areas.append((relative[0] * relative[1]).abs() + 1e-9)
            total = sum(areas)
            opposite = areas[::-1]
            logits[:, 0, i, j] = sum(a * z / total for a, z in zip(opposite, answers, strict=True))
    return logits


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_factorised_decoder_is_the_plain_one(scale):
    torch.manual_seed(0)
    decoder = PointDecoder(6, 8).double().requires_grad_(False)
    features = torch.randn(1, 6, 4, 5, dtype=torch.float64)
    inner = slice(scale, -scale) if scale > 1 else slice(1, -1)
    got, plain = decoder(features, scale), decode_plainly(decoder, features, scale)
    assert got.shape == plain.shape
    torch.testing.assert_close(got[..., inner, inner], plain[..., inner, inner], rtol=0, atol=1e-6)
    assert got.std() > 1e-3


def test_shares_sum_to_one_and_offsets_are_half_pixel():
    (below, below_offset, below_share), (above, above_offset, above_share) = axis_neighbours(
        3, 2, torch.zeros((), dtype=torch.float64)
    )
    assert below.tolist() == [0, 0, 0, 1, 1, 2]
    assert above.tolist() == [0, 1, 1, 2, 2, 2]
    assert torch.equal(below_share + above_share, torch.ones(6, dtype=torch.float64))
    assert below_share.tolist() == [0.25, 0.75, 0.25, 0.75, 0.25, 0.75]
    # pixel 1 lies a quarter of a cell right of cell 0
    assert below_offset[1] == 0.5
    assert above_offset[1] == -1.5


def _tiled(network, image, prior, halo, origin, size=64):
    """The core of one tile, cut with a halo from the image, and where it lies."""
    cut = slice(origin - halo, origin + size + halo)
    answer = network(image[..., cut, cut], prior[..., cut, cut])
    core = slice(halo, halo + size)
    return answer[..., core, core], slice(origin, origin + size)


@pytest.fixture(scope="module")
def whole():
    network = lively(ContinuousRefiner("resnet50"))
    torch.manual_seed(3)
    image = torch.randn(1, 3, 384, 384, dtype=torch.float64)
    prior = torch.rand(1, 1, 384, 384, dtype=torch.float64)
    return network, image, prior, network(image, prior)


def test_a_tile_with_its_halo_is_the_whole_image_bit_for_bit(whole):
    network, image, prior, answer = whole
    tile, place = _tiled(network, image, prior, HALO_PX, 152)
    assert torch.equal(tile, answer[..., place, place])


@pytest.mark.parametrize(("halo", "origin"), [(64, 152), (HALO_PX, 156)])
def test_less_halo_or_an_origin_off_the_grid_is_not(whole, halo, origin):
    network, image, prior, answer = whole
    tile, place = _tiled(network, image, prior, halo, origin)
    assert (tile - answer[..., place, place]).abs().max() > 1e-3 * answer.std()


def test_corners_aligned_would_never_do(whole, monkeypatch):
    network, image, prior, _ = whole
    import hiresseg.models.crm as module

    def aligned(features, size, **_):
        return torch.nn.functional.interpolate(features, size, mode="bilinear", align_corners=True)

    monkeypatch.setattr(module, "interpolate", aligned)
    answer = network(image, prior)
    tile, place = _tiled(network, image, prior, HALO_PX, 152)
    assert (tile - answer[..., place, place]).abs().max() > 1e-2 * answer.std()


def test_classes_are_refined_each_on_its_own():
    network = lively(ContinuousRefiner("resnet18"))
    torch.manual_seed(4)
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    prior = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    together = network(image, prior)
    assert together.shape == (2, 3, 32, 32)
    for index in range(3):
        alone = network(image, prior[:, index : index + 1])
        torch.testing.assert_close(alone[:, 0], together[:, index], rtol=0, atol=1e-12)


def test_no_mask_is_refused():
    with pytest.raises(ValueError, match="given none"):
        ContinuousRefiner("resnet18")(torch.zeros(1, 3, 16, 16), None)


def test_the_gate_keeps_what_is_sure_and_lets_go_what_is_not():
    prior = torch.zeros(1, 1, 16, 16)
    prior[..., 8:] = 1
    prior[..., 2, 2] = 0.5
    logits = torch.full_like(prior, 0.125)
    kept = keep_sure(logits, prior, 1) != 0.125
    assert not kept[0, 0, 12, 7]
    assert not kept[0, 0, 12, 9]
    assert kept[0, 0, 12, 4]
    assert kept[0, 0, 12, 12]
    assert not kept[0, 0, 3, 3]
    assert kept[0, 0, 5, 5]
