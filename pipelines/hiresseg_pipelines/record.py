"""The record of a run: all that decides the bytes of its answer, compared before a run is gone on with."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any, cast

import rasterio

from hiresseg.errors import StoreError
from hiresseg.forward import ForwardSetting
from hiresseg.models import Model
from hiresseg.records import refuse_other_record
from hiresseg.scenes import Scene
from hiresseg.stages import Source, make_stages, normalisation, stage_layouts
from hiresseg.store import OUTPUT_NAMES, RunStore
from hiresseg.work import Stage
from hiresseg_pipelines.machine import deciding_machine
from hiresseg_pipelines.request import RunRequest


def versions() -> dict[str, str]:
    """Versions of what computes."""
    names = ("hiresseg", "torch", "numpy", "numba", "rasterio", "zarr")
    found = {name: version(name) for name in names}
    return found | {"gdal": rasterio.__gdal_version__, "python": platform.python_version()}


def make_record(request: RunRequest, source: Source, stages: Sequence[Stage]) -> dict[str, Any]:
    """Everything that decides the bytes of the answer."""
    spec = source.model.spec
    record = {
        "scene": source.scene.fingerprint(),
        "bands": request.bands,
        "model": {"name": spec.name, "digest": spec.digest, "refine_above": spec.refine_above},
        "stages": [{**asdict(stage.spec), "block_px": stage.block_px} for stage in stages],
        "setting": asdict(source.setting),
        "normalisation": {"from": request.normalize, "mean": source.mean, "std": source.std},
        "confidence": request.confidence,
        "tta": request.tta,
        "versions": versions(),
        "machine": deciding_machine(source.setting.device),
    }
    # as it will be read back
    return cast("dict[str, Any]", json.loads(json.dumps(record)))


def recorded_setting(request: RunRequest, store: RunStore) -> ForwardSetting | None:
    """The setting of the run that stands here, with what was asked for explicitly in its place.

    Raises:
        StoreError: if what stands here is no run that this version can read.
    """
    if request.overwrite or not store.exists():
        return None
    try:
        setting = ForwardSetting(**store.read_record()["setting"])
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{store.group}: its record was changed, or written by another version; use --overwrite or "
            f"another folder"
        ) from error
    setting = replace(setting, device=request.device, precision=request.precision)
    return replace(setting, workers=request.workers, threads=1) if request.workers else setting


def begin_or_resume(request: RunRequest, source: Source, stages: Sequence[Stage], store: RunStore) -> None:
    """Make the store ready: begun, begun anew, or gone on with.

    Raises:
        RecipeError: if another run stands there, naming the fields that differ.
        StoreError: if it cannot be written.
    """
    record = make_record(request, source, stages)
    layouts = stage_layouts(stages, source.model.spec.num_logits, confidence=request.confidence)
    if store.exists() and not request.overwrite:
        _refuse_other(request, store, record)
        store.resume(layouts)
        return
    for name in OUTPUT_NAMES:
        (request.folder / name).unlink(missing_ok=True)
    store.create(record, layouts)


def read_finished(request: RunRequest, store: RunStore, scene: Scene, model: Model) -> dict[str, Any] | None:
    """The report of a run that is finished here and is the one that was asked for; None if there is none.

    Raises:
        RecipeError: if another run is finished here, naming the fields that differ.
    """
    setting = recorded_setting(request, store)
    report = _read_report(request)
    if setting is None or report is None:
        return None
    mean, std = normalisation(scene, model.spec, from_scene=request.normalize == "scene")
    source = Source(scene, model, setting, mean, std, store.scratch, request.confidence)
    stages = make_stages(model.spec, scene, setting.workers, request.block_px)
    _refuse_other(request, store, make_record(request, source, stages))
    return report


def _read_report(request: RunRequest) -> dict[str, Any] | None:
    """What `report.json` says, if every file that it speaks of is there in the size that it gives."""
    try:
        report = cast("dict[str, Any]", json.loads((request.folder / "report.json").read_text()))
        sizes = {name: facts["bytes"] for name, facts in report["outputs"].items()}
        stands = all((request.folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # not there, or not ours: the outputs are written again from the run's arrays
        return None
    return report if stands else None


def _refuse_other(request: RunRequest, store: RunStore, record: dict[str, Any]) -> None:
    theirs = store.read_record()
    refuse_other_record(request.folder, record, {key: theirs.get(key) for key in record})
