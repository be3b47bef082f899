from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from hiresseg.testing import ArrayScene
from hiresseg.training.cells import count_cells, find_values
from hiresseg.training.classes import LabelClass, index_table
from hiresseg.training.pairs import Pair
from hiresseg.training.samples import Sampler
from hiresseg.training.views import ViewRule, change_views, draw_views

CLASSES = tuple(LabelClass(value, str(value), (0, 0, 0)) for value in (0, 5, 9))
TABLE = index_table(CLASSES)


def pair_of(labels, *, bands=3, dtype=np.uint8, valid=None):
    """Every pixel of the image is ten times its label, plus one."""
    pixels = np.repeat((labels[None] % 20 * 10 + 1).astype(dtype), bands, 0)
    return Pair("toy", ArrayScene(pixels, valid), ArrayScene(labels[None]))


def sampler_of(pairs, balance=0.5):
    return Sampler(pairs, [count_cells(p.labels, TABLE, 3)[0] for p in pairs], TABLE, balance)


def labels_with_a_rare_class(height=700, width=900):
    labels = np.zeros((height, width), np.uint8)
    labels[:, :100] = 255
    labels[650:660, 700:710] = 9
    return labels


def test_cells_count_what_lies_in_them_and_name_what_no_class_is():
    labels = labels_with_a_rare_class()
    labels[0, 0] = 77
    cells, strange = count_cells(ArrayScene(labels[None]), TABLE, 3)
    assert strange == {77: 1}
    assert cells.pixels.tolist() == [700 * 800 - 100, 0, 100]
    assert cells.counts[0, 0].tolist() == [28 * 128, 0, 0]
    assert cells.counts.shape == (6, 8, 3)
    assert find_values(ArrayScene(labels[None])) == {0: 700 * 800 - 100, 9: 100, 77: 1, 255: 70000 - 1}


def test_cells_grow_before_their_counts_do(monkeypatch):
    monkeypatch.setattr("hiresseg.training.cells._MAX_COUNTS", 100)
    cells, _ = count_cells(ArrayScene(labels_with_a_rare_class()[None]), TABLE, 3)
    assert cells.edge_px == 256
    assert cells.pixels.tolist() == [700 * 800 - 100, 0, 100]


def test_rare_classes_are_seen_as_often_as_asked():
    pairs = [pair_of(np.zeros((300, 200), np.uint8)), pair_of(labels_with_a_rare_class())]
    for balance, low, high in ((0.0, 0.0, 0.1), (1.0, 0.3, 0.7)):
        sampler, rng = sampler_of(pairs, balance), default_rng(0)
        seen = [(sampler.draw(128, 1, rng).labels == 2).any().item() for _ in range(60)]
        assert low <= np.mean(seen) <= high


def test_no_crop_falls_where_nothing_is_labelled():
    sampler, rng = sampler_of([pair_of(labels_with_a_rare_class())]), default_rng(1)
    for _ in range(40):
        assert (sampler.draw(64, 1, rng).labels != 255).any()


def test_images_and_labels_belong_together_and_outside_is_unknown():
    rng = default_rng(2)
    labels = rng.choice(np.array([0, 5, 9], np.uint8), (90, 70))
    valid = rng.random((90, 70)) < 0.8
    samples = sampler_of([pair_of(labels, valid=valid)]).draw(128, 5, rng)
    assert samples.is_rgb
    known = samples.labels != 255
    assert torch.equal(known, samples.valid)
    assert known.flatten(1).sum(1).tolist() == [valid.sum().item()] * 5
    values = torch.tensor([0, 5, 9])[samples.labels[known].long()]
    assert torch.equal(samples.images[:, 1][known].long(), values % 20 * 10 + 1)
    assert not samples.images[:, 0][~known].any()


def test_a_small_part_is_read_of_a_large_scene():
    class Vast(ArrayScene):
        def read(self, window, level=0):
            self.read_px = getattr(self, "read_px", 0) + window.num_pixels
            return super().read(window, level)

    labels = labels_with_a_rare_class(2000, 3000)
    image = Vast(np.zeros((3, 2000, 3000), np.uint8))
    sampler = sampler_of([Pair("vast", image, ArrayScene(labels[None]))])
    sampler.draw(64, 4, default_rng(0))
    assert image.read_px <= 4 * 64 * 64


def test_the_same_states_give_the_same_views():
    sampler = sampler_of([pair_of(labels_with_a_rare_class())])
    rule = ViewRule(crop_px=64)
    views = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        views.append(draw_views(sampler, rule, 3, default_rng(seed), ((9.0,) * 3, (50.0,) * 3)))
    assert views[0].images.shape == (3, 3, 64, 64)
    assert torch.equal(views[0].images, views[1].images)
    assert torch.equal(views[0].labels, views[1].labels)
    assert not torch.equal(views[0].images, views[2].images)


@pytest.mark.parametrize(("bands", "dtype"), [(3, np.uint8), (4, np.uint16), (1, np.float32)])
def test_labels_move_with_the_pixels_that_they_are_of(bands, dtype):
    rng = default_rng(5)
    blocks = rng.choice(np.array([0, 5, 9], np.uint8), (8, 8)).repeat(32, 0).repeat(32, 1)
    sampler = sampler_of([pair_of(blocks, bands=bands, dtype=dtype)])
    rule = ViewRule(crop_px=96, colour=0.0, blur=0.0)
    views = draw_views(sampler, rule, 8, rng, ((0.0,) * bands, (1.0,) * bands))
    known = views.labels != 255
    assert not views.images[:, 0][~known].any() or known.float().mean() > 0.5
    truth = torch.tensor([1.0, 51.0, 91.0])[torch.where(known, views.labels, 0).long()]
    # pixels between two blocks are mixtures
    right = (views.images[:, 0] - truth).abs() < 2
    assert right[known].float().mean() > 0.9


def test_what_has_no_data_stays_zero_after_colours_change():
    labels = labels_with_a_rare_class(200, 300)
    valid = np.ones(labels.shape, bool)
    valid[:, 150:] = False
    sampler = sampler_of([pair_of(labels, valid=valid)])
    views = draw_views(sampler, ViewRule(crop_px=64), 6, default_rng(0), ((100.0,) * 3, (20.0,) * 3))
    empty = (views.images == 0).all(1)
    assert empty.any()
    assert (views.labels[empty] == 255).all()


def test_without_changes_a_view_is_the_crop():
    samples = sampler_of([pair_of(labels_with_a_rare_class())]).draw(64, 2, default_rng(0))
    rule = ViewRule(crop_px=64, flip=False, rotate=False, zoom=(1.0, 1.0), colour=0.0, blur=0.0)
    views = change_views(samples, rule, ((1.0,) * 3, (2.0,) * 3))
    torch.testing.assert_close(views.images, (samples.images - 1) / 2 * samples.valid[:, None])
    assert torch.equal(views.labels, samples.labels)


def test_places_reach_over_the_edges_a_little():
    sampler = sampler_of([pair_of(np.zeros((300, 300), np.uint8))])
    windows = [sampler.place(128, default_rng(seed)).window for seed in range(200)]
    assert min(w.top for w in windows) == -16
    assert max(w.bottom for w in windows) == 316


def test_nothing_labelled_is_refused():
    with pytest.raises(ValueError, match="no pixel"):
        sampler_of([pair_of(np.full((50, 50), 255, np.uint8))])
