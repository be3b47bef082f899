"""What `hiresseg run` takes over the largest of three floors: decode the scene, forward, write the mask.

Run: `python benchmarks/overhead.py [--sides 4096 8192 16384] [--models conv unet] [--repeats 2]`

Everything is measured here, in child processes of this call, in turn, and the least of the repeats counts.
A run's figure is the sum of its phases after the calibration, as its report gives them: begin, stages, export
(GeoTIFF with overviews, read back; preview). Start (imports, model, scene) and calibration do not grow with
the scene; they are part of the row `whole process`, from fork to exit. The floors leave out their imports
likewise. Peak memory is that of the process less what it had with everything imported and the model loaded.

At the smallest side MONAI and a hand-written loop do the same scene. The last line is one JSON object.
"""

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

from processes import run_hiresseg, run_script

SIDES = (4096, 8192, 16384)
MODELS = ("conv", "unet")
FLOORS = ("decode", "forward", "write")
FIXED_PHASES = frozenset({"open", "calibrate"})
_GIB = 2**30
_PEERS = {"hand-written loop": "numpy", "MONAI": "monai"}


def measure_run(scene: Path, model: Path, out: Path, *options: str) -> dict[str, Any]:
    """One `hiresseg run`: seconds after calibration and of the whole process, memory over the imports."""
    report, whole = run_hiresseg(scene, model, out, *options)
    parts = {}
    for clock, phases in (("cpu", report["cpu_seconds"]), ("wall", report["seconds"])):
        parts[clock] = {name: taken for name, taken in phases.items() if name not in FIXED_PHASES}
    return {
        "cpu": sum(parts["cpu"].values()),
        "wall": sum(parts["wall"].values()),
        "phases": parts["cpu"],
        "whole": {"cpu": whole.cpu, "wall": whole.wall},
        "peak_gib": (report["memory"]["peak_bytes"] - report["memory"]["imports_bytes"]) / _GIB,
        "setting": report["setting"],
        "tiles": report["stages"][-1]["tiles_run"],
    }


def measure_floors(scene: Path, model: Path, out: Path) -> dict[str, dict[str, float]]:
    """The three floors of the run that stands in `out`, with its workers and its setting."""
    setting = json.loads((out / "report.json").read_text())["setting"]
    threads = setting["workers"] * setting["threads"]
    return {
        "decode": run_script("floors.py", "decode", scene, "--workers", threads),
        "forward": run_script("floors.py", "forward", model, "--report", out / "report.json"),
        "write": run_script("floors.py", "write", out / "labels.tif", "--workers", threads),
    }


def least(measured: list[dict[str, Any]]) -> dict[str, float]:
    """The best of the repeats, for each clock by itself."""
    return {clock: min(each[clock] for each in measured) for clock in ("cpu", "wall")}


def measure_case(folder: Path, name: str, side_px: int, repeats: int) -> dict[str, Any]:
    """Runs and floors of one model at one size, in turn; prints them, and returns the ratios."""
    scene, model, out = folder / f"{side_px}.tif", folder / name, folder / f"{name}-{side_px}"
    runs, floors = [], []
    for _ in range(repeats):
        runs.append(measure_run(scene, model, out))
        floors.append(measure_floors(scene, model, out))
    ours = least(runs)
    floor = {what: least([each[what] for each in floors]) for what in FLOORS}
    best = min(runs, key=lambda run: run["cpu"])
    setting = best["setting"]
    layout = "last" if setting["channels_last"] else "first"
    print(
        f"\n{name}, {side_px} x {side_px}: {best['tiles']} forwards, {setting['workers']} x "
        f"{setting['threads']} threads, batch {setting['batch']}, {setting['precision']}, channels {layout}"
    )
    print(f"{'':24}{'cpu s':>9}{'wall s':>9}")
    for what in FLOORS:
        _print_row(f"floor: {what}", floor[what])
    _print_row("run, after calibration", ours)
    for phase, seconds in best["phases"].items():
        print(f"{'  ' + phase:24}{seconds:9.2f}")
    _print_row("run, whole process", best["whole"])
    ratios = {clock: ours[clock] / max(floor[what][clock] for what in FLOORS) for clock in ("cpu", "wall")}
    sums = {clock: ours[clock] / sum(floor[what][clock] for what in FLOORS) for clock in ("cpu", "wall")}
    _print_row("over the largest floor", ratios)
    _print_row("over all three floors", sums)
    peak = max(run["peak_gib"] for run in runs)
    print(f"peak memory over the imports: {peak:.3f} GiB", flush=True)
    return ratios | {"peak_gib": peak}


