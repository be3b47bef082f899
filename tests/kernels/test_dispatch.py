"""The public names: what they choose, what they refuse, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import hiresseg_kernels

SPANS = torch.tensor([[0, 2], [2, 4]])


def test_public_names():
    assert sorted(hiresseg_kernels.__all__) == ["blend_tiles", "cut_tiles", "pool_tiles"]


def test_importing_loads_neither_numba_nor_triton():
    code = "import sys, hiresseg_kernels; print(sorted({'numba', 'triton'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert run.stdout.strip() == "[]"


def test_cpu_tensors_take_the_compiled_path():
    out = torch.empty(1, 1, 2, 2)
    hiresseg_kernels.cut_tiles(
        torch.arange(16, dtype=torch.uint8).view(1, 4, 4),
        None,
        torch.tensor([[2, 2]]),
        2,
        torch.ones(1),
        torch.zeros(1),
        out,
    )
    assert out.flatten().tolist() == [10, 11, 14, 15]
    hiresseg_kernels.cut_tiles(
        torch.arange(16, dtype=torch.uint8).view(1, 4, 4),
        None,
        SPANS[:1],
        2,
        torch.ones(1),
        torch.ones(1),
        out,
    )
    assert out.flatten().tolist() == [3, 4, 7, 8]

    logits = torch.tensor([0.0, 2.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    strips = logits[:, :, :0], logits[..., :0], logits[:, :, :0, :0]
    labels = torch.empty(1, 4, 4, dtype=torch.uint8)
    present = torch.ones(1, 4, dtype=torch.uint8)
    hiresseg_kernels.blend_tiles(logits, *strips, present, torch.ones(1, 4), torch.ones(1, 4), labels=labels)
    assert (labels == 1).all()
    assert hiresseg_kernels.pool_tiles(labels[0], SPANS, SPANS).tolist() == [[1, 1], [1, 1]]


def test_other_devices_are_refused():
    values = torch.empty(4, 4, dtype=torch.uint8, device="meta")
    with pytest.raises(ValueError, match="tensors must be on a cpu or a cuda device, got meta"):
        hiresseg_kernels.pool_tiles(values, SPANS, SPANS)
    with pytest.raises(ValueError, match="row_spans is on meta, but the op runs on cpu"):
        hiresseg_kernels.pool_tiles(torch.zeros(4, 4, dtype=torch.uint8), SPANS.to("meta"), SPANS)
