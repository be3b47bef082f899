from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from hiresseg.training.criteria import Criterion, boundary, dice

NONE = Criterion(cross_entropy=0.0, dice=0.0)
TERMS = {
    "cross entropy": replace(NONE, cross_entropy=1.0),
    "weighted and smoothed": replace(
        NONE, cross_entropy=1.0, class_weights=(0.2, 1.0, 3.0), label_smoothing=0.1
    ),
    "focal": replace(NONE, focal=1.0),
    "focal, gentle": replace(NONE, focal=1.0, focal_gamma=0.5, class_weights=(1.0, 2.0, 0.5)),
    "dice squared": replace(NONE, dice=1.0),
    "dice plain": replace(NONE, dice=1.0, dice_denominator="plain"),
    "dice of what is there": replace(NONE, dice=1.0, dice_smooth=0.0),
    "boundary": replace(NONE, boundary=1.0),
    "l1": replace(NONE, l1=1.0),
    "l2": replace(NONE, l2=1.0),
    "all": Criterion(1.0, 0.5, 0.3, 0.2, 0.1, 0.4),
}


def draw(seed=0, shape=(2, 3, 4, 5), unknown=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < unknown] = 255
    return logits, labels


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_those_of_finite_differences(name):
    logits, labels = draw(unknown=0.05)
    loss = TERMS[name]
    (slope,) = torch.autograd.grad(loss(logits.requires_grad_(True), labels), logits)
    assert slope.abs().max() > 1e-4
    step = 1e-6
    for index in range(logits.numel()):
        shift = torch.zeros(logits.numel(), dtype=torch.float64)
        shift[index] = step
        with torch.no_grad():
            upper = loss(logits + shift.view_as(logits), labels)
            lower = loss(logits - shift.view_as(logits), labels)
        assert slope.flatten()[index].item() == pytest.approx((upper - lower).item() / (2 * step), abs=1e-7)


def test_cross_entropy_is_that_of_torch():
    logits, labels = draw(3)
    weights = (0.2, 1.0, 3.0)
    for smoothing in (0.0, 0.3):
        ours = replace(NONE, cross_entropy=1.0, class_weights=weights, label_smoothing=smoothing)
        theirs = functional.cross_entropy(
            logits,
            labels.long(),
            torch.tensor(weights).double(),
            ignore_index=255,
            label_smoothing=smoothing,
        )
        assert ours(logits, labels).item() == pytest.approx(theirs.item())


def test_cross_entropy_pushes_by_how_wrong_it_is():
    logits, labels = draw(4)
    (slope,) = torch.autograd.grad(TERMS["cross entropy"](logits.requires_grad_(True), labels), logits)
    known = (labels != 255)[:, None]
    truth = functional.one_hot(torch.where(labels == 255, 0, labels).long(), 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(slope, (logits.softmax(1) - truth) * known / known.sum())


def test_focal_without_focus_is_cross_entropy():
    logits, labels = draw(5)
    plain = replace(NONE, focal=1.0, focal_gamma=0.0)
    assert plain(logits, labels).item() == pytest.approx(TERMS["cross entropy"](logits, labels).item())


@pytest.mark.parametrize("denominator", ["squared", "plain"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice_has_the_gradient_that_was_derived(denominator, smooth):
    generator = torch.Generator().manual_seed(1)
    prob = torch.rand(2, 1, 4, 5, generator=generator, dtype=torch.float64).requires_grad_(True)
    truth = (torch.rand(2, 1, 4, 5, generator=generator) < 0.4).double()
    (slope,) = torch.autograd.grad(
        dice(prob, truth, torch.ones_like(truth, dtype=torch.bool), denominator, smooth=smooth), prob
    )
    p = prob.detach()
    above = 2 * (p * truth).sum() + smooth
    if denominator == "squared":
        below = (p * p).sum() + truth.sum() + smooth
        derived = 2 * (p * above - truth * below) / below**2
    else:
        below = p.sum() + truth.sum() + smooth
        derived = (above - 2 * truth * below) / below**2
    torch.testing.assert_close(slope, derived)
    # what is often printed has no gradient where the truth is 0
    assert (slope[truth == 0] > 0).all()
    assert (slope[truth == 1] < 0).all()


@pytest.mark.parametrize(("denominator", "push"), [("squared", 0.002), ("plain", 1.0)])
def test_false_alarms_on_an_empty_target_are_punished_but_not_wildly(denominator, push):
    prob = torch.full((1, 1, 2, 2), 1e-3, requires_grad=True)
    everywhere = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    dice(prob, torch.zeros(1, 1, 2, 2), everywhere, denominator).backward()
    assert torch.all(prob.grad > 0)
    assert prob.grad.max().item() == pytest.approx(push, rel=0.05)


@pytest.mark.parametrize("name", TERMS)
def test_unknown_pixels_count_for_nothing_and_nothing_is_no_error(name):
    logits, labels = draw(2)
    loss = TERMS[name]
    if name not in {"boundary", "all"}:
        changed = torch.where(
            (labels == 255)[:, None], logits + torch.tensor([9.0, 0, -9.0])[:, None, None], logits
        )
        assert loss(changed, labels).item() == pytest.approx(loss(logits, labels).item())
    logits.requires_grad_(True)
    nothing = loss(logits, torch.full_like(labels, 255))
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()


def test_boundary_does_not_look_at_pixels_beside_unknown_ones():
    prob, truth = torch.rand(1, 2, 6, 6), torch.zeros(1, 2, 6, 6)
    known = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    known[..., 0] = False
    changed = prob.clone()
    changed[..., 0] = 5.0
    assert boundary(prob, truth, known) == boundary(changed, truth, known)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(name, dtype):
    logits, labels = draw(6)
    # beyond what half precision can raise e to
    halves = (logits * 20).to(dtype).requires_grad_(True)
    loss = TERMS[name](halves, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(TERMS[name](halves.detach().double(), labels).item(), rel=1e-4)
    loss.backward()
    assert torch.isfinite(halves.grad).all()


@pytest.mark.parametrize("name", [n for n in TERMS if "smoothed" not in n])
def test_right_answers_cost_nothing_and_wrong_ones_much(name):
    labels = torch.tensor([[[0, 1, 2, 2], [0, 1, 2, 2], [0, 1, 1, 2]]], dtype=torch.uint8)
    right = 40.0 * functional.one_hot(labels.long(), 3).permute(0, 3, 1, 2) - 20
    assert TERMS[name](right, labels) < 1e-6
    assert TERMS[name](-right, labels) > 0.1
