"""Killed, stopped, out of disk or damaged anywhere: the same command goes on and ends in the same bytes."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from .conftest import read_report, result_bytes


def fault(call: str, path: str, nth: int, when: str, then: str | int = "die") -> dict:
    return {"call": call, "path": path, "nth": nth, "when": when, "then": then}


@pytest.fixture
def command(toy_scene, toy_model, tmp_path):
    return ["run", toy_scene, "-m", toy_model, "-o", tmp_path / "out", "--confidence", "--workers", 2]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def journal_lines(out) -> int:
    return (out / "run.zarr" / "journal").read_bytes().count(b"\n")


def assert_same_result(out, finished) -> None:
    assert result_bytes(out) == result_bytes(finished)
    assert not list(out.rglob("*.partial"))
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in finished.iterdir())
    ours, theirs = read_report(out), read_report(finished)
    assert ours["classes"] == theirs["classes"]
    assert_adds_up(ours)
    # every tile was looked at once for each pixel that it feeds, and again only beside a kill
    for stage, reference in zip(ours["stages"], theirs["stages"], strict=True):
        assert stage["tiles_run"] - stage["tiles_run_again"] == reference["tiles_run"]


def assert_adds_up(report) -> None:
    """What is told of the run is what its processes took; all of the scene was decoded by them."""
    processes = report["processes"]
    for clock in ("seconds", "cpu_seconds"):
        for phase, taken in report[clock].items():
            assert taken == pytest.approx(sum(process[clock].get(phase, 0) for process in processes)), phase
    decoded = sum(process["bytes_decoded"] for process in processes)
    assert report["scene"]["bytes_decoded"] == decoded >= report["scene"]["bytes"]
    assert report["scene"]["read_amplification"] == decoded / report["scene"]["bytes"]
    assert report["memory"]["peak_bytes"] == max(process["peak_bytes"] for process in processes)
    begun = [process["begun_at"] for process in processes]
    assert begun == sorted(set(begun))
    assert report["begun_at"] == begun[0]
    assert report["finished_at"] > begun[-1]


def test_killed_at_every_named_point_in_a_row_the_same_command_ends_in_the_same_bytes(
    typed_in_fork, command, out, finished
):
    points = [
        fault("replace", "labels/zarr.json", 1, "after"),
        fault("replace", "run.zarr/zarr.json", 1, "before"),
        # between the record and the first block
        fault("replace", "run.zarr/zarr.json", 1, "after"),
        fault("replace", "thumbnail-valid.npy", 1, "before"),
        fault("fsync", "labels/c/", 1, "before"),
        fault("replace", "confidence/c/", 2, "before"),
        # both shards are there, the journal does not say so
        fault("replace", "confidence/c/", 2, "after"),
        fault("fsync", "run.zarr/journal", 2, "before"),
        fault("fsync", "run.zarr/journal", 3, "after"),
        fault("fsync", ".labels.tif.partial", 1, "before"),
        fault("replace", "out/labels.tif", 1, "before"),
        fault("replace", "out/labels.tif", 1, "after"),
        fault("replace", "out/confidence.tif", 1, "before"),
        fault("replace", "out/preview.png", 1, "after"),
        fault("replace", "out/report.json", 1, "before"),
    ]
    done = 0
    for point in points:
        typed = typed_in_fork(*command, faults=[point])
        assert typed.code == -signal.SIGKILL, (point, typed)
        assert not (out / "report.json").exists()
        if (out / "run.zarr" / "zarr.json").exists():
            assert journal_lines(out) >= done, point
            done = journal_lines(out)
    typed = typed_in_fork(*command)
    assert typed.code == 0, typed
    report = read_report(out)
    assert report["blocks_resumed"] == 12
    # at least three of those that were killed had finished a block, and the last one had none left to do
    assert len(report["processes"]) >= 4
    assert "stage 1" not in report["processes"][-1]["seconds"]
    assert report["seconds"]["stage 1"] > 0
    assert_same_result(out, finished)


def test_a_cascade_is_gone_on_with_in_either_stage(typed_in_fork, toy_scene, toy_cascade, tmp_path):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    command = ["run", toy_scene, "-m", toy_cascade, "--confidence", "--workers", 2, "--block", 448, "-o"]
    assert typed_in_fork(*command, undisturbed).code == 0
    coarse, fine = read_report(undisturbed)["stages"]
    assert (coarse["tiles_run"], coarse["tiles_run_again"], coarse["tiles_unselected"]) == (12, 0, 0)
    assert fine["tiles_run_again"] == 0
    assert 0 < fine["tiles_run"] < 48
    assert fine["tiles_run"] + fine["tiles_unselected"] == 48
    for point in (
        fault("fsync", "run.zarr/journal", 2, "after"),
        # the first stage is complete, the second not begun
        fault("fsync", "run.zarr/journal", 2, "after"),
        fault("replace", "confidence/c/", 3, "after"),
        fault("replace", "out/preview.png", 1, "before"),
    ):
        assert typed_in_fork(*command, out, faults=[point]).code == -signal.SIGKILL, point
    assert typed_in_fork(*command, out).code == 0
    assert_same_result(out, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_asked_to_stop_once_it_finishes_its_blocks_and_can_be_gone_on_with(
    typed_in_fork, command, out, finished, number
):
    stop = fault("fsync", "run.zarr/journal", 3, "after", int(number))
    typed = typed_in_fork(*command, faults=[stop])
    assert typed.code == 130, typed
    assert "finishing the blocks under way" in typed.err
    assert "the same command goes on" in typed.err
    assert "Traceback" not in typed.err
    # the third, and what the other worker was at
    assert 3 <= journal_lines(out) <= 5
    assert not (out / "labels.tif").exists()

    twice = [
        fault("fsync", "run.zarr/journal", 1, "after", int(number)),
        fault("fsync", "run.zarr/journal", 2, "before", int(number)),
    ]
    typed = typed_in_fork(*command, faults=twice)
    assert typed.code == 130, typed
    assert "stopped at once" in typed.err

    # asked while the outputs are written
    before = journal_lines(out)
    typed = typed_in_fork(*command, faults=[fault("replace", "out/labels.tif", 1, "after", int(number))])
    assert typed.code == 130, typed
    assert journal_lines(out) == 12 > before
    assert not (out / "report.json").exists()
    assert typed_in_fork(*command).code == 0
    assert_same_result(out, finished)


def test_a_full_disk_is_said_by_name_and_the_same_command_goes_on(typed_in_fork, command, out, finished):
    places = [
        fault("replace", "labels/zarr.json", 1, "before", "ENOSPC"),
        fault("replace", "thumbnail.npy", 1, "before", "ENOSPC"),
        fault("fsync", "labels/c/", 3, "before", "ENOSPC"),
        fault("fsync", "run.zarr/journal", 2, "before", "EIO"),
        fault("fsync", ".confidence.tif.partial", 1, "before", "EDQUOT"),
        fault("replace", "out/report.json", 1, "before", "ENOSPC"),
    ]
    for place in places:
        typed = typed_in_fork(*command, faults=[place])
        assert typed.code == 2, (place, typed)
        assert "cannot be written" in typed.err
        assert str(out) in typed.err
        assert "Traceback" not in typed.err
        assert not list(out.rglob("*.partial")), place
        assert not (out / "report.json").exists()
    assert typed_in_fork(*command).code == 0
    assert_same_result(out, finished)


def test_what_was_damaged_between_two_runs_is_computed_again(typed_in_fork, command, out, finished):
    shutil.copytree(finished, out)
    (out / "report.json").unlink()
    shards = sorted((out / "run.zarr" / "labels" / "c").glob("*/*"))
    damaged = bytearray(shards[1].read_bytes())
    damaged[len(damaged) // 2] ^= 4
    shards[1].write_bytes(damaged)
    shards[5].unlink()
    shards[7].write_bytes(shards[7].read_bytes()[:-9])
    journal = out / "run.zarr" / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"stage": 0', b'"stage": 7')
    journal.write_bytes(b"".join(lines) + lines[0][:40])
    typed = typed_in_fork(*command)
    assert typed.code == 0, typed
    assert 12 - 4 <= read_report(out)["blocks_resumed"] < 12
    assert_same_result(out, finished)


def test_a_finished_run_is_not_done_again_but_lost_outputs_are_written(typed_in_fork, command, out, finished):
    shutil.copytree(finished, out)
    stamp = (out / "labels.tif").stat().st_mtime_ns
    typed = typed_in_fork(*command)
    assert typed.code == 0
    assert "finished already" in typed.err
    assert (out / "labels.tif").stat().st_mtime_ns == stamp
    (out / "confidence.tif").unlink()
    assert typed_in_fork(*command).code == 0
    report = read_report(out)
    assert report["blocks_resumed"] == 12
    first, second = report["processes"]
    assert second["bytes_decoded"] == 0
    assert report["begun_at"] == first["begun_at"] == read_report(finished)["begun_at"]
    assert_same_result(out, finished)
    # without the picture that was sampled with the blocks there is no preview
    (out / "preview.png").unlink()
    (out / "run.zarr" / "thumbnail.npy").unlink()
    typed = typed_in_fork(*command)
    assert "all blocks are computed again" in typed.err
    assert_same_result(out, finished)


def test_overwrite_starts_anew_with_other_parameters(typed_in_fork, command, out, finished):
    shutil.copytree(finished, out)
    fewer = [word for word in command if word != "--confidence"]
    killed = typed_in_fork(*fewer, "--overwrite", faults=[fault("replace", "labels/zarr.json", 1, "before")])
    assert killed.code == -signal.SIGKILL
    # what stood there was given up before anything new was begun
    assert not (out / "labels.tif").exists()
    assert typed_in_fork(*fewer, "--overwrite").code == 0
    report = read_report(out)
    assert report["blocks_resumed"] == 0
    assert not (out / "confidence.tif").exists()
    assert not (out / "run.zarr" / "confidence").exists()
    assert (out / "labels.tif").read_bytes() == (finished / "labels.tif").read_bytes()


def test_two_runs_do_not_share_a_folder(typed_in_fork, hiresseg, command, out, finished):
    from hiresseg.lock import FolderLock

    shutil.copytree(finished, out)
    lock = FolderLock(out)
    lock.take()
    typed = typed_in_fork(*command)
    assert typed.code == 2
    assert "another run is writing there" in typed.err
    assert str(os.getpid()) in typed.err
    assert (out / ".lock").exists()
    lock.release()
    assert not (out / ".lock").exists()
    assert typed_in_fork(*command).code == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_no_tile_is_run_twice_and_workers_do_not_change_the_answer(
    typed_in_fork, toy_scene, toy_model, out, finished, workers
):
    command = ["run", toy_scene, "-m", toy_model, "-o", out, "--confidence", "--workers", workers]
    assert typed_in_fork(*command, "--block", 448).code == 0
    for folder in (out, finished):
        (stage,) = read_report(folder)["stages"]
        assert (stage["tiles"], stage["tiles_run"], stage["tiles_run_again"]) == (48, 48, 0)
    ours, theirs = result_bytes(out), result_bytes(finished)
    assert {name: ours[name] == theirs[name] for name in ours} == dict.fromkeys(theirs, True)
