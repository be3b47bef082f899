"""Stages, and all that happens to one block: read ▸ cut ▸ look ▸ blend ▸ decide.

A run is a list of stages, coarse to fine. Each moves one network over one lattice of tiles at one pyramid
level and keeps the previous stage's answer wherever it does not look. One stage is plain tiled segmentation,
two are the cascade. A stage is cut into blocks; `segment_block` is all that happens to one of them, and its
answer depends on (scene, model, previous answer) alone: not on the block's size, its neighbours, or the order
of blocks.

Cells are finished in lattice order. By the time tile (i, j) has been looked at, the tiles above, on the left
and above-left have been too, so its cell can be blended at once, from its own logits and three strips that
the others left.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from numpy import ndarray

from hiresseg.augmented import Augmentation, augment_model
from hiresseg.borders import Borders
from hiresseg.canvas import Canvas
from hiresseg.errors import ModelError
from hiresseg.forward import (
    ForwardSetting,
    available_cpus,
    keep_freed_memory,
    place_model,
    return_freed_memory,
)
from hiresseg.geometry import Block, TileGrid, Window
from hiresseg.models.spec import Model, ModelSpec
from hiresseg.prior import Prior
from hiresseg.scenes import Pages, Scene, band_statistics
from hiresseg.selection import select_tiles, with_background
from hiresseg.store import NODATA, ArrayLayout, RunStore
from hiresseg.work import BlockAnswer, Stage, StageWork

Normalize = Literal["model", "scene"]
PAGES_BYTES = 16 << 20
BORDERS_BYTES = 16 << 20
BLOCK_PX = 2048
BLOCKS_PER_TRIM = 8


def segment_block(work: StageWork, block: Block) -> BlockAnswer:
    """All that happens to one block.

    Raises:
        ModelError: if the network answers with another shape, or with NaN.
        SceneError: if the scene cannot be read there.
    """
    key = (block.row, block.col)
    work.borders.start(key)
    try:
        canvas = Canvas(work, block)
        for row in range(*block.cell_rows):
            canvas.fill_row(row)
        return canvas.answer()
    finally:
        work.borders.finish(key)
        if work.stage.number_of(block) % BLOCKS_PER_TRIM == BLOCKS_PER_TRIM - 1:
            # kept memory makes forwards fast; now and then its holes are given back, or they would add up
            return_freed_memory()


def make_stages(
    spec: ModelSpec, scene: Scene, workers: int, block_px: int | None = None
) -> tuple[Stage, ...]:
    """The stages of a model over a scene, with blocks small enough that all workers have some.

    Args:
        spec: the model.
        scene: the scene.
        workers: blocks at the same time.
        block_px: about the edge of the last stage's blocks: it is rounded down to whole cells and chunks.
    """
    stages = []
    for index, stage in enumerate(spec.stages):
        is_last = index == len(spec.stages) - 1
        grid = TileGrid(stage.tile_px, stage.overlap_px, *scene.size_at(stage.level))
        edge = grid.block_near(block_px) if is_last and block_px else _fitting_block_px(grid, workers)
        stages.append(Stage(index, stage, grid, edge, is_last))
    return tuple(stages)


def _fitting_block_px(grid: TileGrid, workers: int) -> int:
    edge = grid.block_near(BLOCK_PX)
    while edge > grid.block_unit_px and len(grid.blocks(edge)) < 4 * workers:
        edge -= grid.block_unit_px
    return edge


def probabilities_of(stage: Stage) -> str:
    """Name of the array that holds a stage's probabilities."""
    return f"stages/{stage.index}/probabilities"


def labels_of(stage: Stage) -> str:
    """Name of the array that holds a stage's labels."""
    return "labels" if stage.is_last else f"stages/{stage.index}/labels"


