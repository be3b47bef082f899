"""Scenes and their labels, found by name, opened and compared: every fault of every file, all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hiresseg.errors import HiressegError, RecipeError
from hiresseg.geometry import Georef
from hiresseg.scenes import RasterScene, Scene, open_scene

IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".vrt"})
_ENDINGS = ("_mask", "_masks", "_label", "_labels", "-mask", "-label")
_SHOWN = 50
_LABEL_DTYPES = frozenset({"uint8", "uint16", "uint32", "int8", "int16", "int32"})


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and the raster of its labels, both open, of one size."""

    name: str
    image: Scene
    labels: Scene
    """One band of integers, as stored."""


def find_files(images: Path, labels: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pairs of files of the same name (but for the suffix, and `_mask` or `_label` after it), and faults.

    Args:
        images: a folder, or one file.
        labels: a folder, or the one file that goes with it.
    """
    if images.is_file() and labels.is_file():
        return [(images, labels)], []
    faults = [f"{folder}: is no folder; name one" for folder in (images, labels) if not folder.is_dir()]
    if faults:
        return [], faults
    pictures, masks = _by_name(images, faults), _by_name(labels, faults)
    both = sorted(pictures.keys() & masks.keys())
    faults += [
        f"{pictures[name]}: has no labels of that name in {labels}; add them, or move the image away"
        for name in sorted(pictures.keys() - masks.keys())
    ]
    faults += [
        f"{masks[name]}: has no image of that name in {images}; add it, or move the labels away"
        for name in sorted(masks.keys() - pictures.keys())
    ]
    if not both:
        faults.append(f"{images} and {labels}: no two files have the same name; give labels their image's")
    return [(pictures[name], masks[name]) for name in both], faults


def open_pairs(
    files: Iterable[tuple[Path, Path]], bands: Sequence[int] | None = None
) -> tuple[list[Pair | None], list[str]]:
    """Opens them, and says which of them do not belong together.

    Args:
        files: image and labels.
        bands: which of the image to read, from 1; all if None.

    Returns:
        A pair for each, None where it has a fault, and all faults.
    """
    pairs: list[Pair | None] = []
    first: Scene | None = None
    faults: list[str] = []
    for image_path, labels_path in files:
        image = _try_open(lambda path=image_path: open_scene(path, bands=bands), faults)  # type: ignore[misc]
        labels = _try_open(lambda path=labels_path: RasterScene(path, as_stored=True), faults)  # type: ignore[misc]
        if image is None or labels is None:
            pairs.append(None)
            continue
        found = [*_faults_of(image, labels), *(_faults_beside(image, first) if first else ())]
        faults += found
        first = first or image
        pairs.append(None if found else Pair(image_path.stem, image, labels))
    return pairs, faults


def refuse(faults: Sequence[str], what: str) -> None:
    """Raise all faults as one error, if there are any.

    Raises:
        RecipeError: naming each.
    """
    if faults:
        more = [f"... and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        raise RecipeError(
            "\n  ".join([f"{what} cannot be trained on, {len(faults)} faults:", *faults[:_SHOWN], *more])
        )


def _by_name(folder: Path, faults: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        name = next((path.stem.removesuffix(e) for e in _ENDINGS if path.stem.endswith(e)), path.stem)
        if name in found:
            faults.append(f"{path}: has the same name as {found[name]}; rename one, or move it away")
        found.setdefault(name, path)
    return found


def _try_open(opening: Callable[[], Scene], faults: list[str]) -> Scene | None:
    try:
        return opening()
    except HiressegError as error:
        faults.append(str(error))
        return None


def _faults_of(image: Scene, labels: Scene) -> list[str]:
    faults = []
    if labels.num_bands != 1 or labels.dtype.name not in _LABEL_DTYPES:
        faults.append(
            f"{labels.uri}: labels are one band of whole numbers, this has {labels.num_bands} of "
            f"{labels.dtype.name}; write the number of the class into each pixel"
        )
    if (image.height, image.width) != (labels.height, labels.width):
        faults.append(
            f"{labels.uri}: is {labels.height} x {labels.width}, its image {image.uri} "
            f"{image.height} x {image.width}; bring both onto one grid"
        )
    elif (difference := _difference(image.georef, labels.georef)) is not None:
        faults.append(f"{labels.uri}: {difference} from its image {image.uri}; warp it onto the image's grid")
    return faults


def _difference(image: Georef, labels: Georef) -> str | None:
    """What tells the two places apart, or None; labels that say nothing lie where the image does."""
    if image.crs_wkt and labels.crs_wkt and image.crs_wkt != labels.crs_wkt:
        from rasterio.crs import CRS

        one, other = CRS.from_wkt(image.crs_wkt), CRS.from_wkt(labels.crs_wkt)
        if one != other:
            return f"its CRS ({other.to_string():.60}) is another than that ({one.to_string():.60})"
    if image.transform is not None and labels.transform is not None:
        there = ~image.transform @ labels.transform
        shift = max(abs(there.c), abs(there.f))
        turn = max(abs(there.a - 1), abs(there.b), abs(there.d), abs(there.e - 1))
        if shift > 0.5 or turn > 1e-3:
            return f"its grid lies {shift:.1f} pixels and {turn:.2%} of scale or turn away"
    return None


def _faults_beside(image: Scene, first: Scene) -> list[str]:
    if (image.num_bands, image.dtype) == (first.num_bands, first.dtype):
        return []
    here, there = (f"{scene.num_bands} bands of {scene.dtype.name}" for scene in (image, first))
    fault = (
        f"{image.uri}: has {here}, {first.uri} {there}; one model reads one kind: convert, or choose bands"
    )
    return [fault]
