from __future__ import annotations

import numpy as np
import pytest
import torch

from hiresseg.errors import Interrupted, RecipeError
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


def run(path, schedule=None, *, network=None, batch_loss=loss, validate=quality, **options):
    schedule = schedule or Schedule(12, 0.05, validate_every=4, seed=5)
    network = network or Line()
    return train(
        network,
        batch_loss,
        validate,
        schedule,
        checkpoint=path,
        report=options.pop("report", lambda _: None),
        **options,
    )


def weights_of(trained):
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_stopped_between_two_validations_it_ends_in_the_same_weights_and_curve(tmp_path, precision):
    schedule = Schedule(12, 0.05, validate_every=4, seed=5, accumulate=2, precision=precision)
    whole = run(tmp_path / "whole.pt", schedule)
    asked = iter([False] * 5 + [True])
    with pytest.raises(Interrupted, match="after step 6"):
        run(tmp_path / "part.pt", schedule, should_stop=lambda: next(asked))
    points = []
    again = run(tmp_path / "part.pt", schedule, on_point=points.append)
    assert [p.step for p in points] == [8, 12]
    assert again.curve == whole.curve
    assert tuple(points) == whole.curve[1:]
    for name, value in weights_of(whole).items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def test_accumulated_batches_are_one_batch_of_them_all(tmp_path):
    def sums(count):
        def batch_loss(network, rng):
            values = torch.from_numpy(rng.standard_normal((8 // count, 2)).astype(np.float32))
            return network.layer(values).square().mean()

        return batch_loss

    ends = [
        run(tmp_path / f"{count}.pt", Schedule(3, 0.05, accumulate=count), batch_loss=sums(count))
        for count in (1, 4)
    ]
    torch.testing.assert_close(*(weights_of(end)["layer.weight"] for end in ends))


def test_it_stops_early_when_nothing_gets_better(tmp_path):
    scores = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    schedule = Schedule(100, 0.05, validate_every=2, patience=2)
    trained = run(tmp_path / "a.pt", schedule, validate=lambda _: next(scores))
    assert (trained.score, trained.step, trained.curve[-1].step) == (3.0, 4, 8)
    # asked again, it is over
    assert run(tmp_path / "a.pt", schedule, validate=lambda _: 99.0).score == 3.0


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    run(tmp_path / "a.pt", identity="one")
    with pytest.raises(RecipeError, match="another recipe"):
        run(tmp_path / "a.pt", identity="other")


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    with pytest.raises(RecipeError, match="loss is nan at step 1"):
        run(tmp_path / "a.pt", batch_loss=lambda network, _: network.layer.weight.sum() * torch.nan)


def test_it_says_how_long_it_will_take(tmp_path):
    lines = []
    run(tmp_path / "net.pt", report=lines.append)
    assert lines[0].startswith("net: step 4/12 loss")
    assert lines[0].endswith("s left")
