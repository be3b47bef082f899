"""What a trained cascade is worth on the validation strip, and what each of its parts adds."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from hiresseg.geometry import TileGrid, Window
from hiresseg.selection import select_tiles
from hiresseg.training.losses import IGNORE
from hiresseg.training.tiles import segment_strip
from hiresseg_pipelines.cascade_material import Material, coarsen, read_whole
from hiresseg_pipelines.cascade_recipe import CascadeRecipe

BOUNDARY_PX = 4
"""Radius of the band around true boundaries in which boundary accuracy is counted."""


def score_cascade(
    recipe: CascadeRecipe, coarse: nn.Module, refiner: nn.Module, material: Material
) -> dict[str, dict[str, float]]:
    """Figures of merit on the validation pair, by row of the model card.

    Returns:
        For each row IoU, precision, recall and boundary accuracy, and where tiles are chosen their share.
    """
    image, labels = read_whole(recipe.data.validation_image, recipe.data.validation_labels)
    level, lattice = recipe.coarse.level, recipe.refine.lattice
    stored = (
        segment_strip(coarse, material.normalise(coarsen(image, level).float()), recipe.coarse.lattice) * 255
    ).round()
    prior = interpolate(stored[None] / 255, scale_factor=2**level, mode="bilinear")[0]
    selected = _select(stored, recipe)
    images = material.normalise(image.float())
    answers = {
        "coarse alone": prior,
        "refiner everywhere": segment_strip(refiner, images, lattice, prior=prior),
        "cascade": segment_strip(refiner, images, lattice, prior=prior, selected=selected),
        "refiner, prior blanked": segment_strip(refiner, images, lattice, prior=torch.full_like(prior, 0.5)),
        "refiner, truth as prior": segment_strip(
            refiner, images, lattice, prior=(labels == 1).float()[None] * 0.9 + 0.05
        ),
    }
    rows = {name: score_mask(prob[0] > 0.5, labels) for name, prob in answers.items()}
    rows["cascade"]["share_refined"] = float(selected.mean())
    rule, mask = best_threshold(material.image, material.labels, image)
    rows[f"threshold: {rule}"] = score_mask(mask, labels)
    return rows


def score_mask(found: Bool[Tensor, "H W"], labels: UInt8[Tensor, "H W"]) -> dict[str, float]:
    """IoU, precision and recall of the foreground, and the share of right pixels near true boundaries."""
    known, true = labels != IGNORE, labels == 1
    hits = (found & true & known).sum().item()
    band = near_boundary(true, BOUNDARY_PX) & known
    return {
        "iou": hits / max(1, ((found | true) & known).sum().item()),
        "precision": hits / max(1, (found & known).sum().item()),
        "recall": hits / max(1, (true & known).sum().item()),
        "boundary": ((found == true) & band).sum().item() / max(1, band.sum().item()),
    }


def near_boundary(mask: Bool[Tensor, "H W"], radius_px: int) -> Bool[Tensor, "H W"]:
    """Pixels with a pixel of the other class within `radius_px` rows and columns."""
    window = 2 * radius_px + 1
    value = mask.float()[None]
    grown = max_pool2d(value, window, 1, radius_px)
    shrunk = -max_pool2d(-value, window, 1, radius_px)
    return (grown != shrunk)[0]


def best_threshold(
    image: UInt8[Tensor, "3 H W"], labels: UInt8[Tensor, "H W"], unseen: UInt8[Tensor, "3 h w"]
) -> tuple[str, Bool[Tensor, "h w"]]:
    """The one rule "colour feature above (or below) a threshold" with the best IoU on a labelled image.

    Returns:
        The rule in words, and its mask of the unseen image.
    """
    true = labels == 1
    best = (-1.0, "", torch.zeros(unseen.shape[1:], dtype=torch.bool))
    theirs = _colour_features(unseen)
    for name, feature in _colour_features(image).items():
        for cut in torch.quantile(feature.flatten()[::97], torch.linspace(0.02, 0.98, 49)).tolist():
            for sign, word in ((1, "above"), (-1, "below")):
                iou = score_iou(sign * feature > sign * cut, true)
                if iou > best[0]:
                    best = (iou, f"{name} {word} {cut:.3f}", sign * theirs[name] > sign * cut)
    return best[1], best[2]


def score_iou(found: Bool[Tensor, "H W"], true: Bool[Tensor, "H W"]) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    return (found & true).sum().item() / max(1, (found | true).sum().item())


def _colour_features(image: UInt8[Tensor, "3 H W"]) -> dict[str, Float[Tensor, "H W"]]:
    red, green, blue = image.float()
    total = (red + green + blue).clamp(min=1)
    high, low = image.float().amax(0), image.float().amin(0)
    return {
        "red": red,
        "green": green,
        "blue": blue,
        "brightness": total / 3,
        "share of red": red / total,
        "share of green": green / total,
        "share of blue": blue / total,
        "excess green": (2 * green - red - blue) / total,
        "saturation": (high - low) / high.clamp(min=1),
    }


def _select(stored: Float[Tensor, "1 h w"], recipe: CascadeRecipe) -> np.ndarray:
    """The tiles that a run would choose after the coarse stage."""
    array = stored.to(torch.uint8).numpy()
    factor = 2 ** (recipe.coarse.level - recipe.refine.level)
    height, width = array.shape[1:]
    grid = TileGrid(recipe.refine.tile_px, recipe.refine.overlap_px, height * factor, width * factor)

    def read(window: Window) -> np.ndarray:
        rows, cols = window.slices_in(Window(0, 0, height, width))
        return array[:, rows, cols]

    return select_tiles(read, (height, width), grid, factor, recipe.model.refine_above)
