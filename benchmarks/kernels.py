"""Nanoseconds per pixel of the CPU path of each kernel, beside floors measured in the same run.

Run from the repository: `python benchmarks/kernels.py`, with `--quick` for smaller arrays. Times are CPU
time of this process on one thread, best of several, since neighbours on a shared machine disturb those
least. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from math import pi

import numba
import numpy as np
import torch

from hiresseg_kernels import blend_tiles, cut_tiles, pool_tiles

CLASSES = 5
TILES = 4


def cpu_ns(task: Callable[[], object], pixels: int, repeats: int) -> float:
    """CPU time of the fastest of some runs, per pixel, after one that warms up."""
    task()
    times = []
    for _ in range(repeats):
        start = time.process_time_ns()
        task()
        times.append(time.process_time_ns() - start)
    return min(times) / pixels


def copy_floor(num_bytes: int, pixels: int, repeats: int) -> float:
    """What it takes to copy as many bytes as an op reads and writes (half of them read, half written)."""
    source, target = (np.ones(num_bytes // 2, np.uint8) for _ in range(2))
    return cpu_ns(lambda: np.copyto(target, source), pixels, repeats)


def ramp(size: int, overlap: int, trim: int) -> torch.Tensor:
    """Weights of a cell's rows: 0 for `trim` pixels, a sin^2 ramp, then 1."""
    place = (torch.arange(overlap) + 0.5 - trim) / (overlap - 2 * trim)
    weights = torch.ones(TILES, size)
    weights[:, :overlap] = torch.sin(pi / 2 * place.clamp(0, 1)) ** 2
    return weights


