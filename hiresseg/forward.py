"""How a network is run on this machine: threads, batch, layout, precision; measured, not guessed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hiresseg.errors import ModelError
from hiresseg.models.spec import Model, ModelSpec, Segmenter

SHORT_FORWARD_SECONDS = 0.02
"""Where a tile takes less, reading, cutting and blending take as much, and only workers share those."""

Precision = Literal["fp32", "bf16", "fp16"]
Freedom = Literal["all", "layout", "nothing"]


@dataclass(frozen=True, slots=True)
class ForwardSetting:
    """Everything about a forward pass that can change a bit of its result, or its speed."""

    device: str = "cpu"
    precision: Precision = "fp32"
    workers: int = 1
    """Blocks computed at the same time, each by a thread with its own tiles."""
    threads: int = 1
    """Threads that torch uses inside one forward."""
    batch: int = 1
    """Tiles in a forward; every batch has this size."""
    channels_last: bool = True

    def describe(self) -> str:
        """In one line, for people."""
        layout = "channels last" if self.channels_last else "channels first"
        workers = f"{self.workers} x {self.threads} threads, batch {self.batch}"
        return f"{self.device}, {self.precision}, {workers}, {layout}"


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed tensors instead of giving their pages back to the system after every forward.

    Without this each activation of a megabyte is mapped, faulted in page by page and unmapped again, which
    costs more than many layers do. No effect where the C library is another.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8
        # one heap for all threads: what one has freed, another can use
        libc.mallopt(m_arena_max, 1)
        libc.mallopt(m_mmap_threshold, 32 << 20)
        libc.mallopt(m_trim_threshold, 256 << 20)


def return_freed_memory() -> None:
    """Give the heap's free pages back to the system, holes too: some milliseconds, and new page faults."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def place_model(model: Model, setting: ForwardSetting) -> None:
    """Move the networks to the device and memory layout of `setting`, and set torch's threads."""
    torch.set_num_threads(setting.threads)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    for segmenter in model.segmenters:
        if isinstance(segmenter, torch.nn.Module):
            segmenter.to(device=setting.device, memory_format=layout)  # type: ignore[call-overload]


def empty_tiles(setting: ForwardSetting, num_bands: int, tile_px: int) -> Float[Tensor, "N C t t"]:
    """A batch of zeros in the run's layout, to be filled tile after tile."""
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    shape = setting.batch, num_bands, tile_px, tile_px
    return torch.zeros(shape, device=setting.device).contiguous(memory_format=layout)


def run_segmenter(
    segmenter: Segmenter,
    images: Float[Tensor, "N C t t"],
    prior: Float[Tensor, "N K t t"] | None,
    setting: ForwardSetting,
    num_logits: int,
) -> Tensor:
    """One forward without gradients, in the precision of `setting`.

    Raises:
        ModelError: if the answer has not the shape (N, num_logits, t, t), or is not of floating point.
    """
    with torch.inference_mode(), _precision(setting):
        logits = segmenter(images, prior)
    expected = (images.shape[0], num_logits, *images.shape[2:])
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"the network answered {tuple(images.shape)} with {shape} instead of {expected}: "
            f"it must give one logit per class and pixel; correct it, or the classes in config.json"
        )
    if not logits.is_floating_point():
        raise ModelError(
            f"the network answered with {logits.dtype} instead of logits of floating point; "
            f"leave out what makes classes of them"
        )
    return logits.float() if logits.dtype == torch.float64 else logits


@contextlib.contextmanager
def _precision(setting: ForwardSetting) -> Iterator[None]:
    if setting.precision == "fp32":
        yield
        return
    dtype = torch.bfloat16 if setting.precision == "bf16" else torch.float16
    with torch.autocast(torch.device(setting.device).type, dtype=dtype):
        yield


@dataclass(frozen=True, slots=True)
class Calibration:
    """A setting and what it was measured to take."""

    setting: ForwardSetting
    tile_seconds: tuple[float, ...]
    """Seconds of wall time per tile, for each stage, with all workers busy."""
    tried: tuple[tuple[str, float], ...]
    """Every setting tried, and its seconds per tile in the last stage."""

    def as_record(self) -> dict[str, object]:
        """For the report."""
        return {"setting": asdict(self.setting), "tile_seconds": self.tile_seconds, "tried": self.tried}


