"""Bytes decoded over bytes in the scene, as the run's report counts them: tiled and striped scenes.

Run: `python benchmarks/reading.py [--side 8192]`

A source block that is decoded twice counts twice, and a block is counted whole whatever part of it is used.
At 1.05 or less a run decodes nearly nothing twice. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from pathlib import Path

from processes import run_hiresseg, run_script

ALLOWED = 1.05
LAYOUTS = ("tiled", "striped")


def measure_layout(folder: Path, side_px: int, layout: str, options: tuple[str, ...]) -> float:
    """Read amplification of one run."""
    scene = folder / f"{side_px}-{layout}.tif"
    run_script("scenes.py", side_px, scene, *(["--striped"] if layout == "striped" else []))
    report, _ = run_hiresseg(scene, folder / "conv", folder / f"reading-{layout}", *options)
    amplification: float = report["scene"]["read_amplification"]
    stage = report["stages"][-1]
    counts = report["scene"]
    print(
        f"{layout}, {side_px} x {side_px}, blocks of {stage['block_px']} px, "
        f"{' '.join(options) or 'defaults'}: "
        f"{counts['bytes_decoded']:,} of {counts['bytes']:,} bytes, {amplification:.4f}",
        flush=True,
    )
    return amplification


def measure_all(folder: Path, side_px: int) -> dict[str, float]:
    """Both layouts, with the workers of the machine and with small blocks."""
    run_script("toy_models.py", "conv", folder / "conv")
    return {
        f"{layout}{name}": measure_layout(folder, side_px, layout, options)
        for layout in LAYOUTS
        for name, options in (
            ("", ()),
            (", small blocks", ("--block", "448")),
            (", 4 workers", ("--workers", "4")),
        )
    }


def main() -> None:
    """Print all, and end with 1 where too much is decoded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--folder", type=Path, help="where scenes and outputs stay; else a temporary one")
    arguments = parser.parse_args()
    if arguments.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            found = measure_all(Path(folder), arguments.side)
    else:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        found = measure_all(arguments.folder, arguments.side)
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))
    raise SystemExit(max(found.values()) > ALLOWED)


if __name__ == "__main__":
    main()
