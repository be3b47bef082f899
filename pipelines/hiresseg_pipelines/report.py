"""What a run tells: the plan before, the report after."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hiresseg.forward import Calibration
from hiresseg.plan import Plan, StagePlan
from hiresseg.scenes import why_area_unknown
from hiresseg.scenes.fingerprint import DIGEST_OF
from hiresseg.stages import Source
from hiresseg.work import Stage, TileCounts
from hiresseg_pipelines.estimate import Estimate
from hiresseg_pipelines.machine import describe_machine
from hiresseg_pipelines.progress import count_of, human_seconds
from hiresseg_pipelines.record import versions
from hiresseg_pipelines.request import RunRequest
from hiresseg_pipelines.timings import ProcessFacts, Timings, add_phases, now_utc

_FAR = 2.0
"""How many times smaller or larger than those of its training a model's pixels may be without a word."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Scene, model and stages of a request, and how they are going to be run."""

    request: RunRequest
    source: Source
    stages: tuple[Stage, ...]
    calibration: Calibration
    plan: Plan
    estimate: Estimate
    pixel_area_m2: float | None
    """At the centre of the scene."""

    @property
    def pixel_size_m(self) -> float | None:
        """Edge of a pixel at the centre of the scene, as if it were square; None where it is not known."""
        return None if self.pixel_area_m2 is None else math.sqrt(self.pixel_area_m2)


@dataclass(slots=True)
class RunFacts:
    """What the blocks added up to."""

    tiles: list[TileCounts]
    """Per stage."""
    resumed_blocks: int = 0
    earlier: list[ProcessFacts] = field(default_factory=list)
    """Of the processes that this one goes on from."""
    pixels: dict[int, int] = field(default_factory=dict)
    """Pixels of each label of the last stage."""
    areas_m2: dict[int, list[float]] = field(default_factory=dict)
    """Area of each label of the last stage, block by block; empty where areas are not known."""


def warnings_of(prepared: Prepared) -> list[str]:
    """What speaks against a run that can be done."""
    spec, size_m = prepared.source.model.spec, prepared.pixel_size_m
    if spec.pixel_size_m is None or size_m is None:
        return []
    smallest, largest = spec.pixel_size_m
    if smallest / _FAR <= size_m <= largest * _FAR:
        return []
    text = (
        f"a pixel of the scene is {size_m:.3g} m wide, and {spec.name} was trained at {smallest:g} to "
        f"{largest:g} m: its answer is worth little here; resample the scene, or take another model"
    )
    return [text]


def describe_plan(prepared: Prepared) -> str:
    """A plan in a few lines for people."""
    plan, estimate = prepared.plan, prepared.estimate
    scene = prepared.source.scene
    lines = [
        f"scene: {scene.uri}, {scene.height:,} x {scene.width:,} px, {scene.num_bands} x {scene.dtype}",
        f"model: {prepared.source.model.spec.name}, {plan.setting}",
        *(f"warning: {text}" for text in warnings_of(prepared)),
        *(_describe_stage(stage) for stage in plan.stages),
        f"memory: {human_bytes(plan.memory_bytes)} in all",
        *(f"  {human_bytes(size):>10}  {name}" for name, size in plan.memory.items()),
        f"disk: at most {human_bytes(plan.disk_bytes)}, before compression",
    ]
    most = "at most " if len(plan.stages) > 1 else "about "
    lines.append(
        f"time: {most}{human_seconds(estimate.seconds)}: forwards {human_seconds(estimate.forwards)}, "
        f"reading {human_seconds(estimate.reading)}, writing {human_seconds(estimate.writing)}"
    )
    return "\n".join(lines)


def _describe_stage(stage: StagePlan) -> str:
    # how much of a later stage is looked at depends on what the stage before will say
    most = "at most " if stage.index else ""
    return (
        f"stage {stage.index + 1}: level {stage.level}, {stage.height:,} x {stage.width:,} px, "
        f"{count_of(stage.blocks, 'block')} of {stage.block_px} px, tiles of {stage.tile_px} px (overlap "
        f"{stage.overlap_px}), {most}{count_of(stage.tiles, 'forward')}, "
        f"{most}{human_bytes(stage.read_bytes)} to decode"
    )


