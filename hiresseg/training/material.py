"""Training and validation scenes: found, checked, told apart, and known by where their classes lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hiresseg.geometry import Window
from hiresseg.scenes import band_statistics
from hiresseg.scenes.part import ALIGNED_PX, PartOfScene
from hiresseg.training.cells import Cells, count_cells
from hiresseg.training.classes import LabelClass, index_table
from hiresseg.training.pairs import Pair, find_files, open_pairs, refuse

VALIDATION_PX = 4096
"""Longest edge of what is validated of one scene: of larger ones the part with most labels."""
_STATISTICS_SCENES = 32
_SHOWN_VALUES = 5


@dataclass(frozen=True, slots=True)
class Sources:
    """Where files are."""

    images: Path
    labels: Path
    validation_images: Path | None = None
    validation_labels: Path | None = None
    held_back: float = 0.2
    bands: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """All pairs, ready to be drawn from."""

    training: tuple[Pair, ...]
    cells: tuple[Cells, ...]
    """Of each training pair."""
    validation: tuple[Pair, ...]

    @property
    def pixels(self) -> np.ndarray:
        """Labelled training pixels of each class."""
        total: np.ndarray = np.sum([cells.pixels for cells in self.cells], axis=0)
        return total

    @property
    def pixel_size_m(self) -> tuple[float, float] | None:
        """Smallest and largest pixel of the training scenes; None unless all of them know it."""
        sizes = [pair.image.georef.pixel_size_m for pair in self.training]
        known = [size for size in sizes if size is not None]
        return (min(known), max(known)) if len(known) == len(sizes) else None

    def close(self) -> None:
        """Close all scenes."""
        for pair in (*self.training, *self.validation):
            pair.image.close()
            pair.labels.close()


def load_material(
    sources: Sources, classes: Sequence[LabelClass], say: Callable[[str], None] = lambda _: None
) -> Material:
    """Finds, opens and checks everything; reads each label raster once.

    Args:
        sources: where files are.
        classes: what labels may say.
        say: takes a line about what is done.

    Raises:
        RecipeError: with all faults of all files.
    """
    training, validation, faults = _open(sources)
    if not faults and not validation:
        training, validation, faults = _hold_back(training, sources.held_back)
    if faults:
        for pair in (*training, *validation):
            _count(pair, classes, faults)
        refuse(faults, "these files")
    say(f"{len(training)} scenes to train on, {len(validation)} to validate on; reading their labels")
    cells = [_count(pair, classes, faults) for pair in training]
    validation_cells = [_count(pair, classes, faults) for pair in validation]
    total = np.sum([c.pixels for c in cells], axis=0)
    faults += [
        f"class {entry.value} {entry.name}: no training scene has a pixel of it; leave it out, or label some"
        for entry, count in zip(classes, total, strict=True)
        if count == 0 and total.any()
    ]
    refuse(faults, "these labels")
    largest = [_largest_part(*both) for both in zip(validation, validation_cells, strict=True)]
    return Material(tuple(training), tuple(cells), tuple(largest))


def pool_statistics(pairs: Sequence[Pair]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of each band over the scenes, each counting the same; of many scenes some."""
    step = -(-len(pairs) // _STATISTICS_SCENES)
    found = [band_statistics(pair.image) for pair in pairs[::step]]
    means, variances = np.stack([m for m, _ in found]), np.stack([s**2 for _, s in found])
    mean = means.mean(0)
    std = np.sqrt(variances.mean(0) + ((means - mean) ** 2).mean(0))
    return tuple(round(float(v), 6) for v in mean), tuple(max(round(float(v), 6), 1e-6) for v in std)


def _open(sources: Sources) -> tuple[list[Pair], list[Pair], list[str]]:
    files, faults = find_files(sources.images, sources.labels)
    count = len(files)
    if sources.validation_images is not None and sources.validation_labels is not None:
        more, wrong = find_files(sources.validation_images, sources.validation_labels)
        files, faults = files + more, faults + wrong
        twice = {path.resolve() for path, _ in files[:count]} & {path.resolve() for path, _ in more}
        faults += [f"{path}: is trained and validated on; keep it in one of both" for path in sorted(twice)]
    # all at once, so that each is compared with the first
    pairs, wrong = open_pairs(files, sources.bands)
    training, validation = ([pair for pair in part if pair] for part in (pairs[:count], pairs[count:]))
    return training, validation, faults + wrong


def _hold_back(pairs: list[Pair], share: float) -> tuple[list[Pair], list[Pair], list[str]]:
    if len(pairs) > 1:
        every = max(2, round(1 / share))
        held = {i for i in range(len(pairs)) if i % every == every - 1} or {len(pairs) - 1}
        return [p for i, p in enumerate(pairs) if i not in held], [pairs[i] for i in sorted(held)], []
    (pair,) = pairs
    height, width = pair.image.height, pair.image.width
    long = max(height, width)
    at = min(max(1, round(long * (1 - share) / ALIGNED_PX)), (long - 1) // ALIGNED_PX) * ALIGNED_PX
    if at == 0:
        fault = (
            f"{pair.image.uri}: is the only scene, and of {height} x {width} pixels nothing can be held back "
            f"for validation; name scenes to validate on"
        )
        return [], [], [fault]
    if width >= height:
        first, second = Window(0, 0, height, at), Window(0, at, height, width - at)
    else:
        first, second = Window(0, 0, at, width), Window(at, 0, height - at, width)
    return [_part(pair, first)], [_part(pair, second)], []


def _part(pair: Pair, window: Window) -> Pair:
    return replace(pair, image=PartOfScene(pair.image, window), labels=PartOfScene(pair.labels, window))


def _count(pair: Pair, classes: Sequence[LabelClass], faults: list[str]) -> Cells:
    cells, strange = count_cells(pair.labels, index_table(classes), len(classes))
    if strange:
        shown = ", ".join(
            f"{value} ({count} pixels)" for value, count in sorted(strange.items())[:_SHOWN_VALUES]
        )
        more = f" and {len(strange) - _SHOWN_VALUES} more" if len(strange) > _SHOWN_VALUES else ""
        known = ", ".join(f"{entry.value} {entry.name}" for entry in classes)
        faults.append(
            f"{pair.labels.uri}: holds {shown}{more}; classes are {known}, and 255 is unknown: name those "
            f"values too, or make them 255"
        )
    elif not cells.counts.any():
        faults.append(f"{pair.labels.uri}: no pixel is labelled, all are 255; label some, or move it away")
    return cells


def _largest_part(pair: Pair, cells: Cells) -> Pair:
    """The pair, or of a larger one the part with most labelled pixels."""
    height, width = pair.image.height, pair.image.width
    if max(height, width) <= VALIDATION_PX:
        return pair
    step = max(1, VALIDATION_PX // cells.edge_px)
    labelled = cells.counts.sum(2, dtype=np.int64)
    best = max(
        (
            (row, col)
            for row in range(0, labelled.shape[0], step)
            for col in range(0, labelled.shape[1], step)
        ),
        key=lambda at: labelled[at[0] : at[0] + step, at[1] : at[1] + step].sum(),
    )
    top, left = best[0] * cells.edge_px, best[1] * cells.edge_px
    edge = step * cells.edge_px
    return _part(pair, Window(top, left, edge, edge).intersect(Window(0, 0, height, width)))
