"""What was asked of `hiresseg train`, and the recipe that folders of images and labels become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiresseg.errors import RecipeError
from hiresseg_pipelines.options import read_by
from hiresseg_pipelines.request import parse_device

if TYPE_CHECKING:
    from hiresseg.training.classes import LabelClass
    from hiresseg_pipelines.train_recipe import NetworkPart, TrainRecipe

_OF_RECIPES = ("recipe", "work", "device", "check")


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """The argument and options of `train`."""

    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="[RECIPE.toml]", help="A recipe; or give --images.", show_default=False),
    ] = None
    images: Annotated[
        Path | None, typer.Option(help="Folder of images, or one scene.", show_default=False)
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Folder of label rasters that go by the images' names, or one; 255 is unknown.",
            show_default=False,
        ),
    ] = None
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Text file, one class a line: VALUE NAME #RRGGBB.",
            show_default="the values that labels hold",
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Model folder to make; its recipe.toml is written first."),
    ] = None
    network: Annotated[
        str, typer.Option(help="FCN, or an smp architecture and encoder such as Unet:resnet18.")
    ] = "FCN"
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = 600
    licence: Annotated[str, typer.Option(help="Of the model that is made; its data must allow it.")] = (
        "not stated"
    )
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder of checkpoint and event files.", show_default="training, in the model folder"
        ),
    ] = None
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.", parser=read_by(parse_device))] = "cpu"
    check: Annotated[
        bool, typer.Option("--check", help="Check the data, write the recipe, and train nothing.")
    ] = False

    def refuse_contradictions(self) -> None:
        """Refuse a recipe with options that are written into one, and folders without their like.

        Raises:
            RecipeError: naming them.
        """
        if self.recipe is not None:
            given = [
                f"--{field.name}"
                for field in fields(self)
                if field.name not in _OF_RECIPES and getattr(self, field.name) != field.default
            ]
            if given:
                raise RecipeError(f"{', '.join(given)}: the recipe {self.recipe} says that; edit it there")
        elif self.images is None or self.labels is None or self.out is None:
            raise RecipeError("give a recipe, or --images, --labels and --out")


def make_recipe(request: TrainRequest, say: Callable[[str], None]) -> TrainRecipe:
    """The recipe of folders: what was asked for, and defaults.

    Raises:
        RecipeError: if the classes cannot be read, or there are none.
    """
    from hiresseg.training.classes import read_classes
    from hiresseg.training.loop import Schedule
    from hiresseg_pipelines.train_recipe import DataPart, ModelPart, TrainRecipe

    assert request.images
    assert request.labels
    assert request.out
    found = read_classes(request.classes) if request.classes else _find_classes(request, say)
    network = parse_network(request.network)
    rate = 2e-3 if network.library == "hiresseg" else 5e-4
    return TrainRecipe(
        DataPart(str(request.images), str(request.labels)),
        ModelPart(str(request.out), request.out.resolve().name, request.licence),
        found,
        network,
        Schedule(request.steps, rate, validate_every=max(1, request.steps // 10)),
    )


def parse_network(text: str) -> NetworkPart:
    """`FCN`, or an architecture of smp with its encoder: `Unet:resnet18`.

    Raises:
        RecipeError: if there is no such network.
    """
    from hiresseg.models.smp import ARCHITECTURES
    from hiresseg_pipelines.train_recipe import NetworkPart

    name, _, encoder = text.partition(":")
    if text == "FCN":
        return NetworkPart()
    if name not in ARCHITECTURES:
        raise RecipeError(
            f"--network {text!r:.80} is none; use FCN, or one of {', '.join(ARCHITECTURES)} with its "
            "encoder, as in Unet:resnet18"
        )
    return NetworkPart("smp", name, arguments={"encoder_name": encoder or "resnet18"})


def _find_classes(request: TrainRequest, say: Callable[[str], None]) -> tuple[LabelClass, ...]:
    """Classes from the values that the labels hold; of 0 and 255 alone, 255 is one too."""
    from hiresseg.training.cells import find_values
    from hiresseg.training.classes import MAX_CLASSES, classes_of_values
    from hiresseg.training.pairs import find_files, open_pairs, refuse

    assert request.images
    assert request.labels
    files, faults = find_files(request.images, request.labels)
    pairs, wrong = open_pairs(files)
    refuse([*faults, *wrong], "these files")
    values: Counter[int] = Counter()
    for pair in pairs:
        assert pair
        values.update(find_values(pair.labels))
    if len(values) > MAX_CLASSES:
        raise RecipeError(
            f"{request.labels}: the labels hold {len(values)} values, which can hardly be classes; write the "
            "number of the class into each pixel, lossless, and name them with --classes"
        )
    classes = classes_of_values(tuple(values))
    say("classes found: " + ", ".join(f"{entry.value} {entry.name}" for entry in classes))
    if set(values) == {0, 255}:
        say("255 is taken for a class here, not for 'unknown', since 0 and 255 are all there is")
    return classes
