from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.training.losses import cross_entropy, cross_entropy_and_dice, dice


def draw(seed, shape=(2, 1, 3, 4), unknown=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(0, 2, (shape[0], *shape[2:]), generator=generator, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < unknown] = 255
    return logits, labels


@pytest.mark.parametrize("loss", [cross_entropy, dice, cross_entropy_and_dice])
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_those_of_finite_differences(loss, seed):
    logits, labels = draw(seed)
    logits.requires_grad_(True)
    loss(logits, labels).backward()
    step = 1e-6
    for index in range(logits.numel()):
        shift = torch.zeros_like(logits).flatten()
        shift[index] = step
        shift = shift.view_as(logits)
        with torch.no_grad():
            slope = (loss(logits + shift, labels) - loss(logits - shift, labels)) / (2 * step)
        assert logits.grad.flatten()[index].item() == pytest.approx(slope.item(), abs=1e-7)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_gradients_are_those_of_the_formulas(seed):
    logits, labels = draw(seed)
    logits.requires_grad_(True)
    known = (labels != 255)[:, None].double()
    truth = (labels == 1)[:, None].double()
    prob = torch.sigmoid(logits.detach())

    (slope,) = torch.autograd.grad(cross_entropy(logits, labels), logits)
    torch.testing.assert_close(slope, (prob - truth) * known / known.sum().clamp(min=1))

    above = 2 * (prob * truth).sum() + 1
    below = (prob**2 * known).sum() + (truth**2).sum() + 1
    by_prob = -(2 * truth * below - 2 * prob * above) / below**2
    (slope,) = torch.autograd.grad(dice(logits, labels), logits)
    torch.testing.assert_close(slope, by_prob * prob * (1 - prob) * known)


def test_background_is_pushed_down_and_foreground_up():
    logits = torch.zeros(1, 1, 1, 2, requires_grad=True)
    dice(logits, torch.tensor([[[0, 1]]], dtype=torch.uint8)).backward()
    background, foreground = logits.grad.flatten().tolist()
    assert background > 0 > foreground


@pytest.mark.parametrize("prob", [1e-3, 0.5])
def test_false_alarms_on_an_empty_target_are_punished_gently(prob):
    logits = torch.full((1, 1, 8, 8), math.log(prob / (1 - prob)), requires_grad=True)
    dice(logits, torch.zeros(1, 8, 8, dtype=torch.uint8)).backward()
    assert (logits.grad > 0).all()
    assert logits.grad.max() < 0.02


@pytest.mark.parametrize("loss", [cross_entropy, dice])
def test_unknown_pixels_count_for_nothing(loss):
    logits, labels = draw(3)
    other = torch.where((labels == 255)[:, None], logits + 5, logits)
    assert loss(logits, labels) == loss(other, labels)
    assert loss(logits, torch.full_like(labels, 255)) == 0


def test_perfect_answers_cost_nothing_and_wrong_ones_much():
    labels = torch.tensor([[[0, 1, 1, 0]]], dtype=torch.uint8)
    right = torch.tensor([[[[-20.0, 20.0, 20.0, -20.0]]]])
    assert cross_entropy_and_dice(right, labels) < 1e-6
    assert cross_entropy_and_dice(-right, labels) > 20
