"""The card of a trained model: README.md with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import json
from pathlib import Path

from hiresseg.metrics import Confusion
from hiresseg.models import ModelSpec
from hiresseg.training.material import Material
from hiresseg_pipelines.train_recipe import TrainRecipe

# identifiers of the Hub; whatever else is said is "other" with its name
_LICENCES = frozenset(
    {"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "odbl"}
)


def write_card(
    path: Path, spec: ModelSpec, recipe: TrainRecipe, material: Material, confusion: Confusion
) -> None:
    """Writes the card: what the model is, what it was made of, what it is worth.

    Args:
        path: of the file.
        spec: as the folder says it.
        recipe: how it was trained.
        material: what on.
        confusion: its validation.
    """
    sections = [
        _front_matter(spec),
        f"# {spec.name}\n\n{spec.description or 'A segmentation model trained with hiresseg.'}",
        f"```bash\nhiresseg run SCENE --model {path.parent.name}\n```",
        _scores(spec, recipe, material, confusion),
        _origin(spec, recipe, material),
        _limits(spec, material),
    ]
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _front_matter(spec: ModelSpec) -> str:
    lines = ["library_name: hiresseg", "pipeline_tag: image-segmentation", "tags: [hiresseg, segmentation]"]
    if spec.licence.lower() in _LICENCES:
        lines.append(f"license: {spec.licence.lower()}")
    elif spec.licence != "not stated":
        lines += ["license: other", f"license_name: {json.dumps(spec.licence, ensure_ascii=False)}"]
    return "\n".join(["---", *lines, "---"])


def _scores(spec: ModelSpec, recipe: TrainRecipe, material: Material, confusion: Confusion) -> str:
    rows = [
        f"| {index} | {entry.name} | {pixels} | {found} | {iou:.3f} |"
        for index, (entry, pixels, found, iou) in enumerate(
            zip(
                spec.classes,
                material.pixels.tolist(),
                confusion.counts.sum(1).tolist(),
                confusion.iou.tolist(),
                strict=True,
            )
        )
    ]
    how = (
        "scenes of their own"
        if recipe.data.validation_images
        else "a part of the data that was held back, and may resemble what was trained on"
    )
    worth = (
        f"Validated on {how}, by the engine that runs it. The best of several validations was kept by these "
        f"figures, which flatters them a little: mean IoU {confusion.mean_iou:.3f}, right pixels "
        f"{confusion.pixel_accuracy:.1%}."
    )
    head = ["| value | class | pixels trained on | validated on | IoU |", "|---|---|---|---|---|"]
    return "\n".join(["## What it is worth", "", worth, "", *head, *rows])


def _origin(spec: ModelSpec, recipe: TrainRecipe, material: Material) -> str:
    weights = {"none": "random weights", "imagenet": "an encoder that saw ImageNet"}
    began = weights.get(recipe.network.weights, "the weights of another model")
    made = (
        f"`{recipe.network.name}`, begun with {began}, trained on {len(material.training)} scenes for at "
        f"most {recipe.schedule.steps} steps with seed {recipe.schedule.seed}. All settings: "
        "[recipe.toml](recipe.toml); names and digests of the data: [data.json](data.json); how it went: "
        "[curves.png](curves.png)."
    )
    terms = "It must be one that the data, and the weights it began with, allow."
    if spec.licence == "not stated":
        terms = "Ask who trained it before you use it."
    return f"## Origin and licence\n\n{made}\n\nLicence: {spec.licence}. {terms}"


def _limits(spec: ModelSpec, material: Material) -> str:
    size = "an unknown size"
    if spec.pixel_size_m is not None:
        size = " to ".join(f"{edge:g}" for edge in sorted(set(spec.pixel_size_m))) + " m"
    reads = (
        f"- Reads {', '.join(spec.bands)} as {', '.join(spec.dtypes)}, at pixels of {size}; "
        f"{len(material.training)} scenes were seen, so expect less elsewhere."
    )
    return f"## Limits\n\n{reads}\n- Nothing was measured beyond the table above."
