"""The kernels pass the real compiler, which is stricter than the interpreter; that needs no GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from hiresseg_kernels.blend import _blend_tiles_kernel
from hiresseg_kernels.cut import _cut_tiles_kernel
from hiresseg_kernels.pool import _pool_tiles_kernel

def build(kernel, pointers, **constants):
    types = {name: pointers.get(name, "i32") for name in kernel.arg_names}
    types |= dict.fromkeys(constants, "constexpr")
    source, target = ASTSource(kernel, types, constants), GPUTarget("cuda", 90, 32)
    built = compile(source, target=target, options={"num_warps": 4})
    assert ".target sm_90" in built.asm["ptx"]

block = {"BLOCK_H": 8, "BLOCK_W": 128}
floats = {name: "*fp32" for name in ("row_weights", "col_weights", "prior", "scale", "shift")}
bytes_ = {name: "*u8" for name in ("present", "valid", "labels", "confidence", "values", "out")}
wide = {name: "i64" for name in ("own_n", "own_k", "band_c", "values_h")}
wide |= {name: "*i64" for name in ("corners", "row_spans", "col_spans")}
for dtype, softmax, rich, quantised in (("*fp32", 1, 0, 0), ("*fp16", 1, 1, 1), ("*bf16", 0, 1, 0)):
    sources = {name: dtype for name in ("own", "above", "left", "corner")}
    build(
        _blend_tiles_kernel,
        floats | bytes_ | wide | sources | {"probabilities": "*u8" if quantised or not rich else "*fp32"},
        own_w=1, SOFTMAX=bool(softmax), HAS_PRIOR=bool(rich), HAS_VALID=bool(rich), CONFIDENCE=bool(rich),
        PROBABILITIES=bool(rich), QUANTISED=bool(quantised), **block,
    )
for dtype in ("*u8", "*i16", "*u32", "*fp64"):
    pointers = floats | bytes_ | wide | {"band": dtype, "out": "*fp16"}
    build(_cut_tiles_kernel, pointers, HAS_VALID=True, **block)
build(_pool_tiles_kernel, bytes_ | wide, **block)
"""


@pytest.mark.slow
def test_kernels_compile_for_a_gpu(tmp_path):
    # a process of its own, since this one interprets
    env = {
        "PYTHONPATH": ":".join(sys.path),
        "TRITON_CACHE_DIR": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    run = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, env=env, check=False
    )
    assert run.returncode == 0, run.stderr
