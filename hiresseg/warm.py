"""Load what is compiled before it is counted: kernels belong in the plan, not in the first block's time."""

from __future__ import annotations

import numpy as np
import torch

from hiresseg.forward import ForwardSetting
from hiresseg.metrics import count_labels
from hiresseg.models.spec import ModelSpec
from hiresseg_kernels import blend_tiles, cut_tiles, pool_tiles


def warm_kernels(spec: ModelSpec, dtype: np.dtype, setting: ForwardSetting) -> None:
    """Call every kernel once on a few pixels, as a run of this model over such a scene will."""
    device, tile_px, overlap_px = setting.device, 32, 4
    stride, bands, logits = tile_px - overlap_px, len(spec.bands), spec.num_logits
    band = torch.from_numpy(np.zeros((bands, tile_px, tile_px), dtype)).to(device)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    images = torch.zeros((1, bands, tile_px, tile_px), device=device).contiguous(memory_format=layout)
    ones = torch.ones(bands, device=device)
    cut_tiles(band, None, torch.zeros((1, 2), dtype=torch.int64, device=device), tile_px, ones, ones, images)
    own = torch.zeros((1, logits, tile_px, tile_px), device=device).contiguous(memory_format=layout)
    weights = torch.full((1, stride), 0.5, device=device)
    labels = torch.empty((1, stride, stride), dtype=torch.uint8, device=device)
    blend_tiles(
        own,
        own[:, :, stride:],
        own[..., stride:],
        own[:, :, stride:, stride:],
        torch.ones((1, 4), dtype=torch.uint8, device=device),
        weights,
        weights,
        labels=labels,
        activation=spec.activation,
    )
    spans = torch.tensor([[0, stride]])
    pool_tiles(labels[0].cpu(), spans, spans)
    # whole blocks, and those that the scene's edge cuts
    for block in (labels[0], labels[0, :, 1:]):
        count_labels(block.cpu().numpy())
