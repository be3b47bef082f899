"""What was asked for, and how it is read from the words that a person types."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from hiresseg_pipelines.options import read_by

Precision = Literal["fp32", "bf16", "fp16"]
Normalize = Literal["model", "scene"]
Augmentation = Literal["none", "flips", "d4"]

_UNITS = {"": 1} | {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)}
_UNITS |= {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)} | {"b": 1}


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


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What was asked for, as typed: the arguments and options of `run`."""

    scene: Annotated[str, typer.Argument(metavar="SCENE", help="The image, of any size.", show_default=False)]
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A bundled model, a folder, hf://OWNER/NAME, a .pt2 or .onnx file, or my_module:build.",
            show_default=False,
        ),
    ]
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Output folder.", show_default="SCENE.hiresseg, beside the scene"),
    ] = None
    bands: Annotated[
        tuple[int, ...] | None,
        typer.Option(
            help="Bands to read, from 1, in the model's order: 4,3,2.",
            show_default=False,
            parser=read_by(parse_bands),
        ),
    ] = None
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write confidence.tif.")] = False
    normalize: Annotated[
        Normalize,
        typer.Option(
            help="Mean and deviation of the model, or of this scene (taken once, from an overview)."
        ),
    ] = "model"
    tta: Annotated[
        Augmentation,
        typer.Option("--tta", help="Average over each tile mirrored (4 forwards), or turned too (8)."),
    ] = "none"
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.", parser=read_by(parse_device))] = "cpu"
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the network.")] = "fp32"
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Blocks at the same time, one thread each.",
            show_default="measured and chosen",
        ),
    ] = None
    """One torch thread each; None leaves threads and layout to the calibration."""
    block_px: Annotated[
        int | None,
        typer.Option(
            "--block",
            min=16,
            help="About the edge of a block in pixels; decides memory, never the result.",
            show_default=False,
        ),
    ] = None
    max_memory: Annotated[
        int | None,
        typer.Option(
            help="Refuse to start if more is needed: 4GiB, 800MiB.",
            show_default=False,
            parser=read_by(parse_bytes),
        ),
    ] = None
    """Bytes."""
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where another run stands.")] = (
        False
    )

    @property
    def folder(self) -> Path:
        """Where the outputs go."""
        if self.out is not None:
            return self.out
        scene = Path(self.scene)
        return scene.with_name(f"{scene.name}.hiresseg")
