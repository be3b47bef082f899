"""A block while it is being filled: the cells of its output, row by row, and the strips between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from hiresseg.blend import cell_weights
from hiresseg.errors import ModelError
from hiresseg.forward import run_segmenter
from hiresseg.geometry import Block, Window
from hiresseg.metrics import count_labels
from hiresseg.store import NODATA
from hiresseg.work import BlockAnswer, StageWork, TileCounts
from hiresseg_kernels import blend_tiles, cut_tiles


@dataclass(frozen=True, slots=True)
class _Band:
    """The pixels of one row of tiles within a block."""

    window: Window
    pixels: Tensor
    valid: ndarray | None

    @classmethod
    def read(cls, work: StageWork, window: Window) -> _Band:
        pixels, valid = work.pages.read(window)
        return cls(window, torch.from_numpy(pixels).to(work.setting.device), valid)

    def has_data(self, window: Window) -> bool:
        part = window.intersect(self.window)
        return self.valid is None or bool(self.valid[part.slices_in(self.window)].any())


class Canvas:
    """A block while it is being filled, one row of cells after the other."""

    def __init__(self, work: StageWork, block: Block) -> None:
        self.work, self.block, self.grid = work, block, work.stage.grid
        self.num_cols = block.cell_cols[1] - block.cell_cols[0]
        self.num_logits = work.model_spec.num_logits
        self.key = (block.row, block.col)
        self.tiles = TileCounts()
        self.num_invalid = 0
        self.scale, self.shift = work.scale, work.shift
        stride, device = self.grid.stride_px, work.setting.device
        size = (block.cell_rows[1] - block.cell_rows[0]) * stride, self.num_cols * stride
        self.labels = torch.full(size, NODATA, dtype=torch.uint8, device=device)
        self.confidence = torch.full_like(self.labels, NODATA) if work.with_confidence else None
        self.probabilities = (
            torch.zeros((self.num_logits, *size), dtype=torch.uint8, device=device)
            if work.with_probabilities
            else None
        )
        # last rows of the tiles above and of those just looked at, beginning with the tile left of the block
        self.above: Tensor | None = None
        self.below: Tensor | None = None
        self.above_run = np.zeros(self.num_cols + 1, bool)
        self.col_weights = torch.from_numpy(
            np.stack(
                [
                    cell_weights(self.grid, col, self.grid.cols, work.stage.spec.trim_px)
                    for col in range(*block.cell_cols)
                ]
            )
        ).to(device)

    def fill_row(self, row: int) -> None:
        """Look at the tiles of one row, finish its cells, and hand on what the next ones need."""
        band = self._read(row)
        left: Tensor | None = None
        below_run = np.zeros(self.num_cols + 1, bool)
        for first in range(0, self.num_cols, self.work.setting.batch):
            count = min(self.work.setting.batch, self.num_cols - first)
            prior = (
                self._prior(row, self.block.cell_cols[0] + first, count)
                if self._has_data(row, first, count, band)
                else None
            )
            logits, run = self._look(row, first, count, band, prior)
            if first == 0:
                left = self._receive_left(row)
                below_run[0] = left is not None
                if row == self.block.cell_rows[0]:
                    self._receive_above(row)
            self._finish_cells(row, first, (logits, run), (left, bool(below_run[first])), band, prior)
            below_run[first + 1 : first + 1 + count] = run
            if logits is not None:
                self._strips("below", logits)[first + 1 : first + 1 + count] = logits[
                    :count, :, self.grid.stride_px :
                ]
                left = logits[count - 1, :, :, self.grid.stride_px :].clone()
            for index in range(count):
                tile = logits[index] if logits is not None and run[index] else None
                self._hand_on(row, self.block.cell_cols[0] + first + index, tile)
        self.above, self.below = self.below, self.above
        self.above_run = below_run

    def answer(self) -> BlockAnswer:
        """The finished block, cut to the scene.

        Raises:
            ModelError: if a pixel with data has no answer.
        """
        rows, cols = self.block.window.height, self.block.window.width
        labels = self.labels[:rows, :cols].cpu().numpy()
        pixels = count_labels(labels)
        num_nan = int(pixels[NODATA]) - self.num_invalid
        if num_nan:
            window = self.block.window
            raise ModelError(
                f"the network answered NaN for {num_nan} pixels of the {rows} x {cols} at row {window.top}, "
                f"column {window.left} (level {self.work.stage.spec.level}, {self.work.setting.precision}); "
                f"check its weights and the values of the scene there"
                + ("" if self.work.setting.precision == "fp32" else ", or try --precision fp32")
            )
        confidence = None if self.confidence is None else self.confidence[:rows, :cols].cpu().numpy()
        probabilities = (
            None if self.probabilities is None else self.probabilities[:, :rows, :cols].cpu().numpy()
        )
        return BlockAnswer(self.block, labels, confidence, probabilities, pixels, self.tiles)

    def _read(self, row: int) -> _Band | None:
        window = self.work.row_window(self.block, row)
        if window is None:
            return None
        band = _Band.read(self.work, window)
        if band.valid is not None:
            cells = band.valid[: self.grid.stride_px, : self.num_cols * self.grid.stride_px]
            self.num_invalid += cells.size - int(np.count_nonzero(cells))
        return band

    def _look(
        self, row: int, first: int, count: int, band: _Band | None, prior: Tensor | None
    ) -> tuple[Tensor | None, ndarray]:
        """(logits of a batch, which of its tiles were looked at)."""
        run = np.zeros(count, bool)
        cols = range(self.block.cell_cols[0] + first, self.block.cell_cols[0] + first + count)
        for index, col in enumerate(cols):
            if not self.grid.has_tile(row, col):
                continue
            if not self.work.wants(row, col):
                self.tiles.unselected += 1
            elif band is None or not band.has_data(self.grid.tile(row, col)):
                self.tiles.empty += 1
            else:
                run[index] = True
        if band is None or not run.any():
            return None, run
        self.tiles.run += int(run.sum())
        return self._forward(row, [cols[index] for index in np.flatnonzero(run)], cols[0], band, prior), run

    def _forward(
        self, row: int, cols: list[int], first_col: int, band: _Band, prior: Tensor | None
    ) -> Tensor:
        """Logits of a batch that begins with tile (row, first_col), as `prior` does; only `cols` hold any."""
        work, grid = self.work, self.grid
        images = work.tiles_buffer()
        valid = None if band.valid is None else torch.from_numpy(band.valid).to(images.device)
        priors = None
        if prior is not None:
            priors = torch.zeros(
                (len(images), self.num_logits, grid.tile_px, grid.tile_px), device=images.device
            )
        for col in cols:
            tile, place = grid.tile(row, col), slice(col - first_col, col - first_col + 1)
            at = [[tile.top - band.window.top, tile.left - band.window.left]]
            corner = torch.tensor(at, device=images.device)
            cut_tiles(band.pixels, valid, corner, grid.tile_px, self.scale, self.shift, images[place])
            if prior is not None and priors is not None:
                left = (col - first_col) * grid.stride_px
                priors[place] = prior[:, :, left : left + grid.tile_px]
        return run_segmenter(work.segmenter, images, priors, work.setting, self.num_logits)

    def _look_again(self, row: int, col: int) -> Tensor | None:
        """Logits of one tile of another block, whose strip is not here any more."""
        tile = self.grid.tile(row, col).intersect(Window(0, 0, self.grid.height, self.grid.width))
        band = _Band.read(self.work, tile)
        if not band.has_data(tile):
            return None
        self.tiles.run += 1
        self.tiles.again += 1
        return self._forward(row, [col], col, band, self._prior(row, col, 1))[0].clone()

    def _receive(self, kind: str, row: int, col: int, writer: tuple[int, int]) -> Tensor | None:
        """The strip of a tile of block `writer`; None if that tile was not looked at."""
        if not self.work.wants(row, col):
            return None
        found, strip = self.work.borders.take((kind, row, col), self.key, writer)
        if found:
            return strip
        logits = self._look_again(row, col)
        return None if logits is None else _cut_strip(logits, kind, self.grid.stride_px)

    def _receive_above(self, row: int) -> None:
        """Fill the strips above the block's first row."""
        stride, up = self.grid.stride_px, self.block.row - 1
        corner = self._receive("corner", row - 1, self.block.cell_cols[0] - 1, (up, self.block.col - 1))
        if corner is not None:
            self._strips("above", corner)[0, :, :, stride:] = corner
            self.above_run[0] = True
        for index in range(self.num_cols):
            strip = self._receive("bottom", row - 1, self.block.cell_cols[0] + index, (up, self.block.col))
            if strip is not None:
                self._strips("above", strip)[index + 1] = strip
                self.above_run[index + 1] = True

    def _receive_left(self, row: int) -> Tensor | None:
        """The last columns of the tile left of the block; their last rows are kept for the next row."""
        strip = self._receive("right", row, self.block.cell_cols[0] - 1, (self.block.row, self.block.col - 1))
        if strip is not None:
            self._strips("below", strip)[0, :, :, self.grid.stride_px :] = strip[:, self.grid.stride_px :]
        return strip

    def _hand_on(self, row: int, col: int, logits: Tensor | None) -> None:
        """Leave the strips of a tile on the block's edge to the blocks below and on the right."""
        if not self.work.wants(row, col):
            return
        block, grid = self.block, self.grid
        is_last_row = row == block.cell_rows[1] - 1 and block.cell_rows[1] < grid.cell_rows
        is_last_col = col == block.cell_cols[1] - 1 and block.cell_cols[1] < grid.cell_cols
        readers = {
            "bottom": (block.row + 1, block.col) if is_last_row else None,
            "right": (block.row, block.col + 1) if is_last_col else None,
            "corner": (block.row + 1, block.col + 1) if is_last_row and is_last_col else None,
        }
        for kind, reader in readers.items():
            if reader is not None:
                strip = None if logits is None else _cut_strip(logits, kind, grid.stride_px)
                self.work.borders.leave((kind, row, col), strip, reader)

    def _strips(self, which: str, like: Tensor) -> Tensor:
        """The buffer `above` or `below`, made when first needed, in the type that the network answers in."""
        strips: Tensor | None = getattr(self, which)
        if strips is None:
            shape = self.num_cols + 1, self.num_logits, self.grid.overlap_px, self.grid.tile_px
            strips = torch.empty(shape, dtype=like.dtype, device=like.device)
            setattr(self, which, strips)
        return strips

    def _finish_cells(
        self,
        row: int,
        first: int,
        own: tuple[Tensor | None, ndarray],
        left: tuple[Tensor | None, bool],
        band: _Band | None,
        prior: Tensor | None,
    ) -> None:
        """Blend cells of a row from their own tiles, what is left of them and above them, and the prior."""
        work, grid = self.work, self.grid
        logits, run = own
        count, stride = len(run), grid.stride_px
        present = np.zeros((count, 4), np.uint8)
        present[:, 0] = run
        present[:, 1] = self.above_run[first + 1 : first + 1 + count]
        present[:, 2] = np.concatenate([[left[1]], run[:-1]])
        present[:, 3] = self.above_run[first : first + count]
        valid = self._valid(first, count, band)
        nothing_to_say = not present.any() and work.prior is None
        if nothing_to_say or (valid is not None and not valid.any()):
            return
        shape = count, self.num_logits, grid.tile_px, grid.tile_px
        tiles = (
            logits[:count]
            if logits is not None
            else _nothing(shape, self._dtype(left[0]), self.labels.device)
        )
        strips = self.above[first : first + count + 1] if self.above is not None else None
        above = strips[1:] if strips is not None else tiles[:, :, stride:]
        corner = strips[:-1, :, :, stride:] if strips is not None else tiles[:, :, stride:, stride:]
        # where nothing lies on the left, anything may stand for it: it is not read
        outer = (left[0] if left[0] is not None else tiles[0, :, :, stride:])[None]
        lefts = outer if count == 1 else torch.cat([outer, tiles[:-1, :, :, stride:]])
        weights = torch.from_numpy(cell_weights(grid, row, grid.rows, work.stage.spec.trim_px)).to(
            self.labels.device
        )
        place = slice((row - self.block.cell_rows[0]) * stride, (row - self.block.cell_rows[0] + 1) * stride)
        blend_tiles(
            tiles,
            above,
            lefts,
            corner,
            torch.from_numpy(present).to(self.labels.device),
            weights.expand(count, stride),
            self.col_weights[first : first + count],
            activation=work.model_spec.activation,
            prior=None if prior is None else _cells(prior[:, :stride], 0, count, stride),
            valid=valid,
            labels=_cells(self.labels[place], first, count, stride),
            confidence=None
            if self.confidence is None
            else _cells(self.confidence[place], first, count, stride),
            probabilities=None
            if self.probabilities is None
            else _cells(self.probabilities[:, place], first, count, stride),
        )

    def _dtype(self, left: Tensor | None) -> torch.dtype:
        strips = left if left is not None else self.above
        return torch.float32 if strips is None else strips.dtype

    def _valid(self, first: int, count: int, band: _Band | None) -> Tensor | None:
        if band is None or band.valid is None:
            return None
        stride = self.grid.stride_px
        part = band.valid[:stride, first * stride : (first + count) * stride]
        cells = np.zeros((stride, count * stride), np.uint8)
        cells[: part.shape[0], : part.shape[1]] = part
        return _cells(torch.from_numpy(cells).to(self.labels.device), 0, count, stride)

    def _has_data(self, row: int, first: int, count: int, band: _Band | None) -> bool:
        stride, overlap = self.grid.stride_px, self.grid.overlap_px
        left = (self.block.cell_cols[0] + first) * stride
        return band is None or band.has_data(
            Window(row * stride, left, self.grid.tile_px, count * stride + overlap)
        )

    def _prior(self, row: int, col: int, count: int) -> Tensor | None:
        """What the stage before says (K, t, ...) under `count` tiles beginning with (row, col)."""
        if self.work.prior is None:
            return None
        stride, overlap = self.grid.stride_px, self.grid.overlap_px
        window = Window(row * stride, col * stride, self.grid.tile_px, count * stride + overlap)
        return self.work.prior.read(window)[0].to(self.labels.device)


def _cut_strip(logits: Tensor, kind: str, stride: int) -> Tensor:
    """What the neighbour in direction `kind` needs of a tile's (K, t, t)."""
    if kind == "bottom":
        return logits[:, stride:]
    return logits[:, :, stride:] if kind == "right" else logits[:, stride:, stride:]


def _cells(row: Tensor, first: int, count: int, stride: int) -> Tensor:
    """`count` cells of a row (..., S, width) as (N, ..., S, S), without a copy."""
    part = row[..., first * stride : (first + count) * stride]
    cells: Tensor = part.unflatten(-1, (count, stride))
    return cells.movedim(-2, 0)


def _nothing(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Stands where no tile was looked at; never read."""
    return torch.zeros(1, dtype=dtype, device=device).expand(shape)
