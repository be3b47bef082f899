"""One stage run over a small scene, cut into blocks as small as a cell."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from hiresseg.borders import Borders
from hiresseg.forward import ForwardSetting
from hiresseg.geometry import Block, TileGrid, Window
from hiresseg.models import Model
from hiresseg.prior import Prior
from hiresseg.scenes import Pages
from hiresseg.stages import segment_block
from hiresseg.store import ArrayLayout, RunArray
from hiresseg.testing import ArrayScene
from hiresseg.work import BlockAnswer, Stage, StageWork, TileCounts


@dataclass
class Painted:
    """The answers of all blocks, side by side."""

    labels: np.ndarray
    confidence: np.ndarray
    probabilities: np.ndarray
    tiles: TileCounts = field(default_factory=TileCounts)

    def same_bytes(self, other: Painted) -> bool:
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("labels", "confidence", "probabilities")
        )


@dataclass(frozen=True)
class Bench:
    """A scene, a model and one of its stages, to be run in many ways that must not matter."""

    scene: ArrayScene
    model: Model
    scratch: Path
    stage: int = 0
    prior: Prior | None = None
    selected: np.ndarray | None = None
    borders_bytes: int = 1 << 20

    @property
    def grid(self) -> TileGrid:
        spec = self.model.spec.stages[self.stage]
        return TileGrid(spec.tile_px, spec.overlap_px, *self.scene.size_at(spec.level))

    def cut(self, step: int) -> list[Block]:
        """Blocks of `step` x `step` cells: smaller than a run would ever have them."""
        grid = self.grid
        blocks = []
        for row, top in enumerate(range(0, grid.cell_rows, step)):
            for col, left in enumerate(range(0, grid.cell_cols, step)):
                rows, cols = (top, min(top + step, grid.cell_rows)), (left, min(left + step, grid.cell_cols))
                edges = [edge * grid.stride_px for edge in (*rows, *cols)]
                window = Window(edges[0], edges[2], edges[1] - edges[0], edges[3] - edges[2])
                inside = window.intersect(Window(0, 0, grid.height, grid.width))
                blocks.append(Block(row, col, rows, cols, inside))
        return blocks

    def make_work(self, pending: Sequence[Block], setting: ForwardSetting) -> StageWork:
        spec = self.model.spec
        level = spec.stages[self.stage].level
        work = StageWork(
            stage=Stage(self.stage, spec.stages[self.stage], self.grid, 1, True),
            model_spec=spec,
            segmenter=self.model.segmenters[self.stage],
            setting=setting,
            mean=spec.mean,
            std=spec.std,
            pages=Pages(self.scene, level, memory_bytes=1 << 20, scratch=self.scratch),
            borders=Borders([(block.row, block.col) for block in pending], self.borders_bytes, self.scratch),
            prior=self.prior,
            selected=self.selected,
            with_confidence=True,
            with_probabilities=True,
            has_gaps=self.scene.has_gaps,
        )
        work.expect(pending)
        return work

    def blank(self) -> Painted:
        size = self.grid.height, self.grid.width
        # 99 is no answer that any test expects
        return Painted(*(np.full((*lead, *size), 99, np.uint8) for lead in ((), (), (self.num_logits,))))

    @property
    def num_logits(self) -> int:
        return self.model.spec.num_logits

    def run(
        self,
        blocks: Sequence[Block] | None = None,
        setting: ForwardSetting | None = None,
        into: Painted | None = None,
    ) -> Painted:
        """Segment blocks in the order given, as one process would."""
        setting = setting or ForwardSetting()
        blocks = self.cut(1000) if blocks is None else blocks
        painted = into or self.blank()
        work = self.make_work(blocks, setting)
        whole = Window(0, 0, self.grid.height, self.grid.width)
        waiting, taking = iter(blocks), threading.Lock()

        def work_through(_worker: int) -> list[BlockAnswer]:
            answers = []
            while True:
                with taking:
                    block = next(waiting, None)
                    if block is None:
                        return answers
                    # said in order, as schedulers do: a later block that is quicker waits for the strips
                    work.borders.start((block.row, block.col))
                answers.append(segment_block(work, block))

        with ThreadPoolExecutor(setting.workers) as pool:
            try:
                for answer in itertools.chain(*pool.map(work_through, range(setting.workers))):
                    rows, cols = answer.window.slices_in(whole)
                    painted.labels[rows, cols] = answer.labels
                    painted.confidence[rows, cols] = answer.confidence
                    painted.probabilities[:, rows, cols] = answer.probabilities
                    painted.tiles.add(answer.tiles)
            finally:
                work.borders.stop()
        work.close()
        return painted


@pytest.fixture(scope="session")
def bench() -> type[Bench]:
    return Bench


@pytest.fixture(scope="session")
def make_prior(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Makes a Prior of an array of coarse probabilities (K, h, w), and of labels (h, w) if there are any."""

    def store(name: str, values: np.ndarray, num_channels: int, fill: int) -> RunArray:
        height, width = values.shape[-2:]
        layout = ArrayLayout(name, num_channels, height, width, 16, 64, fill)
        array = RunArray(tmp_path_factory.mktemp("prior"), layout)
        for row in range(-(-height // 64)):
            for col in range(-(-width // 64)):
                part = values[..., row * 64 : (row + 1) * 64, col * 64 : (col + 1) * 64]
                array.write_shard(row, col, np.ascontiguousarray(part))
        return array

    def make(probabilities: np.ndarray, factor: int, labels: np.ndarray | None = None) -> Prior:
        array = store("probabilities", probabilities, len(probabilities), 0)
        return Prior(array, factor, None if labels is None else store("labels", labels, 0, 255))

    return make
