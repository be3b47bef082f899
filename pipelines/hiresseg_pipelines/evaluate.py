"""The flow of `hiresseg evaluate`: pairs of maps compared, one after the other, in bounded memory."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hiresseg.durable import write_durably
from hiresseg.errors import RecipeError, SceneError
from hiresseg.metrics import Comparison, ErrorMap, LabelSource, MetricSpec, SeamCounts
from hiresseg.metrics.comparison import windows_of
from hiresseg.models import ClassInfo
from hiresseg_pipelines.evaluate_maps import Grid, PartOf, RasterMap, align
from hiresseg_pipelines.evaluate_request import EvaluateRequest
from hiresseg_pipelines.evaluate_scores import describe_scores
from hiresseg_pipelines.evaluate_vector import VECTOR_SUFFIXES, PolygonMap
from hiresseg_pipelines.progress import PLAIN_SECONDS, Say

_LABEL_SUFFIXES = (".tif", ".tiff", ".png")
_COLORS = ((120, 124, 130), (230, 60, 40), (40, 110, 220), (250, 176, 5), (60, 160, 80), (150, 80, 200))


@dataclass(frozen=True, slots=True)
class _Pair:
    """What is compared, and what it is called."""

    name: str
    truth: LabelSource
    prediction: LabelSource
    outside: int
    """Pixels of the truth that the prediction does not cover: not compared."""
    seams: SeamCounts | None = None


def evaluate(request: EvaluateRequest, say: Say) -> dict[str, Any]:
    """All figures of a prediction, or of a model on a folder; also written to the request's folder.

    Raises:
        HiressegError: if a map or model is not what it should be, or maps cannot be aligned.
        RecipeError: if neither PREDICTION and TRUTH nor --model and --data are given.
    """
    _check(request)
    if request.out is not None:
        request.out.mkdir(parents=True, exist_ok=True)
    if request.panoptic:
        from hiresseg_pipelines.evaluate_panoptic import evaluate_panoptic

        assert request.prediction
        assert request.truth
        result = {"panoptic": evaluate_panoptic(request.prediction, request.truth, request.ignored)}
    else:
        result = _evaluate_classes(request, say)
    if request.out is not None:
        write_durably(request.out / "evaluation.json", json.dumps(result, indent=1).encode())
    return result


def _evaluate_classes(request: EvaluateRequest, say: Say) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    total: Comparison | None = None
    seams: SeamCounts | None = None
    names: tuple[ClassInfo, ...] = ()
    with tempfile.TemporaryDirectory(prefix="hiresseg-") as folder:
        for classes, pair in _pairs(request, Path(folder), say):
            names = classes
            spec = MetricSpec(len(classes), request.boundary_px, request.boundaries)
            errors = ErrorMap.of(pair.truth.height, pair.truth.width)
            advance = _steps(say, f"{pair.name}: comparing", pair.truth.height * pair.truth.width)
            try:
                one = Comparison.of(pair.truth, pair.prediction, spec, errors=errors, advance=advance)
            except SceneError:
                raise
            except ValueError as error:
                raise SceneError(
                    f"{pair.name}: {error}; name all with --classes, or say with --ignore what is none"
                ) from error
            images.append(
                {
                    "name": pair.name,
                    "height": pair.truth.height,
                    "width": pair.truth.width,
                    "pixels_outside": pair.outside,
                    **describe_scores(one, classes, pair.seams),
                }
            )
            if request.out is not None:
                from hiresseg_pipelines.evaluate_picture import write_error_picture

                path = request.out / f"{Path(pair.name).stem}.png"
                write_error_picture(path, errors, one.confusion, classes, title=pair.name)
            if total is None:
                total, seams = one, pair.seams
            else:
                total.merge(one)
                if seams is not None and pair.seams is not None:
                    seams.merge(pair.seams)
    assert total is not None
    return {
        "model": request.model,
        "ignore": request.ignored,
        "classes": [{"value": value, "name": info.name} for value, info in enumerate(names)],
        "total": describe_scores(total, names, seams),
        "images": images,
    }


def _check(request: EvaluateRequest) -> None:
    both_maps = request.prediction is not None and request.truth is not None
    both_data = request.model is not None and request.data is not None
    any_map = request.prediction is not None or request.truth is not None
    any_data = request.model is not None or request.data is not None
    if not (both_maps and not any_data) and not (both_data and not any_map):
        raise RecipeError("give either PREDICTION and TRUTH, or --model and --data")
    if request.seam and not both_data:
        raise RecipeError("--seam runs a model twice: give --model and --data with it")
    if request.panoptic and not both_maps:
        raise RecipeError("--panoptic compares two maps of ids: give PREDICTION and TRUTH with it")


def _pairs(
    request: EvaluateRequest, scratch: Path, say: Say
) -> Iterator[tuple[tuple[ClassInfo, ...], _Pair]]:
    if request.model is not None:
        yield from _answers(request, scratch, say)
        return
    assert request.prediction
    assert request.truth
    with closing(RasterMap(request.prediction, request.ignored)) as found:
        truth, size = _open_truth(request.truth, found.grid, request)
        pair = _align(
            request.prediction.name, found, found.grid, truth, (str(request.prediction), str(request.truth))
        )
        classes = _named(request.classes) or found.classes
        if not classes and isinstance(truth, RasterMap):
            classes = truth.classes
        yield classes or _count_classes(pair, size), pair
        if isinstance(truth, RasterMap):
            truth.close()


def _answers(
    request: EvaluateRequest, scratch: Path, say: Say
) -> Iterator[tuple[tuple[ClassInfo, ...], _Pair]]:
    """A model's answer to each image of a folder."""
    # torch is imported only here: maps are compared without
    from hiresseg.forward import ForwardSetting, available_cpus
    from hiresseg.models import load_model
    from hiresseg.scenes import open_scene
    from hiresseg_pipelines.evaluate_model import measure_seams, segment_scene

    assert request.data
    assert request.model
    files = _find_pairs(request.data)
    setting = ForwardSetting(request.device, workers=request.workers or available_cpus())
    model = load_model(request.model, device=request.device)
    classes = _named(request.classes) or model.spec.classes
    for image, label in files:
        with closing(open_scene(image)) as scene:
            pixels = scene.height * scene.width
            advance = _steps(say, f"{image.name}: segmenting", pixels)
            found = segment_scene(scene, model, setting, scratch / "labels.npy", advance)
            seams = None
            if request.seam:
                advance = _steps(say, f"{image.name}: segmenting, tiles shifted", pixels)
                seams = measure_seams(scene, model, setting, found, scratch / "shifted.npy", advance)
            grid = Grid(scene.height, scene.width, _crs_of(scene.georef.crs_wkt), scene.georef.transform)
            truth, _ = _open_truth(label, grid, request)
            pair = _align(image.name, found, grid, truth, (str(image), str(label)))
            yield (
                classes,
                _Pair(pair.name, pair.truth, pair.prediction, pair.outside, seams),
            )
            if isinstance(truth, RasterMap):
                truth.close()


