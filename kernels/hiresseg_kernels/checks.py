"""What the three ops accept: every path asks here first, so all refuse the same things in the same words."""

from __future__ import annotations

import torch
from torch import Tensor

LOGITS = (torch.float32, torch.float16, torch.bfloat16)
BANDS = (
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.float32,
    torch.float64,
)
NO_ANSWER = 255


def check_cut(
    band: Tensor,
    valid: Tensor | None,
    corners: Tensor,
    tile_px: int,
    factors: tuple[Tensor, Tensor],
    out: Tensor,
) -> None:
    """Refuse what `cut_tiles` cannot do; `factors` are its scale and shift.

    Raises:
        ValueError: naming the argument, what it is and what it has to be.
    """
    bands, height, width = _sizes("band", band, 3)
    _expect("band", band, (bands, height, width), BANDS, band)
    _expect("corners", corners, (_sizes("corners", corners, 2)[0], 2), (torch.int64,), band)
    _expect("scale", factors[0], (bands,), (torch.float32,), band)
    _expect("shift", factors[1], (bands,), (torch.float32,), band)
    _expect("out", out, (corners.shape[0], bands, tile_px, tile_px), LOGITS, band)
    if valid is not None:
        _expect("valid", valid, (height, width), (torch.bool, torch.uint8), band)


def check_sources(
    own: Tensor, above: Tensor, left: Tensor, corner: Tensor, present: Tensor, activation: str
) -> None:
    """Refuse sources that `blend_tiles` cannot read.

    Raises:
        ValueError: naming the argument, what it is and what it has to be.
    """
    if activation not in {"softmax", "sigmoid"}:
        raise ValueError(f"activation must be 'softmax' or 'sigmoid', got {activation!r}")
    count, classes, tile, _ = _sizes("own", own, 4)
    overlap = _sizes("above", above, 4)[2]
    if 2 * overlap > tile:
        raise ValueError(
            f"tiles may share at most half their edge ({tile // 2} px), got strips of {overlap} px"
        )
    highest = classes if activation == "sigmoid" else classes - 1
    if not classes > 0 or highest >= NO_ANSWER:
        raise ValueError(
            f"labels must lie between 0 and 254, but {classes} channels under {activation} reach {highest}"
        )
    _expect("own", own, (count, classes, tile, tile), LOGITS, own)
    _expect("above", above, (count, classes, overlap, tile), (own.dtype,), own)
    _expect("left", left, (count, classes, tile, overlap), (own.dtype,), own)
    _expect("corner", corner, (count, classes, overlap, overlap), (own.dtype,), own)
    _expect("present", present, (count, 4), (torch.uint8,), own)


def check_cells(
    own: Tensor,
    stride: int,
    weights: tuple[Tensor, Tensor],
    prior: Tensor | None,
    valid: Tensor | None,
    outputs: tuple[Tensor, Tensor | None, Tensor | None],
) -> None:
    """Refuse weights, prior, mask or outputs of `blend_tiles` that do not fit cells of `stride` pixels.

    Raises:
        ValueError: naming the argument, what it is and what it has to be.
    """
    count, classes = own.shape[:2]
    labels, confidence, probabilities = outputs
    _expect("row_weights", weights[0], (count, stride), (torch.float32,), own)
    _expect("col_weights", weights[1], (count, stride), (torch.float32,), own)
    _expect("labels", labels, (count, stride, stride), (torch.uint8,), own)
    if prior is not None:
        _expect("prior", prior, (count, classes, stride, stride), (torch.float32,), own)
    if valid is not None:
        _expect("valid", valid, (count, stride, stride), (torch.uint8, torch.bool), own)
    if confidence is not None:
        _expect("confidence", confidence, (count, stride, stride), (torch.uint8,), own)
    if probabilities is not None:
        _expect(
            "probabilities",
            probabilities,
            (count, classes, stride, stride),
            (torch.uint8, torch.float32),
            own,
        )


def check_pool(values: Tensor, row_spans: Tensor, col_spans: Tensor) -> None:
    """Refuse what `pool_tiles` cannot do.

    Raises:
        ValueError: naming the argument, what it is and what it has to be.
    """
    _expect("values", values, _sizes("values", values, 2), (torch.uint8,), values)
    _expect("row_spans", row_spans, (_sizes("row_spans", row_spans, 2)[0], 2), (torch.int64,), values)
    _expect("col_spans", col_spans, (_sizes("col_spans", col_spans, 2)[0], 2), (torch.int64,), values)


def _sizes(name: str, tensor: Tensor, ndim: int) -> tuple[int, ...]:
    if tensor.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {tuple(tensor.shape)}")
    return tuple(tensor.shape)


def _expect(
    name: str, tensor: Tensor, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...], beside: Tensor
) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if tensor.dtype not in dtypes:
        known = ", ".join(str(kind).removeprefix("torch.") for kind in dtypes)
        raise ValueError(
            f"{name} must be {known}, got {str(tensor.dtype).removeprefix('torch.')}: convert it first"
        )
    if tensor.device != beside.device:
        raise ValueError(f"{name} is on {tensor.device}, but the op runs on {beside.device}: move it there")
