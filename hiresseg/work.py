"""What a block needs to be computed, and what comes out of it: values, no method."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from hiresseg.borders import Borders
from hiresseg.forward import ForwardSetting, empty_tiles
from hiresseg.geometry import Block, TileGrid, Window
from hiresseg.models.spec import ModelSpec, Segmenter, StageSpec
from hiresseg.prior import Prior
from hiresseg.scenes.pages import Pages


@dataclass(frozen=True, slots=True)
class Stage:
    """One sweep: a network's tiles over the scene at one level."""

    index: int
    spec: StageSpec
    grid: TileGrid
    block_px: int
    is_last: bool

    def number_of(self, block: Block) -> int:
        """Place of a block in row-major order, from 0."""
        across = -(-self.grid.width // self.block_px)
        return block.row * across + block.col

    def blocks(self) -> list[Block]:
        """Its blocks in row-major order."""
        return self.grid.blocks(self.block_px)


@dataclass(slots=True)
class TileCounts:
    """What became of the tiles of a block; adds up over blocks."""

    run: int = 0
    """Forwards."""
    empty: int = 0
    """Tiles without a valid pixel."""
    unselected: int = 0
    """Tiles over which the previous answer was kept."""
    again: int = 0
    """Forwards, among `run`, of tiles that another block had run already: after a restart."""

    def add(self, other: TileCounts) -> None:
        """Add the counts of another block."""
        self.run += other.run
        self.empty += other.empty
        self.unselected += other.unselected
        self.again += other.again


@dataclass(frozen=True, slots=True)
class BlockAnswer:
    """What came out of a block, in the pixels of `block.window`."""

    block: Block
    labels: ndarray
    """(h, w) uint8: the class, 255 where there are no data."""
    confidence: ndarray | None
    """(h, w) uint8: 0..254 for 0..1, 255 where there are no data; None unless asked for."""
    probabilities: ndarray | None
    """(K, h, w) uint8, 0..255 for 0..1; None unless asked for."""
    pixels: ndarray
    """(256,) pixels of each label."""
    tiles: TileCounts

    @property
    def window(self) -> Window:
        """Where it lies, in pixels of the stage's level."""
        return self.block.window


@dataclass(frozen=True, slots=True)
class StageWork:
    """A stage made ready in one process: opened, loaded, shared by its threads."""

    stage: Stage
    model_spec: ModelSpec
    segmenter: Segmenter
    setting: ForwardSetting
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pages: Pages
    borders: Borders
    prior: Prior | None = None
    selected: ndarray | None = None
    """(rows, cols) bool: the tiles to look at; None for all."""
    with_confidence: bool = False
    with_probabilities: bool = False
    has_gaps: bool = True
    """Whether the scene can have pixels without data."""
    _buffers: threading.local = field(default_factory=threading.local)

    @property
    def scale(self) -> Float32[Tensor, " C"]:
        """Factor from scene values to network input."""
        return (1 / torch.tensor(self.std, dtype=torch.float64)).float().to(self.setting.device)

    @property
    def shift(self) -> Float32[Tensor, " C"]:
        """What is added after the factor."""
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (self.mean, self.std))
        return (-mean / std).float().to(self.setting.device)

    def wants(self, row: int, col: int) -> bool:
        """Whether tile (row, col) is in the lattice and selected."""
        return self.stage.grid.has_tile(row, col) and (self.selected is None or bool(self.selected[row, col]))

    def row_window(self, block: Block, row: int) -> Window | None:
        """What a block reads for one of its cell rows; None if nothing."""
        grid = self.stage.grid
        cols = [col for col in range(*block.cell_cols) if self.wants(row, col)]
        if self.has_gaps:
            # where a pixel can be without data, the scene is asked about every one
            first, last = block.cell_cols[0], block.cell_cols[1] - 1
        elif cols:
            first, last = cols[0], cols[-1]
        else:
            return None
        top, left = row * grid.stride_px, first * grid.stride_px
        wide = Window(top, left, grid.tile_px, (last - first) * grid.stride_px + grid.tile_px)
        return wide.intersect(Window(0, 0, grid.height, grid.width))

    def expect(self, blocks: Iterable[Block]) -> None:
        """Announce what these blocks will read, so that nothing is decoded twice."""
        for block in blocks:
            for row in range(*block.cell_rows):
                window = self.row_window(block, row)
                if window is not None:
                    self.pages.expect(window)

    def tiles_buffer(self) -> Tensor:
        """This thread's batch of tiles, in the run's layout."""
        buffer: Tensor | None = getattr(self._buffers, "tiles", None)
        if buffer is None:
            torch.set_num_threads(self.setting.threads)
            buffer = empty_tiles(self.setting, len(self.mean), self.stage.spec.tile_px)
            self._buffers.tiles = buffer
        return buffer

    def close(self) -> None:
        """Let go of caches and scratch files."""
        self.pages.close()
        self.borders.close()
