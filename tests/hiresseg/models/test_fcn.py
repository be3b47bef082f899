from __future__ import annotations

import pytest
import torch

from hiresseg.models import NetworkConfig
from hiresseg.models.fcn import FCN
from hiresseg.models.networks import build_network


@pytest.mark.parametrize("classes", [2, 5])
def test_it_gives_a_logit_per_class_and_pixel(classes):
    network = build_network(
        NetworkConfig("hiresseg", "FCN", {"in_channels": 4, "classes": classes, "widths": [4, 6, 8]})
    )
    assert network(torch.zeros(2, 4, 48, 64)).shape == (2, classes, 48, 64)


def test_a_pixel_depends_on_its_surroundings_alone_and_not_on_where_the_tile_was_cut():
    torch.manual_seed(0)
    network = FCN(3, 2, widths=(4, 6, 8)).eval()
    image = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        whole, part = network(image), network(image[..., 64:192, 64:192])
    # multiples of the stride of 8, and further inside than the network looks
    torch.testing.assert_close(part[..., 48:-48, 48:-48], whole[..., 112:-112, 112:-112])
    assert (part[..., 0, 0] - whole[..., 64, 64]).abs().max() > 1e-4


def test_it_begins_without_a_checkerboard():
    network = FCN(1, 1, widths=(4,))
    head = network.head
    with torch.no_grad():
        flat = head(torch.ones(1, 4, 8, 8))[..., 2:-2, 2:-2]
    torch.testing.assert_close(flat, torch.full_like(flat, flat.mean().item()))


def test_it_learns_what_a_pixel_is(tmp_path):
    torch.manual_seed(0)
    network = FCN(1, 2, widths=(4, 8), dropout=0.0)
    images = torch.randn(4, 1, 32, 32).repeat_interleave(4, 2)[:, :, :32].repeat_interleave(4, 3)[..., :32]
    labels = (images[:, 0] > 0).long()
    optimizer = torch.optim.AdamW(network.parameters(), 0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 < losses[0]
