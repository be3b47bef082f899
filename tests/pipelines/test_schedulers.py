"""Every scheduler does the same: all blocks once, begun in order, stopped on request, ended by an error."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from hiresseg.errors import Interrupted, SceneError
from hiresseg.geometry import Block, TileGrid
from hiresseg_pipelines.schedulers import ThreadScheduler

BLOCKS = TileGrid(512, 0, 512 * 20, 512).blocks(512)


@dataclass
class RecordingTask:
    announced: list[int] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)
    fails_at: int | None = None
    stops_at: int | None = None
    should_stop: threading.Event = field(default_factory=threading.Event)

    def announce(self, block: Block) -> None:
        self.announced.append(block.row)

    def compute(self, block: Block) -> int:
        assert block.row in self.announced
        time.sleep(0.002)
        if block.row == self.fails_at:
            raise SceneError("no such pixels")
        if block.row == self.stops_at:
            self.should_stop.set()
        self.computed.append(block.row)
        return block.row


@pytest.fixture(params=[1, 2, 5])
def scheduler(request):
    return ThreadScheduler(request.param)


def test_all_blocks_are_begun_in_their_order_and_reported_once(scheduler):
    task = RecordingTask()
    assert sorted(scheduler.map(task, BLOCKS, task.should_stop)) == list(range(20))
    assert task.announced == list(range(20))


def test_no_blocks_are_no_reports(scheduler):
    assert list(scheduler.map(RecordingTask(), [], threading.Event())) == []


def test_a_request_to_stop_ends_after_the_blocks_under_way(scheduler):
    task, reports = RecordingTask(stops_at=6), []
    with pytest.raises(Interrupted, match="of 20 blocks; the same command goes on"):
        collect(reports, scheduler.map(task, BLOCKS, task.should_stop))
    assert 6 in reports
    assert sorted(reports) == sorted(task.computed) == task.announced
    assert len(reports) < 7 + scheduler.workers


def test_the_first_error_ends_the_others_after_the_blocks_under_way(scheduler):
    task, reports = RecordingTask(fails_at=6), []
    with pytest.raises(SceneError, match="no such pixels") as caught:
        collect(reports, scheduler.map(task, BLOCKS, task.should_stop))
    assert caught.value.__notes__ == ["while block (6, 0) was computed"]
    assert sorted(reports) == sorted(task.computed)
    assert len(task.announced) < 7 + scheduler.workers


def test_a_caller_that_goes_away_waits_for_the_blocks_under_way(scheduler):
    task = RecordingTask()
    reports = scheduler.map(task, BLOCKS, task.should_stop)
    next(reports)
    reports.close()
    assert sorted(task.computed) == task.announced
    assert len(task.computed) < 20


def collect(reports: list, source) -> None:
    """What came before an error stays in `reports`."""
    for report in source:
        reports.append(report)