def _crs_of(wkt: str | None) -> Any:
    from rasterio.crs import CRS

    return CRS.from_wkt(wkt) if wkt else None


def _open_truth(path: Path, grid: Grid, request: EvaluateRequest) -> tuple[RasterMap | PolygonMap, int]:
    """The truth, and how many classes it has at least."""
    if path.suffix.lower() in VECTOR_SUFFIXES:
        polygons = PolygonMap(path, grid, request.class_attribute)
        return polygons, polygons.num_classes
    return RasterMap(path, request.ignored), 0


def _align(
    name: str, found: LabelSource, grid: Grid, truth: RasterMap | PolygonMap, names: tuple[str, str]
) -> _Pair:
    here, there = align(grid, truth.grid, names)
    outside = truth.height * truth.width - there.num_pixels
    return _Pair(name, PartOf(truth, there), PartOf(found, here), outside)


def _find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Images with their labels, by name."""
    images = sorted(path for path in (folder / "images").glob("*") if path.is_file() and path.name[0] != ".")
    pairs = []
    for image in images:
        wanted = [
            folder / "labels" / f"{image.stem}{suffix}" for suffix in (*_LABEL_SUFFIXES, *VECTOR_SUFFIXES)
        ]
        found = [path for path in wanted if path.is_file()]
        if not found:
            raise SceneError(f"{image}: has no labels; put {wanted[0]} (or .png, .geojson) there")
        pairs.append((image, found[0]))
    if not pairs:
        raise SceneError(
            f"{folder}: holds no images; it must have the folders images and labels, names alike"
        )
    return pairs


def _named(names: tuple[str, ...] | None) -> tuple[ClassInfo, ...]:
    return tuple(ClassInfo(name, _COLORS[value % len(_COLORS)]) for value, name in enumerate(names or ()))


def _count_classes(pair: _Pair, at_least: int) -> tuple[ClassInfo, ...]:
    """Numbered classes up to the highest that either map holds: it takes a look at all of both."""
    highest = max(1, at_least - 1)
    for window in windows_of(pair.truth.height, pair.truth.width, 2048):
        for source in (pair.truth, pair.prediction):
            highest = max(highest, int(source.read(window).max(initial=0)))
    if highest >= 255:
        raise SceneError(
            f"{pair.name}: holds classes up to {highest}; name them with --classes, say with --ignore what "
            f"is none, or compare ids with --panoptic"
        )
    return _named(tuple(f"class {value}" for value in range(highest + 1)))


def _steps(say: Say, what: str, pixels: int) -> Callable[[int], None]:
    """Says now and then how far it is."""
    done, printed = 0, time.monotonic()

    def advance(more: int) -> None:
        nonlocal done, printed
        done += more
        if time.monotonic() - printed >= PLAIN_SECONDS:
            printed = time.monotonic()
            say(f"{what}: {math.floor(100 * min(1, done / pixels))} %")

    return advance
