"""The main flow: one scene in, one mask out; begun, resumed, finished."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from hiresseg.augmented import augment_model
from hiresseg.durable import write_durably
from hiresseg.forward import (
    Calibration,
    ForwardSetting,
    Freedom,
    available_cpus,
    calibrate,
    keep_freed_memory,
    measure_tile_seconds,
)
from hiresseg.geometry import Block
from hiresseg.models import Model, load_model
from hiresseg.plan import plan_run
from hiresseg.scenes import Scene, label_areas_m2, open_scene, pixel_area_m2
from hiresseg.stages import (
    Source,
    check_scene,
    make_stages,
    normalisation,
    open_work,
    segment_block,
    stage_arrays,
)
from hiresseg.store import RunStore
from hiresseg.thumbnail import Thumbnail, has_thumbnail
from hiresseg.warm import warm_kernels
from hiresseg.work import Stage, StageWork, TileCounts
from hiresseg_pipelines.estimate import estimate_run
from hiresseg_pipelines.export import export_run
from hiresseg_pipelines.progress import RunProgress, Say, say_if_slow
from hiresseg_pipelines.record import begin_or_resume, read_finished, recorded_setting
from hiresseg_pipelines.report import Prepared, RunFacts, describe_plan, make_report
from hiresseg_pipelines.request import RunRequest
from hiresseg_pipelines.schedulers import Scheduler, ThreadScheduler
from hiresseg_pipelines.stopping import check_stop
from hiresseg_pipelines.timings import Timings, last_facts


@dataclass(frozen=True, slots=True)
class _Watch:
    """Who looks on: the display, the clock, and whoever may ask to stop."""

    progress: RunProgress
    should_stop: threading.Event
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True)
class _StageTask:
    """What is done to each block of a stage."""

    work: StageWork
    stage: Stage
    store: RunStore
    scene: Scene
    timings: Timings

    def announce(self, block: Block) -> None:
        """From here on, later blocks wait for this one's strips rather than compute its tiles again."""
        self.work.borders.start((block.row, block.col))

    def compute(self, block: Block) -> dict[str, Any]:
        """Compute a block, write it, and return its entry in the journal."""
        answer = segment_block(self.work, block)
        pixels = {str(label): int(count) for label, count in enumerate(answer.pixels) if count}
        entry: dict[str, Any] = {"tiles": asdict(answer.tiles), "pixels": pixels}
        if self.stage.is_last:
            # the last stage works on the grid of the scene
            areas = label_areas_m2(self.scene.georef, block.window, answer.labels, answer.pixels)
            entry["areas_m2"] = {str(label): area for label, area in areas.items()}
        entry["process"] = asdict(self.timings.so_far(self.scene.bytes_decoded))
        self.store.finish_block(self.stage.index, block, stage_arrays(self.stage, answer), entry)
        return entry


def prepare(
    request: RunRequest, scene: Scene, model: Model, say: Say, recorded: ForwardSetting | None = None
) -> Prepared:
    """Plan a request: nothing is written.

    Args:
        request: what was asked for.
        scene: opened.
        model: loaded.
        say: prints a line while this takes its time.
        recorded: the setting of a run that is to be gone on with; measured and chosen here if None.
    """
    mean, std = normalisation(scene, model.spec, from_scene=request.normalize == "scene")
    keep_freed_memory()
    workers = request.workers or available_cpus()
    wanted = recorded or ForwardSetting(request.device, request.precision, workers)
    with say_if_slow(say, "compiling loops for this processor: a minute, once after an installation"):
        warm_kernels(model.spec, scene.dtype, wanted)
    if request.max_memory is not None:
        _refuse_early(request, scene, model, wanted)
    free: Freedom = "nothing" if recorded else "layout" if request.workers else "all"
    calibration = calibrate(model, wanted, free)
    setting, scratch = calibration.setting, RunStore(request.folder).scratch
    source = Source(scene, model, setting, mean, std, scratch, request.confidence)
    stages = make_stages(model.spec, scene, setting.workers, request.block_px)
    num_logits = model.spec.num_logits
    planned = plan_run(scene, stages, calibration, num_logits=num_logits, confidence=request.confidence)
    estimate = estimate_run(scene, request.bands, planned, setting.workers)
    return Prepared(request, source, stages, calibration, planned, estimate, pixel_area_m2(scene))


def _refuse_early(request: RunRequest, scene: Scene, model: Model, wanted: ForwardSetting) -> None:
    """Refuse by the forward of one worker what the calibration of all of them would take too much for."""
    stages = make_stages(model.spec, scene, wanted.workers, request.block_px)

    def check(forward_bytes: int) -> None:
        untimed = Calibration(wanted, (0.0,) * len(stages), ())
        num_logits = model.spec.num_logits
        planned = plan_run(scene, stages, untimed, num_logits=num_logits, confidence=request.confidence)
        others = {"forwards of the other workers": (wanted.workers - 1) * forward_bytes}
        replace(planned, memory={**planned.memory, **others}).check_memory(request.max_memory)

    check(0)
    before = psutil.Process().memory_info().rss
    measure_tile_seconds(model, replace(wanted, workers=1, threads=1, batch=1), -1, rounds=1)
    check(max(0, psutil.Process().memory_info().rss - before))


