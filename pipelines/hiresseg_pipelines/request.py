"""What was asked for, and how it is read from the words that a person types."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Precision = Literal["fp32", "bf16", "fp16"]
Normalize = Literal["model", "scene"]
Augmentation = Literal["none", "flips", "d4"]

_UNITS = {"": 1} | {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)}
_UNITS |= {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)} | {"b": 1}


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What was asked for, as typed."""

    scene: str | Path
    model: str
    out: Path | None = None
    bands: tuple[int, ...] | None = None
    confidence: bool = False
    normalize: Normalize = "model"
    tta: Augmentation = "none"
    device: str = "cpu"
    precision: Precision = "fp32"
    workers: int | None = None
    """Blocks at the same time, one torch thread each; None leaves threads and layout to the calibration."""
    block_px: int | None = None
    max_memory: int | None = None
    """Bytes."""
    overwrite: bool = False

    @property
    def folder(self) -> Path:
        """Where the outputs go."""
        if self.out is not None:
            return self.out
        scene = Path(self.scene)
        return scene.with_name(f"{scene.name}.hiresseg")


def parse_bands(text: str) -> tuple[int, ...]:
    """Band numbers from 1, as in `4,3,2`.

    Raises:
        ValueError: if it is anything else.
    """
    if not re.fullmatch(r"\s*[1-9][0-9]{0,5}\s*(,\s*[1-9][0-9]{0,5}\s*)*", text):
        raise ValueError(f"give band numbers from 1, separated by commas, as in 4,3,2; got {text!r}")
    return tuple(int(part) for part in text.split(","))


def parse_bytes(text: str) -> int:
    """A size such as `4GiB`, `800MiB`, `2GB` or `1000000`, in bytes.

    Raises:
        ValueError: if it is anything else, or not positive.
    """
    match = re.fullmatch(r"\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-z]*)\s*", text.lower())
    size = float(match[1]) * _UNITS.get(match[2], math.nan) if match else math.nan
    if not size >= 1:
        raise ValueError(f"give a size such as 4GiB or 800MiB; got {text!r}")
    return int(size)


def parse_device(text: str) -> str:
    """`cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: if it is anything else.
    """
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", text):
        raise ValueError(f"give cpu, cuda or cuda:N; got {text!r}")
    return text
