"""What neighbouring blocks hand each other, so that no tile is computed twice.

A tile on the lower or right edge of a block also feeds the cells of the next block. The strip of its logits
that they need is left here, addressed to that block, and taken once. A strip that is not here (another
process, a restart, an order of blocks that was not foreseen) only means that its tile is computed again: no
answer depends on it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hiresseg.pool import Pool
from hiresseg.scratch import ScratchFile

Key = tuple[str, int, int]
"""(`bottom`, `right` or `corner`; row and column of the tile)."""


@dataclass(frozen=True, slots=True)
class _Spilled:
    file: ScratchFile
    slot: int
    shape: torch.Size
    dtype: torch.dtype


_Piece = Tensor | _Spilled | None


class Borders:
    """Strips of logits on their way from block to block; thread-safe, bounded in memory.

    Args:
        pending: (row, col) of the blocks still to be done in this process.
        memory_bytes: strips beyond this go to a scratch file.
        scratch: folder of the scratch file, which is made when needed and never outlives the process.
    """

    def __init__(self, pending: Iterable[tuple[int, int]], memory_bytes: int, scratch: Path) -> None:
        self._pending = set(pending)
        self._running: set[tuple[int, int]] = set()
        self._pieces: dict[tuple[int, int], dict[Key, _Piece]] = {}
        self._memory_bytes = memory_bytes
        self._held_bytes = 0
        self._pool = Pool()
        self._scratch = scratch
        # all strips of a kind are of one size
        self._files: dict[int, ScratchFile] = {}
        self._changed = threading.Condition()
        self._stopped = False

    def start(self, block: tuple[int, int]) -> None:
        """Say that `block` is being computed by this process from now on."""
        with self._changed:
            self._running.add(block)

    def finish(self, block: tuple[int, int]) -> None:
        """Say that `block` is done, or given up; what nobody took of its strips is dropped."""
        with self._changed:
            self._running.discard(block)
            self._pending.discard(block)
            for piece in self._pieces.pop(block, {}).values():
                self._release(piece)
            self._changed.notify_all()

    def stop(self) -> None:
        """Wake everybody who waits; they find nothing."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def leave(self, key: Key, strip: Tensor | None, reader: tuple[int, int]) -> None:
        """Leave a strip (None: its tile was not run) for block `reader`, unless that needs none any more."""
        with self._changed:
            if reader not in self._pending:
                return
            piece: _Piece = None
            if strip is not None:
                num_bytes = strip.numel() * strip.element_size()
                on_cpu = strip.device.type == "cpu"
                if on_cpu and self._held_bytes + num_bytes > self._memory_bytes:
                    piece = self._spill(strip.contiguous(), num_bytes)
                else:
                    piece = self._copy(strip, num_bytes) if on_cpu else strip.clone()
                    self._held_bytes += num_bytes
            self._pieces.setdefault(reader, {})[key] = piece
            self._changed.notify_all()

    def take(self, key: Key, reader: tuple[int, int], writer: tuple[int, int]) -> tuple[bool, Tensor | None]:
        """(found, strip) of what block `writer` leaves for `reader`; waits while `writer` is running."""
        with self._changed:
            while key not in self._pieces.get(reader, {}):
                if self._stopped or writer not in self._running:
                    return False, None
                self._changed.wait()
            piece = self._pieces[reader].pop(key)
            if isinstance(piece, _Spilled):
                return True, self._load(piece)
            self._release(piece)
            return True, piece

    def close(self) -> None:
        """Drop everything."""
        with self._changed:
            self._pieces.clear()
            for file in self._files.values():
                file.close()

    def _copy(self, strip: Tensor, num_bytes: int) -> Tensor:
        own = torch.from_numpy(self._pool.take(num_bytes)).view(strip.dtype).reshape(strip.shape)
        return own.copy_(strip)

    def _spill(self, strip: Tensor, num_bytes: int) -> _Spilled:
        if num_bytes not in self._files:
            self._files[num_bytes] = ScratchFile(self._scratch, num_bytes)
        file = self._files[num_bytes]
        slot = file.take_slot()
        file.write(slot, strip.view(torch.uint8).numpy().data)
        return _Spilled(file, slot, strip.shape, strip.dtype)

    def _load(self, piece: _Spilled) -> Tensor:
        strip = torch.empty(piece.shape, dtype=piece.dtype)
        piece.file.read_into(piece.slot, strip.view(torch.uint8).numpy().data)
        piece.file.free_slot(piece.slot)
        return strip

    def _release(self, piece: _Piece) -> None:
        if isinstance(piece, _Spilled):
            piece.file.free_slot(piece.slot)
        elif piece is not None:
            self._held_bytes -= piece.numel() * piece.element_size()