def describe_result(report: Mapping[str, Any], folder: Path) -> str:
    """What came out, and what to open, in a few lines for people."""
    rows = [row for row in report["classes"] if row["pixels"]]
    areas = {
        row["name"]: f" ({row['area_m2']:,.0f} m2)" if row["area_m2"] is not None else "" for row in rows
    }
    took = human_seconds(sum(report["seconds"].values()))
    lines = [
        ", ".join(f"{row['name']} {row['share']:.1%}{areas[row['name']]}" for row in rows) + f", in {took}"
    ]
    lines += [f"  {folder / name}" for name in (*report["outputs"], "report.json")]
    lines += [
        f"  {name}: {loss}" for name, facts in report["outputs"].items() for loss in facts.get("losses", ())
    ]
    return "\n".join(lines)


def human_bytes(size: float) -> str:
    """`512 B`, `1.5 MiB`, `13.7 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def make_report(
    prepared: Prepared, facts: RunFacts, timings: Timings, outputs: Mapping[str, Any]
) -> dict[str, Any]:
    """`report.json`: what ran, on what, with what, and what came out."""
    source, plan = prepared.source, prepared.plan
    scene, spec = source.scene, source.model.spec
    processes = [*facts.earlier, timings.so_far(scene.bytes_decoded)]
    bytes_decoded = sum(process.bytes_decoded for process in processes)
    stages = [_stage_report(stage, tiles) for stage, tiles in zip(prepared.stages, facts.tiles, strict=True)]
    return {
        "scene": {
            "uri": scene.uri,
            **scene.fingerprint(),
            "digest_of": DIGEST_OF,
            "height": scene.height,
            "width": scene.width,
            "bands": scene.band_names,
            "dtype": scene.dtype.name,
            "pixel_size_m": prepared.pixel_size_m,
            "bytes": plan.scene_bytes,
            "bytes_decoded": bytes_decoded,
            "read_amplification": bytes_decoded / plan.scene_bytes,
        },
        "model": {
            "name": spec.name,
            "digest": spec.digest,
            "licence": spec.licence,
            "pixel_size_m": spec.pixel_size_m,
        },
        "warnings": warnings_of(prepared),
        "parameters": _parameters(prepared),
        "setting": asdict(source.setting),
        "calibration": prepared.calibration.as_record(),
        "estimate": asdict(prepared.estimate),
        "normalisation": {"mean": source.mean, "std": source.std},
        "stages": stages,
        "blocks_resumed": facts.resumed_blocks,
        "begun_at": processes[0].begun_at,
        "finished_at": now_utc(),
        "processes": [asdict(process) for process in processes],
        "seconds": add_phases(process.seconds for process in processes),
        "cpu_seconds": add_phases(process.cpu_seconds for process in processes),
        "memory": {
            "imports_bytes": timings.imports_bytes,
            "planned_bytes": plan.memory_bytes,
            "planned": dict(plan.memory),
            "peak_bytes": max(process.peak_bytes for process in processes),
        },
        "pixel_area_m2": prepared.pixel_area_m2,
        "area_unknown": why_area_unknown(scene),
        "classes": _class_reports(prepared, facts),
        "outputs": dict(outputs),
        "versions": versions(),
        "machine": describe_machine(source.setting.device),
    }


def _parameters(prepared: Prepared) -> dict[str, Any]:
    """What was asked for, and what of the model can be chosen; null is what was left open."""
    request = prepared.request
    return {
        "bands": request.bands,
        "normalize": request.normalize,
        "tta": request.tta,
        "confidence": request.confidence,
        "refine_above": prepared.source.model.spec.refine_above,
        "block_px": request.block_px,
        "precision": request.precision,
        "device": request.device,
        "workers": request.workers,
        "max_memory_bytes": request.max_memory,
    }


def _class_reports(prepared: Prepared, facts: RunFacts) -> list[dict[str, Any]]:
    scene = prepared.source.scene
    names = [info.name for info in prepared.source.model.spec.classes]
    return [
        {
            "value": value,
            "name": name,
            "pixels": facts.pixels.get(value, 0),
            "share": facts.pixels.get(value, 0) / (scene.height * scene.width),
            # exact, so that the order in which blocks were finished does not show
            "area_m2": math.fsum(facts.areas_m2.get(value, ())) if facts.areas_m2 else None,
        }
        for value, name in [*enumerate(names), (255, "no data")]
    ]


def _stage_report(stage: Stage, tiles: TileCounts) -> dict[str, Any]:
    lattice = stage.grid.rows * stage.grid.cols
    return {
        "level": stage.spec.level,
        "tile_px": stage.spec.tile_px,
        "overlap_px": stage.spec.overlap_px,
        "block_px": stage.block_px,
        "tiles": lattice,
        "tiles_run": tiles.run,
        "tiles_run_again": tiles.again,
        "tiles_empty": tiles.empty,
        "tiles_unselected": tiles.unselected,
        "share_run": (tiles.run - tiles.again) / lattice,
    }
