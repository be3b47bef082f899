"""Kills a real run at random moments, types the same command again, and compares all bytes of the outcome.

    python benchmarks/kill.py [--kills 50] [--seed 0]

Each run is a process of its own, forked from one that has imported everything, so that a cycle costs seconds.
The moments are random, and spread over the whole run by its progress: its beginning, its blocks, and the
writing of the outputs. Every third resumption is killed again. Prints "50 of 50" if all bytes are those of an
undisturbed run, and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

SIDE_PX, BLOCK_PX = 3584, 448
# the beginning and the writing of the outputs are short, and get a fifth of the kills each
BEGIN, END = 0.2, 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="cycles of kill and resume")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hiresseg-kill-") as folder:
        outcome = kill_and_compare(Path(folder), options.kills, random.Random(options.seed))
    print(f"{outcome['identical']} of {options.kills}")
    print(json.dumps(outcome))
    sys.exit(outcome["identical"] != options.kills)


def kill_and_compare(folder: Path, num_kills: int, rng: random.Random) -> dict:
    import_everything()
    log = folder / "log"
    command = ["run", str(make_scene(folder)), "-m", str(make_model(folder)), "--confidence"]
    command += ["--workers", "2", "--block", str(BLOCK_PX)]
    # once to compile and to fill caches, once for the measure
    finish(start(command, folder / "warm", log))
    pace = Pace.of_run(command, folder / "reference", log)
    reference = result_bytes(folder / "reference")
    print(f"undisturbed: {pace}; {len(reference)} files are compared", flush=True)
    identical, died = 0, Counter()
    for number in range(num_kills):
        out = folder / f"out-{number}"
        # one moment in each of as many slices of the run
        place = kill(command, out, log, pace, (number + rng.random()) / num_kills, rng)
        died[place] += 1
        if number % 3 == 0:
            place += ", then " + kill(command, out, log, pace, rng.random(), rng)
        code = finish(start(command, out, log))
        same = code == 0 and result_bytes(out) == reference and not list(out.rglob("*.partial"))
        identical += same
        print(f"{number + 1:3}: killed {place}: {'same bytes' if same else 'DIFFERS'}", flush=True)
        if not same:
            print(log.read_text()[-2000:])
        shutil.rmtree(out)
    return {"kills": num_kills, "identical": identical, "blocks": pace.blocks, "died": dict(died)}


def import_everything() -> None:
    import dask.threaded
    import torch._dynamo

    import hiresseg_pipelines.run

    del dask, torch
    # which layout is faster is measured, and must not decide what is compared here
    real = hiresseg_pipelines.run.calibrate
    hiresseg_pipelines.run.calibrate = lambda model, wanted, *_: real(model, wanted, "nothing")


@dataclass(frozen=True)
class Pace:
    """Seconds that the parts of an undisturbed run take here."""

    blocks: int
    to_first_block: float
    all_blocks: float
    outputs: float

    @classmethod
    def of_run(cls, command: list[str], out: Path, log: Path) -> Pace:
        """Measure an undisturbed run."""
        began = time.perf_counter()
        child = start(command, out, log)
        first = wait_for_blocks(child, out, 1)
        seconds = time.perf_counter() - began
        if finish(child) or not first:
            raise SystemExit(log.read_text())
        phases = json.loads((out / "report.json").read_text())["seconds"]
        return cls(count_journal(out), seconds, phases["stage 1"], phases["export"])


def kill(command: list[str], out: Path, log: Path, pace: Pace, share: float, rng: random.Random) -> str:
    """Kill a run when about `share` of it is done; where it died, in words."""
    child = start(command, out, log)
    if share < BEGIN:
        time.sleep(pace.to_first_block * share / BEGIN)
    else:
        blocks = min(pace.blocks, math.ceil(pace.blocks * (share - BEGIN) / (END - BEGIN)))
        rest = pace.outputs if blocks == pace.blocks else 2 * pace.all_blocks / pace.blocks
        if wait_for_blocks(child, out, blocks):
            time.sleep(rest * rng.random())
    os.kill(child, signal.SIGKILL)
    if finish(child) != -signal.SIGKILL:
        return "after its end"
    if not (out / "run.zarr" / "zarr.json").exists():
        return "before the record"
    return "among the outputs" if count_journal(out) == pace.blocks else "among the blocks"


def wait_for_blocks(child: int, out: Path, count: int) -> bool:
    """Wait until the journal has so many lines; False if the process ended before that."""
    while count_journal(out) < count:
        # looks without reaping: the child's end is waited for elsewhere
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.002)
    return True


def start(command: list[str], out: Path, log: Path) -> int:
    """Type a command in a process of its own."""
    child = os.fork()
    if child:
        return child
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    from hiresseg_pipelines.cli import main as type_command

    sys.argv = ["hiresseg", *command, "-o", str(out)]
    code = 1
    try:
        type_command()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def finish(child: int) -> int:
    """Exit code of a process, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def count_journal(out: Path) -> int:
    journal = out / "run.zarr" / "journal"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def result_bytes(out: Path) -> dict[str, bytes]:
    """All that must not depend on what happened on the way."""
    names = [out / name for name in ("labels.tif", "confidence.tif", "preview.png")]
    return {str(p.relative_to(out)): p.read_bytes() for p in [*names, *(out / "run.zarr").glob("*/c/*/*")]}


def make_scene(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (3, SIDE_PX // 32, SIDE_PX // 32), np.uint8)
    pixels = coarse.repeat(32, 1).repeat(32, 2) + rng.integers(0, 50, (3, SIDE_PX, SIDE_PX), np.uint8)
    path = folder / "scene.tif"
    size = {"count": 3, "height": SIDE_PX, "width": SIDE_PX, "dtype": "uint8"}
    place = {"crs": "EPSG:32645", "transform": rasterio.Affine(0.5, 0.0, 3e5, 0.0, -0.5, 3e6)}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", **size, **place, **layout) as dataset:
        dataset.write(pixels)
    return path


def make_model(folder: Path) -> Path:
    """A small real network, made in another process: torch's threads do not survive a fork."""
    path = folder / "toy"
    child = os.fork()
    if not child:
        save_toy_model(path)
        os._exit(0)
    if finish(child):
        raise SystemExit("the model could not be made")
    return path


def save_toy_model(path: Path) -> None:
    import torch

    from hiresseg.models import ClassInfo, ModelSpec, NetworkConfig, StageSpec, save_model
    from hiresseg.models.cascade import CoarseNet

    torch.manual_seed(0)
    spec = ModelSpec(
        name="toy",
        bands=("red", "green", "blue"),
        classes=(ClassInfo("ground", (40, 90, 50)), ClassInfo("thing", (230, 60, 40))),
        activation="sigmoid",
        mean=(120.0, 110.0, 100.0),
        std=(50.0, 50.0, 50.0),
        stages=(StageSpec(0, 256, 32, 8),),
    )
    network = CoarseNet(widths=(2, 4)).eval()
    save_model(path, spec, [network], [NetworkConfig("hiresseg", "CoarseNet", {"widths": [2, 4]})])


if __name__ == "__main__":
    main()
