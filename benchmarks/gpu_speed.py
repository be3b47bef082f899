"""Every Triton kernel against a device-to-device copy of the same bytes."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hiresseg_kernels.blend import blend_tiles_triton
from hiresseg_kernels.cut import cut_tiles_triton
from hiresseg_kernels.pool import pool_tiles_triton

CLASSES = (2, 5, 19)
FLOATS = (torch.float16, torch.bfloat16, torch.float32)
OVERLAPS = (8, 4, 2)
"""Tile over overlap."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the measured calls are."""

    tile_px: int = 512
    bytes_read: int = 1 << 30
    """About what one call reads: far more than any cache holds."""
    warm_ups: int = 2
    repeats: int = 15


@dataclass(frozen=True, slots=True)
class Speed:
    """One row of the table."""

    op: str
    case: str
    megabytes: float
    """Read and written."""
    milliseconds: float
    gb_per_second: float
    of_copy: float
    """Time that a copy moving as many bytes takes, over the kernel's."""


def time_call(call: Callable[[], object], device: str, scale: Scale) -> float:
    """Median seconds of a call, after some to compile and warm up."""
    for _ in range(scale.warm_ups):
        call()
    if device == "cpu":
        spent = []
        for _ in range(scale.repeats):
            started = time.perf_counter()
            call()
            spent.append(time.perf_counter() - started)
        return statistics.median(spent)
    events = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(scale.repeats)
    ]
    for before, after in events:
        before.record()
        call()
        after.record()
    torch.cuda.synchronize()
    return statistics.median(before.elapsed_time(after) for before, after in events) / 1e3


def time_copy(num_bytes: int, device: str, scale: Scale) -> float:
    """Seconds of a copy that reads and writes `num_bytes` altogether."""
    source = torch.empty(num_bytes // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return time_call(lambda: target.copy_(source), device, scale)


def measure_blend(
    classes: int, dtype: torch.dtype, tile_over_overlap: int, device: str, scale: Scale, *, rich: bool
) -> Speed:
    """The blend over one row of cells, whose strips are views into neighbouring tiles.

    Args:
        classes: K.
        dtype: of the logits.
        tile_over_overlap: edge of a tile over the pixels that neighbours share.
        device: where.
        scale: how much.
        rich: whether confidence is written too.
    """
    tile = scale.tile_px
    overlap = tile // tile_over_overlap
    stride = tile - overlap
    tile_bytes = classes * tile * tile * torch.finfo(dtype).bits // 8
    count = max(1, scale.bytes_read // tile_bytes)
    tiles = torch.empty((2, count + 1, classes, tile, tile), dtype=dtype, device=device).normal_()
    rise = torch.sin(0.5 * torch.pi * (torch.arange(overlap, device=device) + 0.5) / overlap) ** 2
    weights = torch.ones((count, stride), device=device)
    weights[:, :overlap] = rise
    labels = torch.empty((count, stride, stride), dtype=torch.uint8, device=device)
    confidence = torch.empty_like(labels) if rich else None
    sources = (
        tiles[1, 1:],
        tiles[0, 1:, :, stride:],
        tiles[1, :-1, :, :, stride:],
        tiles[0, :-1, :, stride:, stride:],
    )
    present = torch.ones((count, 4), dtype=torch.uint8, device=device)
    seconds = time_call(
        lambda: blend_tiles_triton(*sources, present, weights, weights, labels=labels, confidence=confidence),
        device,
        scale,
    )
    # all of a tile speaks somewhere: its cell, and three strips in others
    num_bytes = count * (tile_bytes + stride * stride * (1 + rich))
    name = f"K={classes} {_short(dtype)} o/t=1/{tile_over_overlap}{' + confidence' if rich else ''}"
    return _speed("blend", name, num_bytes, seconds, device, scale)


def measure_cut(dtype: torch.dtype, device: str, scale: Scale, *, channels_last: bool) -> Speed:
    """Tiles of three 8-bit bands."""
    tile, stride = scale.tile_px, scale.tile_px * 7 // 8
    tile_bytes = 3 * tile * tile * (1 + torch.finfo(dtype).bits // 8)
    count = max(1, scale.bytes_read // tile_bytes)
    band = torch.randint(0, 256, (3, tile, stride * count + tile), dtype=torch.uint8, device=device)
    corners = torch.tensor([[0, index * stride] for index in range(count)], device=device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty((count, 3, tile, tile), dtype=dtype, device=device).contiguous(memory_format=layout)
    ones = torch.ones(3, device=device)
    seconds = time_call(lambda: cut_tiles_triton(band, None, corners, tile, ones, ones, out), device, scale)
    name = f"uint8 to {_short(dtype)}, channels {'last' if channels_last else 'first'}"
    return _speed("cut", name, count * tile_bytes, seconds, device, scale)


def measure_pool(device: str, scale: Scale) -> Speed:
    """One score per tile, overlap of an eighth."""
    tile, stride = scale.tile_px, scale.tile_px * 7 // 8
    edge = max(1, int(scale.bytes_read**0.5) // stride) * stride
    values = torch.randint(0, 256, (edge, edge), dtype=torch.uint8, device=device)
    starts = torch.arange(0, edge, stride, device=device)
    spans = torch.stack([starts, starts + tile], dim=1)
    seconds = time_call(lambda: pool_tiles_triton(values, spans, spans), device, scale)
    # strips that tiles share come from the cache the second time
    return _speed("pool", f"tiles of {tile} px over {edge} px", edge * edge, seconds, device, scale)


def _speed(op: str, case: str, num_bytes: int, seconds: float, device: str, scale: Scale) -> Speed:
    copied = time_copy(num_bytes, device, scale)
    return Speed(op, case, num_bytes / 1e6, 1e3 * seconds, num_bytes / seconds / 1e9, copied / seconds)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
