from __future__ import annotations

import pytest
import torch
from numpy.random import default_rng

from hiresseg.training.priors import PriorRule, draw_priors


def case(count=6):
    labels = torch.zeros(count, 64, 64, dtype=torch.uint8)
    labels[:, 8:40, 20:52] = 1
    labels[:, 60:] = 255
    answers = torch.rand(count, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    return labels, answers


@pytest.mark.parametrize(
    "rule",
    [
        PriorRule(1.0, 0.0, 0.0),
        PriorRule(0.0, 1.0, 0.0),
        PriorRule(0.0, 0.0, 1.0),
        PriorRule(0.0, 0.0, 0.0),
        PriorRule(),
    ],
)
def test_priors_are_stored_probabilities(rule):
    priors = draw_priors(*case(), rule, default_rng(0))
    assert priors.shape == (6, 1, 64, 64)
    assert ((priors >= 0) & (priors <= 1)).all()
    torch.testing.assert_close(priors * 255, (priors * 255).round(), rtol=0, atol=1e-3)


def test_an_answer_keeps_its_order():
    labels, answers = case(1)
    prior = draw_priors(labels, answers, PriorRule(1.0, 0.0, 0.0), default_rng(0)).flatten()
    best = max(torch.corrcoef(torch.stack([prior, answer.flatten()]))[0, 1].item() for answer in answers[0])
    assert best > 0.98


def test_fine_truth_decides_as_the_truth_and_knows_nothing_of_the_unknown():
    labels, answers = case()
    priors = draw_priors(labels, answers, PriorRule(0.0, 0.0, 1.0), default_rng(0))[:, 0]
    known = labels != 255
    assert torch.equal(priors[known] > 0.5, labels[known] == 1)
    assert (priors[~known] - 0.5).abs().max() < 0.003


def test_damaged_truth_is_near_the_truth_and_not_the_truth():
    labels, answers = case(20)
    priors = draw_priors(labels, answers, PriorRule(0.0, 1.0, 0.0), default_rng(0))[:, 0]
    true, found = labels == 1, priors > 0.5
    iou = (true & found).sum((1, 2)) / (true | found).sum((1, 2))
    assert 0.5 < iou.mean() < 0.99
    assert (iou < 1).sum() > 15


def test_nothing_is_said_where_no_kind_is_left():
    priors = draw_priors(*case(), PriorRule(0.0, 0.0, 0.0), default_rng(0))
    assert (priors - 0.5).abs().max() < 0.003
