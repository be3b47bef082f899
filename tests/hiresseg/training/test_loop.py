from __future__ import annotations

import numpy as np
import pytest
import torch

from hiresseg.training.loop import Schedule, train


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)
        self.norm = torch.nn.BatchNorm1d(2)

    def forward(self, values):
        return self.layer(self.norm(values))


def loss(network, rng):
    values = torch.from_numpy(rng.standard_normal((16, 2)).astype(np.float32))
    return ((network(values)[:, 0] - values @ torch.tensor([1.0, -2.0])) ** 2).mean()


def quality(network):
    return -loss(network, np.random.default_rng(99)).item()


def test_it_learns(tmp_path):
    network = Line()
    before = quality(network.eval())
    schedule = Schedule(60, 0.1, ema_steps=5.0, validate_every=30)
    trained = train(network, loss, quality, schedule, checkpoint=tmp_path / "a.pt", report=lambda _: None)
    assert trained.score > -0.3 > before
    assert quality(trained.network) == pytest.approx(trained.score)
    assert not trained.network.training


def test_a_killed_training_ends_in_the_same_weights(tmp_path):
    schedule = Schedule(12, 0.05, validate_every=4, seed=5)
    calls = []

    def killed(network, rng):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return loss(network, rng)

    whole = train(Line(), loss, quality, schedule, checkpoint=tmp_path / "whole.pt", report=lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        train(Line(), killed, quality, schedule, checkpoint=tmp_path / "part.pt", report=lambda _: None)
    lines = []
    again = train(Line(), loss, quality, schedule, checkpoint=tmp_path / "part.pt", report=lines.append)
    assert "goes on after step 4" in lines[0]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    assert whole.score == again.score


def test_the_best_validation_is_kept_not_the_last(tmp_path):
    scores = iter([1.0, 3.0, 2.0])
    kept = []

    def validate(network):
        kept.append({name: value.clone() for name, value in network.state_dict().items()})
        return next(scores)

    trained = train(
        Line(),
        loss,
        validate,
        Schedule(6, 0.05, validate_every=2),
        checkpoint=tmp_path / "a.pt",
        report=lambda _: None,
    )
    assert (trained.score, trained.step) == (3.0, 4)
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, kept[1][name])
    assert not torch.equal(kept[1]["layer.weight"], kept[2]["layer.weight"])


def test_other_seeds_give_other_weights(tmp_path):
    ends = [
        train(
            Line(),
            loss,
            quality,
            Schedule(4, 0.05, seed=seed),
            checkpoint=tmp_path / f"{seed}.pt",
            report=lambda _: None,
        ).network.layer.weight
        for seed in (0, 1)
    ]
    assert not torch.equal(*ends)
