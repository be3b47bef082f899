from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

# numba keys its cache by the file of the outer function, not by those of the functions that it inlines
KERNELS = Path(__file__).resolve().parents[2] / "kernels/hiresseg_kernels"
NEWEST = max(source.stat().st_mtime for source in KERNELS.glob("cpu*.py"))
for compiled in (KERNELS / "__pycache__").glob("*.nb?"):
    if compiled.stat().st_mtime < NEWEST:
        compiled.unlink()

# Triton decides when it is imported whether it compiles or interprets
INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETS and "triton" not in sys.modules and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    INTERPRETS = True


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> str:
    """Where a Triton launcher runs: in the interpreter, or on a GPU with `-m gpu`."""
    if request.param == "cpu" and not INTERPRETS:
        if torch.cuda.is_available():
            pytest.skip(
                "Triton compiles in this run; the interpreter's turn is a run with TRITON_INTERPRET=1"
            )
        pytest.fail("triton was imported before TRITON_INTERPRET=1 was set: set it for the whole test run")
    return request.param


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch) -> None:
    """Memory that nobody wrote shows: `torch.empty` is full of NaN, or of an odd number."""
    empty = torch.empty

    def poisoned(*args, **kwargs):
        tensor = empty(*args, **kwargs)
        # a tensor that big is only reserved, and filling it would make it real
        if tensor.numel() < 2**24:
            tensor.fill_(float("nan") if tensor.is_floating_point() else 77)
        return tensor

    monkeypatch.setattr(torch, "empty", poisoned)
