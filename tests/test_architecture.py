"""How the house is built: arrows go down, help is instant, files stay small, nothing knows this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WINGS = [ROOT / "hiresseg", ROOT / "kernels" / "hiresseg_kernels", ROOT / "pipelines" / "hiresseg_pipelines"]
SOURCES = sorted(path for wing in WINGS for path in wing.rglob("*.py"))

ONLY_WHAT_IS_NEEDED = """
import contextlib, io, sys
sys.argv = ["hiresseg", *sys.argv[1:]]
heavy = {"torch", "numba", "dask", "zarr", "rasterio", "segmentation_models_pytorch"}
with contextlib.redirect_stdout(io.StringIO()) as said:
    try:
        from hiresseg_pipelines.cli import main
        main()
    except SystemExit as end:
        assert end.code in (0, None), end.code
print(*sorted(heavy & set(sys.modules)))
print(said.getvalue())
"""


def python(*arguments: str, timeout: float = 120) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_arrows_only_go_down():
    contracts = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    assert "0 broken" in python("-c", contracts)


def test_help_imports_nothing_heavy():
    heavy, help_text = python("-c", ONLY_WHAT_IS_NEEDED, "--help").split("\n", 1)
    assert heavy == ""
    assert "Segment images that do not fit in memory" in help_text


def test_the_list_of_models_imports_no_torch():
    heavy, listed = python("-c", ONLY_WHAT_IS_NEEDED, "models").split("\n", 1)
    assert heavy == ""
    assert "cascade" in listed


def test_importing_the_library_and_describing_a_model_import_no_torch():
    code = (
        "import sys, hiresseg; from hiresseg.models import describe_model; describe_model('cascade'); "
        "print('torch' in sys.modules)"
    )
    assert python("-c", code) == "False\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small(path):
    assert path.read_text().count("\n") <= 400, "split it along its seams"


def test_nothing_knows_this_machine():
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--", ":!:*.tif", ":!:*.png", ":!:*.safetensors"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tracked.returncode:
        pytest.skip("not a git checkout")
    machine_path = re.compile(r"(?<![\w.~}-])/(work|root)/")
    found = [
        name
        for name in tracked.stdout.split("\0")
        if name and (ROOT / name).is_file() and machine_path.search((ROOT / name).read_text())
    ]
    assert found == []