def calibrate(
    model: Model, wanted: ForwardSetting, free: Freedom = "all", *, seconds: float = 4.0
) -> Calibration:
    """Measure the last stage's network in a few settings and keep the fastest.

    What counts is the fastest forward of each setting over two passes, which neighbours on the machine
    disturb least, and another setting than the first has to win by a quarter: noise must not decide what
    a run computes.

    Args:
        model: placed anew for each trial.
        wanted: the setting as far as it is not free.
        free: `all` but device and precision; `layout` alone, on the CPU; or `nothing`.
        seconds: about how long this may take; the first setting is always measured.
    """
    trials = [wanted] if free == "nothing" else _trials(wanted, free)
    deadline = time.perf_counter() + seconds
    fastest: dict[ForwardSetting, float] = {}
    for setting in trials * (2 if len(trials) > 1 else 1):
        if fastest and time.perf_counter() > deadline:
            break
        if setting.workers < trials[0].workers and fastest[trials[0]] < SHORT_FORWARD_SECONDS:
            continue
        measured = measure_tile_seconds(model, setting, -1)
        fastest[setting] = min(measured, fastest.get(setting, measured))
    tried = list(fastest.items())
    best, best_seconds = tried[0]
    for setting, tile_seconds in tried[1:]:
        if tile_seconds < min(0.75 * tried[0][1], best_seconds):
            best, best_seconds = setting, tile_seconds
    earlier = tuple(measure_tile_seconds(model, best, index) for index in range(len(model.segmenters) - 1))
    place_model(model, best)
    names = tuple((setting.describe(), tile_seconds) for setting, tile_seconds in tried)
    return Calibration(best, (*earlier, best_seconds), names)


def _trials(wanted: ForwardSetting, free: Freedom) -> list[ForwardSetting]:
    if wanted.device != "cpu":
        return [
            replace(wanted, workers=2, threads=1, batch=batch, channels_last=True) for batch in (8, 16, 32)
        ]
    first = replace(wanted, threads=1, batch=1, channels_last=True)
    others = [replace(first, channels_last=False)]
    if free == "all" and wanted.workers > 1:
        others.append(replace(first, workers=1, threads=wanted.workers))
    return [first, *others]


def measure_tile_seconds(model: Model, setting: ForwardSetting, stage: int, *, rounds: int = 3) -> float:
    """Seconds of wall time per tile when all workers run forwards of one stage.

    The fastest of `rounds`, after one to warm up; of the slowest worker.
    """
    place_model(model, setting)
    spec, segmenter = model.spec, model.segmenters[stage]
    is_first = stage % len(model.segmenters) == 0
    barrier = threading.Barrier(setting.workers)

    def work(_worker: int) -> float:
        torch.set_num_threads(setting.threads)
        images = empty_tiles(setting, len(spec.bands), spec.stages[stage].tile_px)
        images.normal_(generator=torch.Generator(setting.device).manual_seed(0))
        prior = None if is_first else _torn_prior(spec, images)
        seconds = []
        for _ in range(1 + rounds):
            barrier.wait()
            started = time.perf_counter()
            try:
                run_segmenter(segmenter, images, prior, setting, spec.num_logits)
            except BaseException:
                barrier.abort()
                raise
            if setting.device != "cpu":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        return min(seconds[1:])

    with ThreadPoolExecutor(setting.workers) as pool:
        futures = [pool.submit(work, worker) for worker in range(setting.workers)]
        wait(futures)
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        # a worker that only waited for the one that failed has nothing of its own to say
        raise next(
            (error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0]
        )
    return max(future.result() for future in futures) / (setting.workers * setting.batch)


def _torn_prior(spec: ModelSpec, images: Tensor) -> Tensor:
    shape = images.shape[0], spec.num_logits, *images.shape[2:]
    return torch.full(shape, 1 / max(2, spec.num_logits), device=images.device)
