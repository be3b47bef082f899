"""One network, one loss, so many steps: seeded per step, averaged, and resumed where it was killed."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from numpy.random import Generator, default_rng
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast."""

    steps: int
    """Updates in all."""
    learning_rate: float
    """Of AdamW at its highest: a tenth of the steps lead up to it, a cosine leads down to nothing."""
    weight_decay: float = 0.02
    ema_steps: float = 60.0
    """Memory, in updates, of the running mean of the weights that is validated and kept."""
    validate_every: int = 50
    """Updates between two validations, checkpoints and progress lines."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to."""

    network: nn.Module
    """With the averaged weights of its best validation, in evaluation mode."""
    score: float
    """Its validation."""
    step: int
    """After how many updates that was."""


BatchLoss = Callable[[nn.Module, Generator], Float[Tensor, ""]]
"""Draws a batch with the generator and gives the loss of the network on it."""
Validation = Callable[[nn.Module], float]
"""Scores a network in evaluation mode; more is better."""


def train(
    network: nn.Module,
    batch_loss: BatchLoss,
    validate: Validation,
    schedule: Schedule,
    *,
    checkpoint: Path,
    report: Callable[[str], None] = print,
) -> Trained:
    """Trains `network` in place and gives a copy with the best averaged weights.

    Step `i` draws with the generator `(seed, i)`, so a training that goes on from its checkpoint sees the
    same batches as one that was never stopped.

    Args:
        network: with its first weights.
        batch_loss: what one step makes smaller.
        validate: what chooses among the averaged weights.
        schedule: how long and how fast.
        checkpoint: written at every validation, and read first if it is there.
        report: takes the progress lines.
    """
    run = _Run(network, schedule)
    if checkpoint.exists():
        run.load(checkpoint)
        report(f"{checkpoint.stem}: goes on after step {run.step}")
    started, first = time.perf_counter(), run.step
    while run.step < schedule.steps:
        loss = run.advance(batch_loss)
        if run.step % schedule.validate_every == 0 or run.step == schedule.steps:
            run.judge(validate)
            run.save(checkpoint)
            pace = (time.perf_counter() - started) / (run.step - first)
            report(
                f"{checkpoint.stem}: step {run.step}/{schedule.steps} loss {loss:.4f} "
                f"score {run.score:.4f} best {run.best_score:.4f} at {run.best_step}, {pace:.2f} s a step"
            )
    return run.finish()


class _Run:
    """All that changes from step to step, and is saved."""

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        self.network, self.schedule = network, schedule
        self.average = copy.deepcopy(network).eval()
        self.best = copy.deepcopy(self.average.state_dict())
        self.step, self.score, self.best_score, self.best_step = 0, -math.inf, -math.inf, 0
        self.optimizer = torch.optim.AdamW(
            _grouped(network, schedule.weight_decay), lr=schedule.learning_rate
        )

    def advance(self, batch_loss: BatchLoss) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * _pace(self.step / self.schedule.steps)
        torch.manual_seed(self.schedule.seed * 1_000_003 + self.step)
        self.network.train()
        self.optimizer.zero_grad()
        loss = batch_loss(self.network, default_rng((self.schedule.seed, self.step)))
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._follow()
        return loss.item()

    def _follow(self) -> None:
        # a young average would remember the first, random weights: its memory grows with the steps
        keep = min(1 - 1 / self.schedule.ema_steps, self.step / (self.step + 9))
        ours = self.network.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(ours[name], 1 - keep)
            else:
                value.copy_(ours[name])

    def judge(self, validate: Validation) -> None:
        with torch.inference_mode():
            self.score = validate(self.average)
        if self.score > self.best_score:
            self.best_score, self.best_step = self.score, self.step
            self.best = copy.deepcopy(self.average.state_dict())

    def save(self, path: Path) -> None:
        whole = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "scores": (self.step, self.score, self.best_score, self.best_step),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        torch.save(whole, fresh)
        fresh.replace(path)

    def load(self, path: Path) -> None:
        whole = torch.load(path, weights_only=True)
        self.network.load_state_dict(whole["network"])
        self.average.load_state_dict(whole["average"])
        self.optimizer.load_state_dict(whole["optimizer"])
        self.best = whole["best"]
        self.step, self.score, self.best_score, self.best_step = whole["scores"]

    def finish(self) -> Trained:
        self.average.load_state_dict(self.best)
        return Trained(self.average, self.best_score, self.best_step)


def _pace(done: float) -> float:
    """Share of the highest learning rate after `done` (0 to 1) of the steps."""
    return max(done / 0.1, 0.01) if done < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.1) / 0.9)


def _grouped(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and the scales of batch norm do not."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
