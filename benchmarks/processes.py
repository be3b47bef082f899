"""Children that are measured: what they took and said. Imports nothing large, so that forks stay small."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Spent:
    """A finished child."""

    wall: float
    """Seconds."""
    cpu: float
    """Processor seconds, user and system, of all of its threads."""
    peak_bytes: int
    """Its largest resident memory."""
    output: str
    """What it wrote on stdout."""


def run_measured(command: list[str]) -> Spent:
    """Run a command to its end.

    Raises:
        RuntimeError: with the end of its stderr, if it fails.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode:
            last = err.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{last}")
        text = out.read().decode(errors="replace")
    return Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, text)


def run_script(name: str, *arguments: object) -> Any:
    """Run a script of this folder in a fresh interpreter; the JSON of its last line."""
    spent = run_measured([sys.executable, "-W", "ignore", str(_HERE / name), *map(str, arguments)])
    return json.loads(spent.output.splitlines()[-1])


def run_hiresseg(scene: Path, model: Path | str, out: Path, *options: str) -> tuple[dict[str, Any], Spent]:
    """`hiresseg run` as a user starts it, anew; its report, and the whole process."""
    command = [sys.executable, "-m", "hiresseg_pipelines.cli", "run", str(scene), "--model", str(model)]
    spent = run_measured([*command, "--out", str(out), "--overwrite", *options])
    return json.loads((out / "report.json").read_text()), spent
