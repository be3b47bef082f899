"""Trains one network as a recipe says, and writes the folder that `hiresseg run --model` takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor, nn

from hiresseg.forward import ForwardSetting, available_cpus
from hiresseg.metrics import Confusion
from hiresseg.models import ClassInfo, Model, ModelSpec, NetworkConfig, StageSpec, save_model
from hiresseg.models.config import ModelConfig
from hiresseg.models.networks import as_segmenter
from hiresseg.models.package import find_device, plan_network
from hiresseg.models.smp import imagenet_statistics
from hiresseg.training.classes import index_table
from hiresseg.training.loop import Point, train
from hiresseg.training.material import Material, Sources, load_material, pool_statistics
from hiresseg.training.samples import Sampler
from hiresseg.training.start import begin_network
from hiresseg.training.validation import validate_model
from hiresseg.training.views import draw_views
from hiresseg_pipelines.train_card import write_card
from hiresseg_pipelines.train_curves import CurveWriter, draw_curves
from hiresseg_pipelines.train_recipe import TrainRecipe, write_recipe

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training that could begin."""

    recipe: TrainRecipe
    material: Material
    spec: ModelSpec
    config: NetworkConfig

    @property
    def model_config(self) -> ModelConfig:
        """As the model folder will say it."""
        return ModelConfig(self.spec, (self.config,), ("0.",))

    def data_record(self) -> dict[str, Any]:
        """What it is trained and validated on: names, sizes and digests."""
        return {
            "training": [_digests(pair.image, pair.labels) for pair in self.material.training],
            "validation": [_digests(pair.image, pair.labels) for pair in self.material.validation],
        }

    def identity(self) -> str:
        """What tells this training from another."""
        text = write_recipe(self.recipe) + json.dumps(self.data_record(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def prepare_training(recipe: TrainRecipe, say: Say) -> Prepared:
    """Checks data and network; trains nothing.

    Raises:
        RecipeError: naming every fault of the data.
        ModelError: if the network cannot be built for them.
    """
    data = recipe.data
    sources = Sources(
        Path(data.images),
        Path(data.labels),
        Path(data.validation_images) if data.validation_images else None,
        Path(data.validation_labels) if data.validation_labels else None,
        data.held_back,
        data.bands or None,
    )
    material = load_material(sources, recipe.classes, say)
    image = material.training[0].image
    arguments = {**recipe.network.arguments, "in_channels": image.num_bands, "classes": len(recipe.classes)}
    config = NetworkConfig(recipe.network.library, recipe.network.name, arguments)
    is_rgb = image.num_bands == 3 and image.dtype.name == "uint8"
    as_imagenet = recipe.network.weights == "imagenet" and is_rgb
    mean, std = imagenet_statistics() if as_imagenet else pool_statistics(material.training)
    names = image.band_names if len(set(image.band_names)) == image.num_bands else ()
    spec = ModelSpec(
        name=recipe.model.name,
        bands=names or tuple(f"band_{i + 1}" for i in range(image.num_bands)),
        classes=tuple(ClassInfo(entry.name, entry.color) for entry in recipe.classes),
        activation="softmax",
        mean=mean,
        std=std,
        stages=(StageSpec(0, recipe.model.tile_px, recipe.model.overlap_px, recipe.model.trim_px),),
        dtypes=(image.dtype.name,),
        pixel_size_m=material.pixel_size_m,
        licence=recipe.model.licence,
        description=recipe.model.description,
    )
    prepared = Prepared(recipe, material, spec, config)
    plan_network(prepared.model_config, 0)
    return prepared


def train_model(
    prepared: Prepared, work: Path, device: str, say: Say, should_stop: Callable[[], bool]
) -> Confusion:
    """Trains, and writes the model folder.

    Args:
        prepared: what to train on what.
        work: folder of checkpoint and event files.
        device: where the network is trained.
        say: takes the lines of progress.
        should_stop: asked after every step.

    Returns:
        The validation of the model that was written.

    Raises:
        Interrupted: if it should stop; the same call goes on from there.
        RecipeError: if the folder holds the checkpoint of another training.
    """
    recipe, material = prepared.recipe, prepared.material
    table = index_table(recipe.classes)
    sampler = Sampler(material.training, material.cells, table, recipe.data.balance)
    target = find_device(device)
    normalisation = prepared.spec.mean, prepared.spec.std

    def batch_loss(network: nn.Module, rng: Generator) -> Tensor:
        views = draw_views(sampler, recipe.views, recipe.data.batch, rng, normalisation)
        images = views.images.to(target, memory_format=torch.channels_last)
        return recipe.loss(_segmenter(prepared, network)(images, None), views.labels.to(target))

    def judge(network: nn.Module) -> Confusion:
        model = Model(prepared.spec, (_segmenter(prepared, network),))
        return validate_model(model, material.validation, table, _setting(device))

    torch.manual_seed(recipe.schedule.seed)
    network = begin_network(prepared.model_config, recipe.network.weights, say)
    network = network.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    count = sum(weight.numel() for weight in network.parameters())
    say(f"{recipe.network.name}: {count / 1e6:.2f} M weights, {recipe.schedule.steps} steps on {device}")
    with CurveWriter(work, say) as curves:
        trained = train(
            network,
            batch_loss,
            lambda network: judge(network).mean_iou,
            recipe.schedule,
            checkpoint=work / "checkpoint.pt",
            report=say,
            identity=prepared.identity(),
            on_point=curves.add,
            should_stop=should_stop,
        )
    confusion = judge(trained.network)
    _write_folder(prepared, trained.network, confusion, trained.curve)
    return confusion


def _write_folder(
    prepared: Prepared, network: nn.Module, confusion: Confusion, curve: tuple[Point, ...]
) -> None:
    folder = Path(prepared.recipe.model.folder)
    scores = {"val_mean_iou": confusion.mean_iou, "val_accuracy": confusion.pixel_accuracy}
    for entry, iou in zip(prepared.spec.classes, confusion.iou.tolist(), strict=True):
        if iou == iou:  # noqa: PLR0124 - NaN: neither there nor found
            scores[f"val_iou_{entry.name}"] = iou
    spec = replace(prepared.spec, scores={name: round(score, 4) for name, score in scores.items()})
    save_model(folder, spec, [network], [prepared.config])
    (folder / "recipe.toml").write_text(write_recipe(prepared.recipe), encoding="utf-8")
    (folder / "data.json").write_text(json.dumps(prepared.data_record(), indent=1) + "\n", encoding="utf-8")
    draw_curves(curve, folder / "curves.png")
    write_card(folder / "README.md", spec, prepared.recipe, prepared.material, confusion)


def _segmenter(prepared: Prepared, network: nn.Module) -> Any:
    return as_segmenter(network, prepared.model_config, 0)


def _setting(device: str) -> ForwardSetting:
    if device == "cpu":
        return ForwardSetting(workers=available_cpus())
    return ForwardSetting(device=device, workers=2, batch=8)


def _digests(image: Any, labels: Any) -> dict[str, Any]:
    """Names, sizes and digests, but no times: a copy of the data is the same data."""
    record = {}
    for what, scene in (("image", image), ("labels", labels)):
        state = scene.fingerprint()
        files = [{key: file[key] for key in ("name", "bytes", "blake2b")} for file in state.get("files", [])]
        record[what] = {**state, "files": files}
    return record