def blend_rows(tile: int, repeats: int) -> dict[str, float]:
    overlap = tile // 8
    size = tile - overlap
    pixels = TILES * size * size
    labels, confidence = (torch.empty(TILES, size, size, dtype=torch.uint8) for _ in range(2))
    present = torch.ones(TILES, 4, dtype=torch.uint8)
    logits = torch.randn(TILES, CLASSES, tile, tile)
    rows = {}

    def blend(own: torch.Tensor, weights: torch.Tensor, asked: torch.Tensor | None, activation: str) -> None:
        count = len(own)
        strips = own[:, :, -overlap:], own[..., -overlap:], own[:, :, -overlap:, -overlap:]
        answers = {"labels": labels[:count], "confidence": asked, "activation": activation}
        blend_tiles(own, *strips, present[:count], weights[:count], weights[:count], **answers)

    full, trimmed, alone = (ramp(size, overlap, trim) for trim in (0, overlap // 4, 0))
    alone[:] = 1.0
    layouts = {
        "fp32": logits,
        "fp16": logits.half(),
        "bf16": logits.bfloat16(),
        "fp32 channels-last": logits.contiguous(memory_format=torch.channels_last),
    }
    for name, own in layouts.items():
        rows[f"blend {name}"] = cpu_ns(lambda own=own: blend(own, full, None, "softmax"), pixels, repeats)
    own = layouts["fp32"]
    warm = cpu_ns(lambda: blend(own[:1], full, None, "softmax"), size * size, 3 * repeats)
    rows["blend fp32 warm (one tile over and over)"] = warm
    rows["blend fp32 trimmed ramp"] = cpu_ns(lambda: blend(own, trimmed, None, "softmax"), pixels, repeats)
    rows["blend fp32 one tile alone"] = cpu_ns(lambda: blend(own, alone, None, "softmax"), pixels, repeats)
    rows["blend fp32 + confidence"] = cpu_ns(lambda: blend(own, full, confidence, "softmax"), pixels, repeats)
    rows["blend fp32 sigmoid"] = cpu_ns(lambda: blend(own, full, None, "sigmoid"), pixels, repeats)
    read_and_written = TILES * (tile * tile * CLASSES * 4 + size * size)
    rows["floor: memcpy of the fp32 bytes"] = copy_floor(read_and_written, pixels, repeats)
    rows |= accumulate_rows(logits, full[0], tile - overlap, repeats)
    return rows


def accumulate_rows(
    logits: torch.Tensor, weights: torch.Tensor, stride: int, repeats: int
) -> dict[str, float]:
    """The usual loop, without any activation: add weighed tiles to a canvas, divide, take the maximum."""
    tile = logits.shape[2]
    window = torch.ones(tile)
    window[: len(weights)] = weights
    window[stride:] = 1 - weights[: tile - stride]
    window = window[:, None] * window
    edge = tile + stride
    places = [(row, col) for row in (0, stride) for col in (0, stride)]

    def with_torch() -> torch.Tensor:
        total, count = torch.zeros(CLASSES, edge, edge), torch.zeros(edge, edge)
        for (row, col), own in zip(places, logits, strict=True):
            total[:, row : row + tile, col : col + tile] += own * window
            count[row : row + tile, col : col + tile] += window
        return (total / count).argmax(0).to(torch.uint8)

    arrays, kernel = logits.numpy(), window.numpy()

    def with_numpy() -> np.ndarray:
        total, count = np.zeros((CLASSES, edge, edge), np.float32), np.zeros((edge, edge), np.float32)
        for (row, col), own in zip(places, arrays, strict=True):
            total[:, row : row + tile, col : col + tile] += own * kernel
            count[row : row + tile, col : col + tile] += kernel
        return (total / np.maximum(count, 1e-6)).argmax(0).astype(np.uint8)

    return {
        "numpy: accumulate, divide, argmax(0)": cpu_ns(with_numpy, edge * edge, max(2, repeats // 3)),
        "torch: accumulate, divide, argmax(0)": cpu_ns(with_torch, edge * edge, max(2, repeats // 3)),
    }


def cut_rows(tile: int, repeats: int) -> dict[str, float]:
    side = 2 * tile
    pixels = TILES * tile * tile
    corners = torch.tensor([[0, 0], [3, 5], [tile // 2, 9], [tile - 7, tile - 3]])
    scale, shift = torch.full((3,), 1 / 64), torch.full((3,), -2.0)
    valid = torch.rand(side, side) > 0.1
    rows = {}
    for dtype in (torch.uint8, torch.uint16, torch.float32):
        band = torch.randint(0, 250, (3, side, side)).to(dtype)
        out = torch.empty(TILES, 3, tile, tile)
        mixed = out.contiguous(memory_format=torch.channels_last)
        name = str(dtype).removeprefix("torch.")

        def cut(mask: torch.Tensor | None, to: torch.Tensor, band: torch.Tensor = band) -> None:
            cut_tiles(band, mask, corners, tile, scale, shift, to)

        rows[f"cut {name}"] = cpu_ns(lambda cut=cut, out=out: cut(None, out), pixels, repeats)
        rows[f"cut {name} masked"] = cpu_ns(lambda cut=cut, out=out: cut(valid, out), pixels, repeats)
        rows[f"cut {name} to channels-last"] = cpu_ns(
            lambda cut=cut, out=mixed: cut(None, out), pixels, repeats
        )
    half = torch.empty(TILES, 3, tile, tile, dtype=torch.bfloat16)
    band = torch.randint(0, 250, (3, side, side), dtype=torch.uint8)
    rows["cut uint8 to bf16"] = cpu_ns(
        lambda: cut_tiles(band, None, corners, tile, scale, shift, half), pixels, repeats
    )
    rows["floor: memcpy of 3 x (1 + 4) bytes"] = copy_floor(pixels * 15, pixels, repeats)

    def with_torch() -> None:
        for top, left in corners.tolist():
            part = band[:, top : top + tile, left : left + tile]
            part.float() * scale[:, None, None] + shift[:, None, None]

    rows["torch: slice, float, scale, shift"] = cpu_ns(with_torch, pixels, repeats)
    return rows


def pool_rows(tile: int, repeats: int) -> dict[str, float]:
    side = 4 * tile
    values = torch.randint(0, 255, (side, side), dtype=torch.uint8)
    first = torch.arange(0, side, tile // 8)
    spans = torch.stack([first, first + tile // 7], dim=1)
    return {
        "pool": cpu_ns(lambda: pool_tiles(values, spans, spans), side * side, repeats),
        "floor: memcpy of 1 byte": copy_floor(side * side, side * side, repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller arrays and fewer repeats")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    tile, repeats = (256, 5) if quick else (512, 15)
    results = blend_rows(tile, repeats) | cut_rows(tile, repeats) | pool_rows(tile, repeats)
    for name, value in results.items():
        print(f"{name:42s} {value:8.2f} ns/px")
    versions = {"numba": numba.__version__, "torch": torch.__version__, "numpy": np.__version__}
    run = {"tile_px": tile, "classes": CLASSES, "cpu": platform.processor() or platform.machine()}
    print(json.dumps({"cpu_ns_per_px": {k: round(v, 3) for k, v in results.items()}} | run | versions))


if __name__ == "__main__":
    main()