def compare_peers(folder: Path, name: str, side_px: int) -> None:
    """What others take for the same scene and network, decode and write included."""
    scene, model, out = folder / f"{side_px}.tif", folder / name, folder / "peer.tif"
    spent: dict[str, list[dict[str, Any]]] = {}
    # ours before and after theirs, since neighbours on the machine come and go
    for _ in range(2):
        ours = measure_run(scene, model, folder / f"{name}-{side_px}")
        spent.setdefault("hiresseg", []).append(ours)
        for who, script in _PEERS.items():
            if who not in spent and importlib.util.find_spec(script) is None:
                print(f"{who} is not installed: pip install 'hiresseg[bench]'")
            elif who not in spent:
                spent[who] = [run_script("peers.py", script, scene, model, out)]
    if name != "conv" and has_bf16():
        spent["hiresseg, bf16"] = [measure_run(scene, model, folder / "bf16", "--precision", "bf16")]
    elif name != "conv":
        print("bf16 left out: this processor has no instructions for it")
    print(f"\n{name}, {side_px} x {side_px}, beside others")
    print(f"{'':24}{'cpu s':>9}{'wall s':>9}{'GiB over imports':>20}")
    for who, each in spent.items():
        _print_row(who, least(each), f"{max(one['peak_gib'] for one in each):20.2f}")
    for who in spent.keys() - _PEERS.keys() if "MONAI" in spent else ():
        shares = {clock: least(spent[who])[clock] / spent["MONAI"][0][clock] for clock in ("cpu", "wall")}
        print(f"{who}: {shares['cpu']:.2f} of MONAI's CPU, {shares['wall']:.2f} of its wall", flush=True)


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 by itself, as far as Linux says."""
    told = Path("/proc/cpuinfo")
    return told.exists() and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(told.read_text().split()))


def _print_row(title: str, spent: dict[str, float], more: str = "") -> None:
    print(f"{title:24}{spent['cpu']:9.2f}{spent['wall']:9.2f}{more}")


def measure_all(folder: Path, arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """All cases."""
    for side_px in arguments.sides:
        run_script("scenes.py", side_px, folder / f"{side_px}.tif")
    # kernels are compiled at their first use on a machine, which is no part of a run
    run_script("scenes.py", 600, folder / "warm.tif")
    results: dict[str, dict[str, Any]] = {}
    for name in arguments.models:
        run_script("toy_models.py", name, folder / name)
        run_hiresseg(folder / "warm.tif", folder / name, folder / "warm")
        results[name] = {}
        for side_px in arguments.sides:
            results[name][str(side_px)] = measure_case(folder, name, side_px, arguments.repeats)
        if arguments.peers:
            compare_peers(folder, name, min(arguments.sides))
    return results


def main() -> None:
    """Print all cases, and their ratios as JSON on the last line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="where scenes and outputs go and stay; else a temporary one"
    )
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    if arguments.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            results = measure_all(Path(folder), arguments)
    else:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        results = measure_all(arguments.folder, arguments)
    rounded = {
        name: {side: {key: round(value, 3) for key, value in case.items()} for side, case in sides.items()}
        for name, sides in results.items()
    }
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
