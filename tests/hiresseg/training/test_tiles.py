from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.models.spec import StageSpec
from hiresseg.training.tiles import segment_strip

STAGE = StageSpec(level=0, tile_px=32, overlap_px=16, trim_px=4)


def first_band(images, prior):
    return images[:, :1]


@given(height=st.integers(1, 90), width=st.integers(1, 90))
@settings(max_examples=15, deadline=None)
def test_a_network_of_single_pixels_gives_what_it_gives_whole(height, width):
    images = torch.randn(3, height, width, generator=torch.Generator().manual_seed(height))
    prob = segment_strip(first_band, images, STAGE)
    torch.testing.assert_close(prob, torch.sigmoid(images[:1]), rtol=0, atol=1e-6)


def test_where_no_tile_is_selected_the_prior_stays():
    images, prior = torch.randn(3, 64, 64), torch.rand(1, 64, 64)
    selected = np.zeros((3, 3), bool)
    assert torch.equal(segment_strip(first_band, images, STAGE, prior=prior, selected=selected), prior)
    selected[1, 1] = True
    out = segment_strip(first_band, images, STAGE, prior=prior, selected=selected)
    changed = out != prior
    # trimmed by 4 of 32 on each side that has a neighbour
    assert changed[0, 20:44, 20:44].all()
    changed[0, 20:44, 20:44] = False
    assert not changed.any()


def test_tiles_see_the_prior_beneath_them():
    prior = torch.rand(1, 50, 70)
    seen = segment_strip(lambda _, prior: torch.logit(prior), torch.randn(3, 50, 70), STAGE, prior=prior)
    torch.testing.assert_close(seen, prior, rtol=0, atol=1e-5)


def test_a_selection_without_a_prior_is_refused():
    with pytest.raises(ValueError, match="needs a prior"):
        segment_strip(first_band, torch.randn(3, 64, 64), STAGE, selected=np.ones((3, 3), bool))
