"""What is asked of `hiresseg evaluate`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from hiresseg_pipelines.options import read_by
from hiresseg_pipelines.request import parse_device


def parse_ignore(text: str) -> int:
    """A value, or -1 for `none`.

    Raises:
        ValueError: if it is anything else.
    """
    if text.strip().lower() == "none":
        return -1
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        raise ValueError(f"give a value of the truth such as 255, or none; got {text!r}")
    return int(text)


def parse_classes(text: str) -> tuple[str, ...]:
    """Names in order of their values, as in `background,building`.

    Raises:
        ValueError: if there are fewer than two.
    """
    names = tuple(name.strip() for name in text.split(","))
    if len(names) < 2 or not all(names):
        raise ValueError(f"give the names of all classes from 0, as in background,building; got {text!r}")
    return names


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """What was asked for, as typed."""

    prediction: Annotated[
        Path | None, typer.Argument(metavar="PREDICTION", help="A raster of classes.", show_default=False)
    ] = None
    truth: Annotated[
        Path | None,
        typer.Argument(metavar="TRUTH", help="A raster, or polygons in GeoJSON.", show_default=False),
    ] = None
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Evaluate this model, with --data.", show_default=False),
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images/ and labels/ with the same names.", metavar="DIR", show_default=False
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for evaluation.json and a picture of the errors of each image.",
            show_default=False,
        ),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False
    ignore: Annotated[
        int | None,
        typer.Option(
            help="Value in the truth that counts nowhere, or none.",
            show_default="255",
            parser=read_by(parse_ignore),
        ),
    ] = None
    """-1 for none; None where nothing was said."""
    classes: Annotated[
        tuple[str, ...] | None,
        typer.Option(
            help="Names of the classes from 0: background,building.",
            show_default="those of the model or the prediction",
            parser=read_by(parse_classes),
        ),
    ] = None
    class_attribute: Annotated[
        str, typer.Option(help="Property of polygons that holds their class; 1 where they have none.")
    ] = "class"
    boundaries: Annotated[
        bool, typer.Option("--boundaries/--no-boundaries", help="Whether to look at boundaries too.")
    ] = True
    boundary_px: Annotated[
        int | None,
        typer.Option(
            "--boundary-px",
            min=1,
            max=10_000,
            help="Width of the boundary in boundary IoU.",
            show_default="2 % of the diagonal, as published",
        ),
    ] = None
    seam: Annotated[
        bool,
        typer.Option("--seam", help="Also run with the tiles shifted, and say what share of labels changes."),
    ] = False
    panoptic: Annotated[bool, typer.Option("--panoptic", help="Compare maps of segment ids: PQ, SQ, RQ.")] = (
        False
    )
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N, for --model.", parser=read_by(parse_device))
    ] = "cpu"
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Blocks at the same time, for --model.",
            show_default="one per processor",
        ),
    ] = None

    @property
    def ignored(self) -> int | None:
        """The value that counts nowhere; None without one."""
        if self.ignore is None:
            # in a map of ids 255 is one like others
            return None if self.panoptic else 255
        return None if self.ignore < 0 else self.ignore
