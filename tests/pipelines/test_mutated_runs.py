"""Journal, record, metadata or shard of a run damaged at random: mended or refused; never other bytes."""

from __future__ import annotations

import importlib.util
import shutil
from collections import Counter
from pathlib import Path

import pytest
import rasterio

from .conftest import write_scene

_spec = importlib.util.spec_from_file_location(
    "mutations", Path(__file__).parents[1] / "mutation" / "mutations.py"
)
mutations = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mutations)


@pytest.fixture(scope="module")
def runs(typed_in_fork, toy_model, tmp_path_factory):
    """(a finished run, the same one killed half-way, the command without its folder)."""
    folder = tmp_path_factory.mktemp("runs")
    scene = write_scene(folder / "scene.tif", 600, 700, seed=4)
    command = ["run", scene, "-m", toy_model, "--confidence", "--workers", 1, "--block", 448, "-o"]
    assert typed_in_fork(*command, folder / "finished").code == 0
    dies = {"call": "fsync", "path": "run.zarr/journal", "nth": 2, "when": "after", "then": "die"}
    assert typed_in_fork(*command, folder / "half", faults=[dies]).code != 0
    return folder / "finished", folder / "half", command


def damage(folder: Path, kind: str, number: int) -> tuple[Path, str]:
    """Damage one file of the run: the small ones that say what is there as often as all the shards."""
    rng = mutations.rng_of(kind, number)
    group = folder / "run.zarr"
    named = [group / "journal", group / "zarr.json", group / "labels" / "zarr.json"]
    others = sorted(path for path in folder.rglob("*") if path.is_file() and path not in named)
    others = [path for path in others if path.name not in {".lock", "report.json"}]
    pool = named if rng.random() < 0.6 else others
    victim = pool[int(rng.integers(len(pool)))]
    way, damaged = mutations.mutate(victim.read_bytes(), rng)
    victim.write_bytes(damaged)
    return victim.relative_to(folder), way


def contents(folder: Path) -> dict[str, bytes]:
    """What must not change, but for the picture: the thumbnail that it is made of has no checksum."""
    group = folder / "run.zarr"
    kept = [
        folder / "labels.tif",
        folder / "confidence.tif",
        *group.rglob("c/**/*"),
        *group.rglob("zarr.json"),
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(kept) if path.is_file()}


def go_on(typed_in_fork, runs, out: Path, number: int) -> str:
    """Damage a half finished run and go on with it."""
    finished, half, command = runs
    shutil.copytree(half, out)
    where, way = damage(out, "half", number)
    typed = typed_in_fork(*command, out)
    said = f"case {number}, {where} {way}: {typed}"
    assert typed.code in (0, 2), said
    assert "Traceback" not in typed.err, said
    if typed.code == 0:
        ours, theirs = contents(out), contents(finished)
        assert [name for name in theirs if ours.get(name) != theirs[name]] == [], said
    else:
        assert str(out) in typed.err, said
    shutil.rmtree(out)
    return "same bytes" if typed.code == 0 else "refused"


def prove(typed_in_fork, runs, out: Path, number: int) -> str:
    """Damage a finished run and verify it: harm is found, or there is none."""
    shutil.copytree(runs[0], out)
    where, way = damage(out, "finished", number)
    typed = typed_in_fork("verify", out)
    said = f"case {number}, {where} {way}: {typed}"
    assert typed.code in (0, 2), said
    assert "Traceback" not in typed.err, said
    if typed.code == 0 and where.suffix == ".tif":
        with rasterio.open(out / where) as ours, rasterio.open(runs[0] / where) as theirs:
            assert (ours.read() == theirs.read()).all(), said
    elif typed.code == 0:
        unread = {"preview.png", "thumbnail.npy", "thumbnail-valid.npy"}
        assert where.name in unread or contents(out) == contents(runs[0]), said
    shutil.rmtree(out)
    return "found" if typed.code else "harmless"


@pytest.mark.parametrize("attempt", [go_on, prove])
def test_a_damaged_run_is_mended_or_refused(typed_in_fork, runs, tmp_path, attempt):
    for number in range(30):
        attempt(typed_in_fork, runs, tmp_path / "out", number)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("attempt", [go_on, prove])
def test_many_damaged_runs(typed_in_fork, runs, tmp_path, attempt):
    outcomes: Counter[str] = Counter()
    failures = []
    for number in range(1000, 1875):
        out = tmp_path / str(number)
        try:
            outcomes[attempt(typed_in_fork, runs, out, number)] += 1
        except AssertionError as error:
            failures.append(str(error)[:800])
    print(attempt.__name__, dict(outcomes), len(failures))  # noqa: T201 - the counts are what is asked for
    assert not failures, "\n".join(failures)