def stage_layouts(stages: Sequence[Stage], num_logits: int, *, confidence: bool) -> list[ArrayLayout]:
    """The arrays of a run: what each stage leaves for the next, and the answer of the last."""
    layouts = []
    for stage in stages:
        grid = stage.grid
        size = grid.height, grid.width, grid.chunk_px(), stage.block_px
        layouts.append(ArrayLayout(labels_of(stage), 0, *size, NODATA))
        if not stage.is_last:
            layouts.append(ArrayLayout(probabilities_of(stage), num_logits, *size, 0))
        elif confidence:
            layouts.append(ArrayLayout("confidence", 0, *size, NODATA))
    return layouts


@dataclass(frozen=True, slots=True)
class Source:
    """A scene, a model, and how the two meet in this process."""

    scene: Scene
    model: Model
    setting: ForwardSetting
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scratch: Path
    """Folder for what does not fit into the caches' memory."""
    with_confidence: bool = False


def check_scene(scene: Scene, spec: ModelSpec, *, any_dtype: bool) -> None:
    """Refuse a scene that a model cannot take.

    Raises:
        ModelError: if the scene's bands, or (unless `any_dtype`) its sample type, are not those of the model.
    """
    if scene.num_bands != len(spec.bands):
        raise ModelError(
            f"{scene.uri}: has {scene.num_bands} bands, and {spec.name} reads {len(spec.bands)} "
            f"({', '.join(spec.bands)}); choose them with --bands, for instance "
            f"--bands {','.join(str(n + 1) for n in range(len(spec.bands)))}"
        )
    if not any_dtype and scene.dtype.name not in spec.dtypes:
        raise ModelError(
            f"{scene.uri}: holds {scene.dtype.name}, and the normalisation of {spec.name} is for "
            f"{', '.join(spec.dtypes)}; give --normalize scene to use the scene's own mean and deviation"
        )


