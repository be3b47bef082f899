"""`hiresseg train`: a recipe, or folders that become one, and then a model folder.

A recipe with the sections `coarse` and `refine` is that of a cascade; any other is that of one network.
`python -m hiresseg_pipelines.train RECIPE --work FOLDER` does the same on a fixed number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from hiresseg.errors import RecipeError
from hiresseg_pipelines.cascade_recipe import SECTIONS, read_recipe
from hiresseg_pipelines.sections import read_document
from hiresseg_pipelines.train_cascade import make_cascade
from hiresseg_pipelines.train_model import prepare_training, train_model
from hiresseg_pipelines.train_recipe import TrainRecipe, parse_recipe, write_recipe
from hiresseg_pipelines.train_request import TrainRequest, make_recipe

Say = Callable[[str], None]


def train(request: TrainRequest, say: Say, should_stop: Callable[[], bool] = lambda: False) -> str:
    """Trains what was asked for.

    Args:
        request: as typed.
        say: takes the lines of progress.
        should_stop: asked after every step of a model of one network.

    Returns:
        What came of it, for people.

    Raises:
        RecipeError: if recipe, data or checkpoint are not as they should be; all faults of all files at once.
        Interrupted: if it should stop; the same call goes on from there.
    """
    request.refuse_contradictions()
    if request.recipe is None:
        recipe = make_recipe(request, say)
    else:
        document = read_document(request.recipe)
        if set(document) == SECTIONS:
            return _train_cascade(request, request.recipe)
        recipe = parse_recipe(document, str(request.recipe))
    prepared = prepare_training(recipe, say)
    try:
        if request.recipe is None:
            _keep_recipe(recipe, say)
        if request.check:
            return "the data can be trained on"
        folder = Path(recipe.model.folder)
        confusion = train_model(
            prepared, request.work or folder / "training", request.device, say, should_stop
        )
    finally:
        prepared.material.close()
    ious = zip(recipe.classes, confusion.iou.tolist(), strict=True)
    each = ", ".join(f"{entry.name} {iou:.3f}" for entry, iou in ious)
    return f"{folder}: mean IoU {confusion.mean_iou:.3f} ({each})\nhiresseg run SCENE --model {folder}"


def _train_cascade(request: TrainRequest, path: Path) -> str:
    recipe = read_recipe(path)
    if request.device != "cpu":
        raise RecipeError(
            f"--device {request.device}: a cascade is trained on the CPU; leave that option out"
        )
    if request.check:
        return "the recipe of this cascade can be read"
    rows = make_cascade(recipe, request.work or Path(f"{recipe.model.folder}.training"))
    return "\n".join([*rows, f"hiresseg run SCENE --model {recipe.model.folder}"])


def _keep_recipe(recipe: TrainRecipe, say: Say) -> None:
    path, text = Path(recipe.model.folder) / "recipe.toml", write_recipe(recipe)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise RecipeError(
            f"{path} stands there and says something else; go on with `hiresseg train {path}`, or name "
            "another folder with --out"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    say(f"recipe: {path}")


def main(
    recipe: Annotated[Path, typer.Argument(help="A recipe like pipelines/recipes/cascade-buildings.toml.")],
    work: Annotated[
        Path, typer.Option(help="Where checkpoints are kept; a killed training goes on from there.")
    ],
    threads: Annotated[int, typer.Option(help="Cores to compute with.")] = 1,
) -> None:
    """Train what a recipe says, score it, and write its model folder."""
    torch.set_num_threads(threads)
    typer.echo(train(TrainRequest(recipe, work=work), typer.echo))


if __name__ == "__main__":
    typer.run(main)
