"""One call that says whether the Triton kernels are right and fast on this GPU, and what a whole run takes.

Run: `python benchmarks/gpu.py [--budget-s 540] [--out results.json]` on a machine with a CUDA device, torch
and Triton. The kernels need no other package but numpy and jaxtyping; the run at the end needs all of
hiresseg, and is left out, saying so, where something is missing.

`--dry-run` does the same in Triton's interpreter, on tiny shapes, without a GPU: its times mean nothing.

Prints a table in markdown; the last line is one JSON object. Ends with 1 if a kernel differs from its twin.
"""

import argparse
import importlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

_SIDE_PX = 8192
_NEEDED = ("hiresseg_pipelines.run", "rasterio", "segmentation_models_pytorch")


def describe_device(device: str) -> dict[str, str]:
    """Where this ran."""
    import torch
    import triton

    name = torch.cuda.get_device_name() if device == "cuda" else "Triton's interpreter"
    versions = {"torch": torch.__version__, "triton": triton.__version__, "python": platform.python_version()}
    return {"device": name, **versions, "cuda": str(torch.version.cuda)}


def speed_calls(device: str, *, small: bool) -> Iterator[Callable[[], Any]]:
    """Every measurement, most telling first, each to be called while there is time."""
    from functools import partial

    import gpu_speed as speed

    scale = speed.Scale(32, 1 << 12, warm_ups=0, repeats=1) if small else speed.Scale()
    blend = partial(speed.measure_blend, device=device, scale=scale)
    for overlap in speed.OVERLAPS[:1] if small else speed.OVERLAPS:
        for classes in speed.CLASSES[:2] if small else speed.CLASSES:
            for dtype in speed.FLOATS[:1] if small else speed.FLOATS:
                yield partial(blend, classes, dtype, overlap, rich=False)
    yield partial(blend, 5, speed.FLOATS[0], speed.OVERLAPS[0], rich=True)
    for dtype in speed.FLOATS:
        for channels_last in (False, True):
            yield partial(speed.measure_cut, dtype, device, scale, channels_last=channels_last)
    yield partial(speed.measure_pool, device, scale)


def measure_speeds(device: str, deadline: float, *, small: bool) -> tuple[list[Any], int]:
    """(rows, measurements for which no time was left)."""
    rows, left = [], 0
    for call in speed_calls(device, small=small):
        if time.monotonic() > deadline:
            left += 1
        else:
            rows.append(call())
    return rows, left


def find_missing() -> str | None:
    """What keeps this machine from a whole run; None if nothing does."""
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"{name}: {error}"
    return None


def measure_runs(deadline: float) -> list[dict[str, Any]]:
    """`hiresseg run` with the small U-Net on the GPU, in each precision."""
    from processes import run_hiresseg, run_script

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scene, model = Path(folder) / "scene.tif", Path(folder) / "unet"
        run_script("scenes.py", _SIDE_PX, scene)
        run_script("toy_models.py", "unet", model)
        for precision in ("fp16", "bf16", "fp32"):
            if time.monotonic() > deadline:
                break
            out = Path(folder) / precision
            report, whole = run_hiresseg(scene, model, out, "--device", "cuda", "--precision", precision)
            stage = report["stages"][-1]
            rows.append(
                {
                    "precision": precision,
                    "side_px": _SIDE_PX,
                    "tiles": stage["tiles_run"],
                    "megapixels_per_second": _SIDE_PX**2 / 1e6 / report["seconds"]["stage 1"],
                    "seconds": report["seconds"],
                    "whole_wall": whole.wall,
                    "batch": report["setting"]["batch"],
                }
            )
    return rows


def format_table(rows: list[Any]) -> str:
    """The measured kernels, in markdown."""
    lines = ["| op | case | MB | ms | GB/s | of a copy |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.op} | {row.case} | {row.megabytes:,.0f} | {row.milliseconds:.3f} | {row.gb_per_second:,.0f} "
        f"| {row.of_copy:.0%} |"
        for row in rows
    ]
    return "\n".join(lines)


def run_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """Checks, speeds, whole runs; prints them, and returns all that was found."""
    started, small = time.monotonic(), arguments.dry_run
    device = "cpu" if small else "cuda"
    where = describe_device(device)
    print(", ".join(f"{name} {value}" for name, value in where.items()), flush=True)
    from gpu_checks import check_all

    findings = check_all(device, small=small)
    wrong = [finding for finding in findings if finding.complaint]
    print(f"{len(findings) - len(wrong)} of {len(findings)} cases agree with their twin")
    for finding in wrong:
        print(f"  {finding.op}, {finding.case}: {finding.complaint}")
    rows, left = measure_speeds(device, started + 0.6 * arguments.budget_s, small=small)
    print(format_table(rows))
    if left:
        print(f"{left} measurements left out: no time")
    runs: list[dict[str, Any]] = []
    missing = "a dry run has no GPU" if small else find_missing()
    if missing:
        print(f"whole runs left out: {missing}", flush=True)
    else:
        runs = measure_runs(started + arguments.budget_s - 90)
        for run in runs:
            print(
                f"unet, {run['precision']}: {run['tiles']} tiles, {run['megapixels_per_second']:.0f} Mpx/s "
                f"in the stage, {run['whole_wall']:.1f} s in all",
                flush=True,
            )
    return {
        "where": where,
        "checked": len(findings),
        "wrong": [asdict(finding) for finding in wrong],
        "speeds": [asdict(row) for row in rows],
        "runs": runs,
        "runs_left_out": missing,
    }


def main() -> None:
    """Parse, and keep the result also in a file if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget-s", type=float, default=540.0, help="stop measuring after about so long")
    parser.add_argument("--out", type=Path, help="file for the JSON too")
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny shapes in the interpreter, without a GPU"
    )
    arguments = parser.parse_args()
    if arguments.dry_run:
        # Triton decides when it is imported whether it compiles or interprets
        os.environ["TRITON_INTERPRET"] = "1"
    else:
        import torch

        if not torch.cuda.is_available():
            parser.error("torch finds no CUDA device; --dry-run does without one")
    found = run_all(arguments)
    text = json.dumps(found)
    if arguments.out:
        arguments.out.write_text(text)
    print(text)
    raise SystemExit(bool(found["wrong"]))


if __name__ == "__main__":
    main()
