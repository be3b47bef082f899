"""What a run tells: the plan before, the report after."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hiresseg.forward import Calibration
from hiresseg.plan import Plan, StagePlan
from hiresseg.scenes import pixel_area_m2
from hiresseg.stages import Source
from hiresseg.work import Stage, TileCounts
from hiresseg_pipelines.estimate import Estimate
from hiresseg_pipelines.progress import count_of, human_seconds
from hiresseg_pipelines.record import versions
from hiresseg_pipelines.timings import Timings


@dataclass(frozen=True, slots=True)
class Prepared:
    """Scene, model and stages of a request, and how they are going to be run."""

    source: Source
    stages: tuple[Stage, ...]
    calibration: Calibration
    plan: Plan
    estimate: Estimate


@dataclass(slots=True)
class RunFacts:
    """What the blocks added up to."""

    tiles: list[TileCounts]
    """Per stage."""
    resumed_blocks: int = 0
    pixels: dict[int, int] = field(default_factory=dict)
    """Pixels of each label of the last stage."""


def describe_plan(prepared: Prepared) -> str:
    """A plan in a few lines for people."""
    plan, estimate = prepared.plan, prepared.estimate
    scene = prepared.source.scene
    lines = [
        f"scene: {scene.uri}, {scene.height:,} x {scene.width:,} px, {scene.num_bands} x {scene.dtype}",
        f"model: {prepared.source.model.spec.name}, {plan.setting}",
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
    area = pixel_area_m2(scene)
    total = scene.height * scene.width
    classes = [
        {
            "value": value,
            "name": name,
            "pixels": facts.pixels.get(value, 0),
            "share": facts.pixels.get(value, 0) / total,
            "area_m2": None if area is None else facts.pixels.get(value, 0) * area,
        }
        for value, name in [*enumerate(info.name for info in spec.classes), (255, "no data")]
    ]
    stages = [_stage_report(stage, tiles) for stage, tiles in zip(prepared.stages, facts.tiles, strict=True)]
    return {
        "scene": {
            "uri": scene.uri,
            **scene.fingerprint(),
            "height": scene.height,
            "width": scene.width,
            "bands": scene.band_names,
            "dtype": scene.dtype.name,
            "bytes": plan.scene_bytes,
            "bytes_decoded": scene.bytes_decoded,
            "read_amplification": scene.bytes_decoded / plan.scene_bytes,
        },
        "model": {"name": spec.name, "digest": spec.digest, "licence": spec.licence},
        "setting": asdict(source.setting),
        "calibration": prepared.calibration.as_record(),
        "estimate": asdict(prepared.estimate),
        "normalisation": {"mean": source.mean, "std": source.std},
        "stages": stages,
        "blocks_resumed": facts.resumed_blocks,
        "seconds": dict(timings.seconds),
        "cpu_seconds": dict(timings.cpu_seconds),
        "memory": {
            "imports_bytes": timings.imports_bytes,
            "planned_bytes": plan.memory_bytes,
            "planned": dict(plan.memory),
            "peak_bytes": peak_memory_bytes(),
        },
        "pixel_area_m2": area,
        "classes": classes,
        "outputs": dict(outputs),
        "versions": versions(),
    }


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


def peak_memory_bytes() -> int:
    """Most memory that this process has held.

    Linux hands getrusage's figure down from the process that started this one, so it is asked for its own
    where it keeps one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
