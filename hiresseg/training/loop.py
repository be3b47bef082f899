"""One network, one loss, so many steps: seeded per step, averaged, and resumed where it was killed."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from numpy.random import Generator, default_rng
from torch import Tensor, nn

from hiresseg.errors import Interrupted, RecipeError

Precision = Literal["fp32", "bf16", "fp16"]


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
    accumulate: int = 1
    """Batches whose gradients are averaged for one update."""
    patience: int = 0
    """Validations in a row without a new best one after which training ends; 0 for never."""
    precision: Precision = "fp32"
    """Arithmetic of forward and backward; the weights are kept in single precision."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curves."""

    step: int
    loss: float
    """Mean since the point before."""
    score: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to."""

    network: nn.Module
    """With the averaged weights of its best validation, in evaluation mode."""
    score: float
    """Its validation."""
    step: int
    """After how many updates that was."""
    curve: tuple[Point, ...] = ()
    """All validations, those before a restart among them."""


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
    identity: str = "",
    on_point: Callable[[Point], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains `network` in place and gives a copy with the best averaged weights.

    Step `i` draws with the generator `(seed, i)`, so a training that goes on from its checkpoint sees the
    same batches as one that was never stopped.

    Args:
        network: with its first weights, on the device that computes.
        batch_loss: what one step makes smaller.
        validate: what chooses among the averaged weights.
        schedule: how long and how fast.
        checkpoint: written at every validation, and read first if it is there.
        report: takes the progress lines.
        identity: what this training is of; a checkpoint of another is refused.
        on_point: takes each validation, once it is safe in the checkpoint.
        should_stop: asked after every step.

    Raises:
        Interrupted: if it should stop; the checkpoint is where it stopped.
        RecipeError: if the checkpoint is that of another training, or the loss is no number any more.
    """
    run = _Run(network, schedule, identity)
    if checkpoint.exists():
        run.load(checkpoint)
        report(f"{checkpoint.stem}: goes on after step {run.step}")
    started, first = time.perf_counter(), run.step
    while not run.is_over:
        run.advance(batch_loss)
        is_asked = should_stop()
        if run.step % schedule.validate_every == 0 or run.step == schedule.steps:
            run.judge(validate)
            run.save(checkpoint)
            on_point(run.curve[-1])
            pace = (time.perf_counter() - started) / (run.step - first)
            report(f"{checkpoint.stem}: {run.describe()}, {_left(pace, schedule.steps - run.step)}")
        elif is_asked:
            run.save(checkpoint)
        if is_asked and not run.is_over:
            raise Interrupted(f"stopped after step {run.step}; the same command goes on from there")
    return run.finish()


def _left(pace: float, steps: int) -> str:
    seconds = pace * steps
    amount = f"{seconds / 60:.0f} min" if seconds > 120 else f"{seconds:.0f} s"
    return f"{pace:.2f} s a step, {amount} left"


class _Run:
    """All that changes from step to step, and is saved."""

    def __init__(self, network: nn.Module, schedule: Schedule, identity: str = "") -> None:
        self.network, self.schedule, self.identity = network, schedule, identity
        self.average = copy.deepcopy(network).eval()
        self.best = copy.deepcopy(self.average.state_dict())
        self.step, self.score, self.best_score, self.best_step = 0, -math.inf, -math.inf, 0
        self.losses: list[float] = []
        self.curve: list[Point] = []
        self.device = next(network.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=schedule.precision == "fp16")
        self.optimizer = torch.optim.AdamW(
            _grouped(network, schedule.weight_decay), lr=schedule.learning_rate
        )

    @property
    def is_over(self) -> bool:
        patience = self.schedule.patience * self.schedule.validate_every
        judged = self.curve[-1].step if self.curve else 0
        return self.step >= self.schedule.steps or bool(patience and judged - self.best_step >= patience)

    def advance(self, batch_loss: BatchLoss) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        torch.manual_seed(self.schedule.seed * 1_000_003 + self.step)
        self.network.train()
        self.optimizer.zero_grad()
        rng, count = default_rng((self.schedule.seed, self.step)), self.schedule.accumulate
        losses = [self._descend(batch_loss, rng) for _ in range(count)]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.losses.append(sum(losses) / count)
        self.step += 1
        self._follow()

    def _descend(self, batch_loss: BatchLoss, rng: Generator) -> float:
        with _precision(self.device.type, self.schedule.precision):
            loss = batch_loss(self.network, rng)
        if not math.isfinite(value := loss.item()):
            raise RecipeError(
                f"the loss is {value} at step {self.step + 1}; lower learning_rate "
                f"({self.schedule.learning_rate:g}), or leave precision at fp32"
            )
        self.scaler.scale(loss / self.schedule.accumulate).backward()
        return value

    def _learning_rate(self) -> float:
        return self.schedule.learning_rate * _pace(self.step / self.schedule.steps)

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
        # not in inference mode: its tensors could not be averaged into afterwards
        with torch.no_grad():
            self.score = validate(self.average)
        if self.score > self.best_score:
            self.best_score, self.best_step = self.score, self.step
            self.best = copy.deepcopy(self.average.state_dict())
        loss = sum(self.losses) / len(self.losses)
        rate = self.optimizer.param_groups[0]["lr"]
        self.curve.append(Point(self.step, loss, self.score, rate))
        self.losses = []

    def describe(self) -> str:
        """Where it is, in one line."""
        return (
            f"step {self.step}/{self.schedule.steps} loss {self.curve[-1].loss:.4f} "
            f"score {self.score:.4f} best {self.best_score:.4f} at {self.best_step}"
        )

    def save(self, path: Path) -> None:
        whole = {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "scores": (self.step, self.score, self.best_score, self.best_step),
            "losses": self.losses,
            "curve": [(p.step, p.loss, p.score, p.learning_rate) for p in self.curve],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        torch.save(whole, fresh)
        fresh.replace(path)

    def load(self, path: Path) -> None:
        whole = torch.load(path, weights_only=True, map_location=self.device)
        if whole.get("identity") != self.identity:
            raise RecipeError(
                f"{path} is of another recipe or other data; delete it to begin anew, or name another folder"
            )
        self.network.load_state_dict(whole["network"])
        self.average.load_state_dict(whole["average"])
        self.optimizer.load_state_dict(whole["optimizer"])
        self.scaler.load_state_dict(whole["scaler"])
        self.best, self.losses = whole["best"], whole["losses"]
        self.step, self.score, self.best_score, self.best_step = whole["scores"]
        self.curve = [Point(*values) for values in whole["curve"]]

    def finish(self) -> Trained:
        self.average.load_state_dict(self.best)
        return Trained(self.average, self.best_score, self.best_step, tuple(self.curve))


def _precision(device: str, precision: Precision) -> torch.autocast:
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device, dtype=dtype, enabled=precision != "fp32")


def _pace(done: float) -> float:
    """Share of the highest learning rate after `done` (0 to 1) of the steps."""
    return max(done / 0.1, 0.01) if done < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.1) / 0.9)


def _grouped(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and the scales of batch norm do not."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