def plan(request: RunRequest, say: Say) -> Prepared:
    """What `run` would do, measured and added up; writes nothing."""
    with closing(open_scene(request.scene, bands=request.bands)) as scene:
        return prepare(request, scene, _load_fitting(request, scene), say)


def run(request: RunRequest, progress: RunProgress, should_stop: threading.Event) -> dict[str, Any]:
    """Do what was asked, or go on with it; returns the report that is also written to `report.json`.

    Raises:
        HiressegError: whatever the request, the files or the machine refuse; what is finished stays.
    """
    watch = _Watch(progress, should_stop)
    with watch.timings.phase("open"):
        scene = open_scene(request.scene, bands=request.bands)
    with closing(scene), closing(RunStore(request.folder)) as store:
        with watch.timings.phase("open"):
            # whatever does not fit is refused before anything is made
            model = _load_fitting(request, scene)
        watch.timings.note_imports()
        # libraries leave some 300,000 objects behind that every full collection would walk through
        gc.freeze()
        check_stop(should_stop, "the first block")
        store.refuse_input(Path(scene.uri))
        store.refuse_input(Path(request.model))
        store.lock()
        store.refuse_foreign(overwrite=request.overwrite)
        finished = read_finished(request, store, scene, model)
        if finished is not None:
            progress.say(f"{request.folder}: finished already; nothing to do (--overwrite starts anew)")
            return finished
        with watch.timings.phase("calibrate"):
            recorded = recorded_setting(request, store)
            prepared = prepare(request, scene, model, progress.say, recorded)
        progress.say(describe_plan(prepared))
        prepared.plan.check_memory(request.max_memory)
        check_stop(should_stop, "the first block")
        with watch.timings.phase("begin"):
            begin_or_resume(request, prepared.source, prepared.stages, store)
        return _run_prepared(prepared, store, watch)


def _load_fitting(request: RunRequest, scene: Scene) -> Model:
    model = load_model(request.model, device=request.device)
    check_scene(scene, model.spec, any_dtype=request.normalize == "scene")
    return augment_model(model, request.tta)


def _run_prepared(prepared: Prepared, store: RunStore, watch: _Watch) -> dict[str, Any]:
    finished = store.finished_blocks()
    if finished and not has_thumbnail(store.group):
        watch.progress.say("the picture for the preview was removed: all blocks are computed again")
        finished = {}
    earlier = last_facts(entry["process"] for entry in finished.values())
    facts = RunFacts([TileCounts() for _ in prepared.stages], len(finished), earlier)
    for stage in prepared.stages:
        entries = {key[1:]: entry for key, entry in finished.items() if key[0] == stage.index}
        for entry in entries.values():
            _count(facts, stage, entry)
        pending = [block for block in stage.blocks() if (block.row, block.col) not in entries]
        if pending:
            with watch.timings.phase(f"stage {stage.index + 1}"):
                _run_stage(prepared, stage, (store, pending), facts, watch)
    watch.progress.say("writing the outputs")
    with watch.timings.phase("export"):
        outputs = export_run(store, prepared.source, watch.should_stop)
    report = make_report(prepared, facts, watch.timings, outputs)
    write_durably(store.folder / "report.json", json.dumps(report, indent=1).encode())
    return report


def _run_stage(
    prepared: Prepared, stage: Stage, todo: tuple[RunStore, list[Block]], facts: RunFacts, watch: _Watch
) -> None:
    store, pending = todo
    source, stages = prepared.source, prepared.stages
    scheduler: Scheduler = ThreadScheduler(prepared.calibration.setting.workers)
    with closing(open_work(source, stages, stage.index, store, pending)) as work:
        scene = source.scene
        thumbnail = Thumbnail(store.group, (scene.height, scene.width), scene.num_bands, scene.dtype)
        work.pages.on_decode = partial(thumbnail.sample, stage.spec.level)
        total = stage.grid.rows * stage.grid.cols
        left = sum(1 for block in pending for _ in stage.grid.tiles_of(block))
        watch.progress.begin(f"stage {stage.index + 1} of {len(stages)}", total, total - left)
        task = _StageTask(work, stage, store, scene, watch.timings)
        with closing(scheduler.map(task, pending, watch.should_stop)) as entries:
            for entry in entries:
                _count(facts, stage, entry)
                tiles = TileCounts(**entry["tiles"])
                watch.progress.advance(tiles.run - tiles.again + tiles.empty + tiles.unselected)


def _count(facts: RunFacts, stage: Stage, entry: Mapping[str, Any]) -> None:
    facts.tiles[stage.index].add(TileCounts(**entry["tiles"]))
    if stage.is_last:
        for label, count in entry["pixels"].items():
            facts.pixels[int(label)] = facts.pixels.get(int(label), 0) + count
        for label, area in entry["areas_m2"].items():
            facts.areas_m2.setdefault(int(label), []).append(area)
