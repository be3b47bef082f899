"""Trains the cascade of a recipe and writes its model folder.

Four trainings, one after the other, each of which goes on where it was killed: the coarse network; two of its
kind that see one half of the rows each; the refiner, which reads what those two say about the other half.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from jaxtyping import Float, UInt8
from numpy.random import Generator, default_rng
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hiresseg.models import ClassInfo, ModelSpec, NetworkConfig, save_model
from hiresseg.models.cascade import CoarseNet, RefineNet
from hiresseg.training.augment import disturb_colours
from hiresseg.training.crops import CropRule, Crops, Strip
from hiresseg.training.loop import Schedule, train
from hiresseg.training.losses import cross_entropy_and_dice
from hiresseg.training.priors import PriorRule, draw_priors
from hiresseg.training.tiles import segment_strip
from hiresseg_pipelines.cascade_material import Material, coarsen, load_material
from hiresseg_pipelines.cascade_recipe import CascadeRecipe, StagePart
from hiresseg_pipelines.cascade_scores import score_cascade, score_mask

CONTEXT_PX = 256
"""Columns before the held-back ones that networks see when they are validated there."""
NUM_DISTURBED = 2
"""Answers of the fold networks about a disturbed image, beside that about the image as it is."""


def train_coarse(
    material: Material, part: StagePart, rows: slice, schedule: Schedule, work: Path
) -> nn.Module:
    """Trains a coarse network on some rows of the scene."""
    strip = _training_strip(material, rows)
    rule = CropRule(part.crop_px, 2.0**part.level)
    context = material.around_held_back(CONTEXT_PX)
    images = material.normalise(coarsen(material.image[:, :, context], part.level).float())[None]

    def loss(network: nn.Module, rng: Generator) -> Tensor:
        crops = strip.draw(rule, part.batch, rng)
        return cross_entropy_and_dice(network(_as_input(material, crops, rng)), crops.labels)

    def validate(network: nn.Module) -> float:
        logits = interpolate(
            network(images), scale_factor=2**part.level, mode="bilinear", align_corners=False
        )
        return _score_held_back(logits, context, material)

    torch.manual_seed(0)
    network = CoarseNet(part.widths).to(memory_format=torch.channels_last)
    return train(network, loss, validate, schedule, checkpoint=work, report=_report).network


@dataclass(frozen=True, slots=True)
class Before:
    """What the refiner is given of the stage before it."""

    network: nn.Module
    """The coarse network, with whose weights the refiner begins."""
    answer: Float[Tensor, "1 H W"]
    """Its probability of the foreground, upsampled; the refiner is validated on it."""
    unseen: UInt8[Tensor, "P H W"]
    """Answers of networks that never saw the pixels they are about; the refiner is trained on them."""


def train_refiner(material: Material, part: StagePart, before: Before, work: Path) -> nn.Module:
    """Trains the refiner on answers about unseen pixels, and on less than that."""
    strip = _training_strip(material, slice(None), before.unseen)
    rule = CropRule(part.crop_px, 2.0**part.level)
    context = material.around_held_back(CONTEXT_PX)
    images = material.normalise(material.image[:, :, context].float())[None]

    def loss(network: nn.Module, rng: Generator) -> Tensor:
        crops = strip.draw(rule, part.batch, rng)
        priors = draw_priors(crops.labels, crops.priors, PriorRule(), rng)
        return cross_entropy_and_dice(network(_as_input(material, crops, rng), priors), crops.labels)

    def validate(network: nn.Module) -> float:
        return _score_held_back(network(images, before.answer[None, :, :, context]), context, material)

    torch.manual_seed(0)
    network = RefineNet(part.widths).to(memory_format=torch.channels_last)
    begin_with(network, before.network)
    schedule = Schedule(part.steps, part.learning_rate, ema_steps=100.0, seed=3)
    return train(network, loss, validate, schedule, checkpoint=work, report=_report).network


def begin_with(refiner: nn.Module, coarse: nn.Module) -> None:
    """Copies all weights of the coarse network that have their like: what a roof is need not be learnt twice.

    The stem (which also reads a prior) and the head (delta and gate) differ in shape, and stay as they are.
    """
    own, theirs = refiner.state_dict(), coarse.state_dict()
    own |= {name: value for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    refiner.load_state_dict(own)


def answer_coarsely(
    material: Material, network: nn.Module, part: StagePart, image: UInt8[Tensor, "C H W"]
) -> UInt8[Tensor, "1 H W"]:
    """What the coarse network says of an image, as the refiner will be given it: in bytes, upsampled."""
    small = material.normalise(coarsen(image, part.level).float())
    prob = segment_strip(network, small, part.lattice)
    stored = (prob * 255).round()[None]
    return interpolate(stored, scale_factor=2**part.level, mode="bilinear")[0].round().to(torch.uint8)


def answer_out_of_fold(material: Material, part: StagePart, folds: list[nn.Module]) -> UInt8[Tensor, "P H W"]:
    """Answers about every row by the network that was not trained on it."""
    middle = material.image.shape[1] // 2
    rng = default_rng(17)
    images = [material.image]
    images += [_disturb(material.image, rng) for _ in range(NUM_DISTURBED)]
    planes = []
    for image in images:
        upper, lower = (answer_coarsely(material, fold, part, image) for fold in reversed(folds))
        planes.append(torch.cat([upper[:, :middle], lower[:, middle:]], dim=1))
    return torch.cat(planes)


def train_cascade(recipe: CascadeRecipe, work: Path) -> tuple[nn.Module, nn.Module, Material]:
    """All four trainings; each is skipped where `work` holds it already."""
    material, part = load_material(recipe), recipe.coarse
    middle = material.image.shape[1] // 2
    schedule = Schedule(part.steps, part.learning_rate, validate_every=25)
    coarse = train_coarse(material, part, slice(None), schedule, work / "coarse.pt")
    folds = [
        train_coarse(
            material,
            part,
            rows,
            Schedule(part.fold_steps, part.learning_rate, validate_every=25, seed=1 + i),
            work / f"fold{i}.pt",
        )
        for i, rows in enumerate((slice(0, middle), slice(middle, None)))
    ]
    answer = answer_coarsely(material, coarse, part, material.image).float() / 255
    before = Before(coarse, answer, answer_out_of_fold(material, part, folds))
    refiner = train_refiner(material, recipe.refine, before, work / "refine.pt")
    return coarse, refiner, material


def write_model(
    recipe: CascadeRecipe,
    networks: tuple[nn.Module, nn.Module],
    material: Material,
    scores: dict[str, float],
) -> None:
    """Writes the model folder of a recipe, weights in half precision."""
    parts = recipe.coarse, recipe.refine
    spec = ModelSpec(
        name=recipe.model.name,
        bands=("red", "green", "blue"),
        classes=(ClassInfo("background", (0, 0, 0)), ClassInfo(recipe.model.class_name, recipe.model.color)),
        activation="sigmoid",
        mean=tuple(round(v, 4) for v in material.mean.flatten().tolist()),
        std=tuple(round(v, 4) for v in material.std.flatten().tolist()),
        stages=tuple(part.lattice for part in parts),
        pixel_size_m=recipe.model.pixel_size_m,
        refine_above=recipe.model.refine_above,
        licence=recipe.model.licence,
        description=recipe.model.description,
        scores=scores,
    )
    configs = [
        NetworkConfig("hiresseg", type(network).__name__, {"widths": list(part.widths)})
        for network, part in zip(networks, parts, strict=True)
    ]
    save_model(recipe.model.folder, spec, networks, configs, dtype="float16")


def _disturb(image: UInt8[Tensor, "C H W"], rng: Generator) -> UInt8[Tensor, "C H W"]:
    return disturb_colours(image[None].float(), rng)[0].to(torch.uint8)


def _training_strip(material: Material, rows: slice, answers: Tensor | None = None) -> Strip:
    cols = slice(0, material.held_back.start)
    priors = None if answers is None else answers[:, rows, cols]
    return Strip(material.image[:, rows, cols], material.labels[rows, cols], priors)


def _as_input(material: Material, crops: Crops, rng: Generator) -> Tensor:
    images = material.normalise(disturb_colours(crops.images, rng), crops.valid)
    return images.contiguous(memory_format=torch.channels_last)


def _score_held_back(logits: Float[Tensor, "1 1 h w"], context: slice, material: Material) -> float:
    """IoU within the held-back columns, of logits for those and some before them."""
    found = logits[0, 0, :, material.held_back.start - context.start :] > 0
    return score_mask(found, material.labels[:, material.held_back])["iou"]


def _report(line: str) -> None:
    typer.echo(line)


def make_cascade(recipe: CascadeRecipe, work: Path) -> list[str]:
    """Trains the cascade of a recipe, scores it, and writes its model folder.

    Returns:
        A line of figures for each way to run it.
    """
    coarse, refiner, material = train_cascade(recipe, work)
    rows = score_cascade(recipe, coarse, refiner, material)
    cascade, first = rows["cascade"], rows["coarse alone"]
    scores = {"val_iou": cascade["iou"], "val_boundary": cascade["boundary"], "val_iou_coarse": first["iou"]}
    write_model(recipe, (coarse, refiner), material, {name: round(v, 4) for name, v in scores.items()})
    return [
        f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
        for name, figures in rows.items()
    ]