def normalisation(
    scene: Scene, spec: ModelSpec, *, from_scene: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of each band: the model's, or the scene's own, taken once from an overview.

    Raises:
        ModelError: as `check_scene`.
    """
    check_scene(scene, spec, any_dtype=from_scene)
    if not from_scene:
        return spec.mean, spec.std
    mean, std = band_statistics(scene)
    # a band of one value carries nothing, and must not become noise
    return tuple(float(v) for v in mean), tuple(float(v) or 1.0 for v in std)


def open_work(
    source: Source, stages: Sequence[Stage], index: int, store: RunStore, pending: Sequence[Block]
) -> StageWork:
    """A stage made ready: caches, the previous stage's answer, the tiles to look at.

    Args:
        source: scene, model and setting.
        stages: all stages of the run.
        index: the one to prepare; the stages before it must be finished in `store`.
        store: where they are.
        pending: the blocks that this process is going to do.
    """
    stage = stages[index]
    prior, selected = None, None
    if index > 0:
        before = stages[index - 1]
        array = store.arrays[probabilities_of(before)]
        factor = 2 ** (before.spec.level - stage.spec.level)
        prior = Prior(array, factor, store.arrays[labels_of(before)] if source.scene.has_gaps else None)
        spec = source.model.spec

        def read(window: Window) -> ndarray:
            probabilities = array.read(window)
            return with_background(probabilities) if spec.activation == "sigmoid" else probabilities

        selected = select_tiles(read, array.shape, stage.grid, factor, spec.refine_above)
    work = StageWork(
        stage=stage,
        model_spec=source.model.spec,
        segmenter=source.model.segmenters[index],
        setting=source.setting,
        mean=source.mean,
        std=source.std,
        pages=Pages(source.scene, stage.spec.level, memory_bytes=PAGES_BYTES, scratch=source.scratch),
        borders=Borders([(block.row, block.col) for block in pending], BORDERS_BYTES, source.scratch),
        prior=prior,
        selected=selected,
        with_confidence=source.with_confidence and stage.is_last,
        with_probabilities=not stage.is_last,
        has_gaps=source.scene.has_gaps,
    )
    work.expect(pending)
    return work


def stream(
    scene: Scene | str | Path,
    model: Model | str | Path,
    *,
    confidence: bool = False,
    probabilities: bool = False,
    normalize: Normalize = "model",
    tta: Augmentation = "none",
    setting: ForwardSetting | None = None,
    block_px: int | None = None,
) -> Iterator[BlockAnswer]:
    """Finished windows of a scene's segmentation, as they are ready.

    At most one block more than there are workers is computed ahead, so memory stays bounded when the consumer
    is slow. A consumer that stops early (`break`, or `close()` of the generator) ends the work after the
    blocks under way.

    Args:
        scene: a path, or an open scene, which stays open.
        model: a bundled model's name, a model folder, or a loaded model.
        confidence: whether to give the probability of each pixel's class, 0..254 for 0..1.
        probabilities: whether to give the probabilities of all classes, 0..255 for 0..1.
        normalize: `model` for the mean and deviation of the model, `scene` for those of the scene.
        tta: `flips` or `d4` to average over each tile mirrored (4 forwards), or turned too (8).
        setting: how to run the network; one tile per processor on the CPU if None.
        block_px: about the edge of the windows; rounded down to whole cells and chunks of the last stage.

    Yields:
        One answer per block of the last stage; `answer.window` says where it lies. Together they cover the
        scene, each pixel once.

    Raises:
        SceneError, ModelError: if one of them is not what it should be.
    """
    from hiresseg.models import load_model
    from hiresseg.scenes import open_scene

    setting = setting or ForwardSetting(workers=available_cpus())
    threads = torch.get_num_threads()
    owned = None if not isinstance(scene, (str, Path)) else open_scene(scene)
    opened: Scene = owned if owned is not None else scene  # type: ignore[assignment]
    try:
        loaded = model if isinstance(model, Model) else load_model(model, device=setting.device)
        mean, std = normalisation(opened, loaded.spec, from_scene=normalize == "scene")
        loaded = augment_model(loaded, tta)
        stages = make_stages(loaded.spec, opened, setting.workers, block_px)
        keep_freed_memory()
        place_model(loaded, setting)
        with tempfile.TemporaryDirectory(prefix="hiresseg-") as folder:
            store = RunStore(Path(folder))
            store.create({}, stage_layouts(stages[:-1], loaded.spec.num_logits, confidence=False))
            source = Source(opened, loaded, setting, mean, std, Path(folder), confidence)
            for stage in stages:
                work = open_work(source, stages, stage.index, store, stage.blocks())
                work = replace(work, with_probabilities=not stage.is_last or probabilities)
                for answer in _segment_ahead(work, stage.blocks()):
                    if stage.is_last:
                        yield answer
                    else:
                        store.finish_block(stage.index, answer.block, stage_arrays(stage, answer), {})
    finally:
        # the caller's own work goes on with as many as before
        torch.set_num_threads(threads)
        if owned is not None:
            owned.close()


def stage_arrays(stage: Stage, answer: BlockAnswer) -> dict[str, ndarray]:
    """What of a block's answer is kept in the run's arrays, by name."""
    arrays = {labels_of(stage): answer.labels}
    if not stage.is_last:
        assert answer.probabilities is not None
        arrays[probabilities_of(stage)] = answer.probabilities
    if answer.confidence is not None:
        arrays["confidence"] = answer.confidence
    return arrays


def _segment_ahead(work: StageWork, blocks: Sequence[Block]) -> Iterator[BlockAnswer]:
    """Answers as they are ready; at most one block more than there are workers is begun and not consumed."""
    waiting = iter(blocks)
    with ThreadPoolExecutor(work.setting.workers, "hiresseg") as pool:
        running: set[Future[BlockAnswer]] = set()
        try:
            while True:
                for block in itertools.islice(waiting, work.setting.workers + 1 - len(running)):
                    # said here, in order: a later block that is quicker off the mark waits for strips
                    work.borders.start((block.row, block.col))
                    running.add(pool.submit(segment_block, work, block))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                # the others that are done stay begun and unconsumed until it is their turn
                first, *others = done
                running.update(others)
                yield first.result()
        finally:
            work.borders.stop()
            for future in running:
                future.cancel()
            pool.shutdown()
            work.close()
