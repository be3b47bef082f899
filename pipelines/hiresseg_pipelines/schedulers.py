"""Who computes the blocks: a scheduler maps a task over addresses, and yields reports in any order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

from hiresseg.errors import Interrupted
from hiresseg.geometry import Block

ReportT_co = TypeVar("ReportT_co", covariant=True)
ReportT = TypeVar("ReportT")


@runtime_checkable
class BlockTask(Protocol[ReportT_co]):
    """What is done to each block."""

    def announce(self, block: Block) -> None:
        """Called in the order of the blocks, before any later block is announced; returns at once."""
        ...

    def compute(self, block: Block) -> ReportT_co:
        """Computes a block, writes it, reports on it."""
        ...


@runtime_checkable
class Scheduler(Protocol):
    """Maps a task over blocks; the answer to a block does not depend on who computes it, or when."""

    def map(
        self, task: BlockTask[ReportT], blocks: Sequence[Block], should_stop: threading.Event
    ) -> Generator[ReportT, None, None]:
        """Reports of all blocks, as they are finished.

        Args:
            task: what is done to each.
            blocks: begun in this order, as far as the scheduler can.
            should_stop: once set no further block is begun; those under way are finished, then `Interrupted`
                is raised.
        """
        ...


class ThreadScheduler:
    """dask's threaded scheduler: blocks in threads of this process, begun exactly in their order.

    Args:
        workers: blocks at the same time.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(
        self, task: BlockTask[ReportT], blocks: Sequence[Block], should_stop: threading.Event
    ) -> Generator[ReportT, None, None]:
        """See `Scheduler.map`; an error in one block stops the others after the block that they are at."""
        turns = _Turns(task, iter(blocks), should_stop)
        thread = threading.Thread(
            target=turns.run_all, args=(len(blocks), self.workers), name="hiresseg-scheduler", daemon=True
        )
        thread.start()
        done = 0
        try:
            while (report := turns.reports.get()) is not None:
                done += 1
                yield report
        finally:
            # a caller that goes away waits for the blocks under way: what they use is about to be closed
            turns.is_over.set()
            thread.join()
        if turns.errors:
            # the first in time: the others may be its consequences
            raise turns.errors[0]
        if done < len(blocks):
            raise Interrupted(
                f"stopped after {done} of {len(blocks)} blocks; the same command goes on from there"
            )


class _Turns(Generic[ReportT]):
    """What the threads of one `map` share.

    dask begins independent tasks in an order of its own, and a block wants the one before it begun. So a task
    of dask's graph is only a turn, and which block is done in it is decided here.
    """

    def __init__(
        self, task: BlockTask[ReportT], waiting: Iterator[Block], should_stop: threading.Event
    ) -> None:
        self.task, self.waiting, self.should_stop = task, waiting, should_stop
        self.reports: queue.SimpleQueue[ReportT | None] = queue.SimpleQueue()
        self.errors: list[BaseException] = []
        self.is_over = threading.Event()
        self._beginning = threading.Lock()

    def run_all(self, num_turns: int, workers: int) -> None:
        """Let dask give every block its turn; a report of None follows the last."""
        from dask.threaded import get

        graph = {f"turn-{number}": (self._take_turn,) for number in range(num_turns)}
        try:
            get(graph, list(graph), num_workers=workers)
        except BaseException as error:  # noqa: BLE001 - the scheduler's edge: handed to the caller of `map`
            self.errors.append(error)
        self.reports.put(None)

    def _take_turn(self) -> None:
        block = self._begin()
        if block is None:
            return
        try:
            self.reports.put(self.task.compute(block))
        except BaseException as error:  # noqa: BLE001 - likewise
            error.add_note(f"while block ({block.row}, {block.col}) was computed")
            self.errors.append(error)
            self.is_over.set()

    def _begin(self) -> Block | None:
        with self._beginning:
            if self.should_stop.is_set() or self.is_over.is_set():
                return None
            block = next(self.waiting)
            self.task.announce(block)
            return block
