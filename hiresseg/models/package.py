"""The model folder with its weights: config.json and model.safetensors, loaded and saved.

Before a weight is read, the networks are built on torch's meta device, where tensors have shapes and no
memory: a configuration that lies about its sizes fails there, against the header of the file.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hiresseg.errors import ModelError, ResourceError
from hiresseg.models.config import ModelConfig, NetworkConfig, parse_config, spec_document
from hiresseg.models.folder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    digest_folder,
    find_folder,
    read_config,
    weights_file,
)
from hiresseg.models.networks import MISFITS, as_segmenter, build_network
from hiresseg.models.spec import Model, ModelSpec, Segmenter

_FLOATS: Mapping[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}
_FLOAT_CODES = frozenset({"F16", "BF16", "F32", "F64"})
_SHOWN = 3


def load_package(name_or_folder: str | Path, device: str) -> Model:
    """See `hiresseg.models.load_model`."""
    target = _device(device)
    folder = find_folder(name_or_folder)
    config = read_config(folder)
    plans = tuple(_plan_network(config, stage) for stage in range(len(config.networks)))
    path = weights_file(folder)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            _check_header(file, plans, path)
            segmenters = tuple(_load_stage(file, config, stage, target) for stage in range(len(plans)))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no sound safetensors file ({error}); copy or save it again") from error
    return Model(replace(config.spec, digest=digest_folder(folder)), segmenters)


def save_package(
    folder: Path,
    spec: ModelSpec,
    networks: Sequence[nn.Module],
    configs: Sequence[NetworkConfig],
    dtype: Literal["float16", "bfloat16", "float32"],
) -> None:
    """See `hiresseg.models.save_model`."""
    if not len(networks) == len(configs) == len(spec.stages):
        raise ModelError(
            f"a model needs one network and one configuration per stage, got {len(networks)} networks and "
            f"{len(configs)} configurations for {len(spec.stages)} stages"
        )
    try:
        text = json.dumps(spec_document(spec, tuple(configs)), indent=2, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{CONFIG_FILE} cannot hold this model ({error}); give plain numbers and texts"
        ) from error
    config = parse_config(json.loads(text), CONFIG_FILE)
    tensors: dict[str, Tensor] = {}
    for stage, network in enumerate(networks):
        state = {config.key_prefixes[stage] + key: value for key, value in network.state_dict().items()}
        _check_shapes(
            _plan_network(config, stage),
            {key: tuple(value.shape) for key, value in state.items()},
            "the network",
        )
        tensors |= {key: _stored(key, value, _FLOATS[dtype]) for key, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    _replace_file(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    _replace_file(folder / CONFIG_FILE, text.encode())


class _SizesOnCpu(TorchFunctionMode):
    """Keeps `torch.linspace` off the meta device: some encoders read drop rates from it while being built."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        keywords = kwargs or {}
        if func is torch.linspace and keywords.get("device") is None:
            keywords = {**keywords, "device": "cpu"}
        return func(*args, **keywords)


def _plan_network(config: ModelConfig, stage: int) -> dict[str, tuple[int, ...]]:
    """Key and shape of every weight of a stage, from a network without memory that has seen a tile."""
    with torch.device("meta"), _SizesOnCpu(), torch.no_grad():
        network = build_network(config.networks[stage], f"stages[{stage}].network")
        _check_tile(as_segmenter(network, config, stage), config.spec, stage)
    prefix = config.key_prefixes[stage]
    return {prefix + key: tuple(value.shape) for key, value in network.state_dict().items()}


def _check_tile(segmenter: Segmenter, spec: ModelSpec, stage: int) -> None:
    tile_px = spec.stages[stage].tile_px
    images = torch.empty(1, len(spec.bands), tile_px, tile_px)
    prior = torch.empty(1, spec.num_logits, tile_px, tile_px) if stage else None
    try:
        logits = segmenter(images, prior)
    except MISFITS as error:
        raise ModelError(
            f"the network of stages[{stage}] does not take tiles of shape {tuple(images.shape)} "
            f"({str(error)[:300]}); change tile_px, the bands or the network's arguments"
        ) from error
    expected = 1, spec.num_logits, tile_px, tile_px
    if tuple(logits.shape) != expected:
        raise ModelError(
            f"the network of stages[{stage}] gives logits of shape {tuple(logits.shape)}, classes and tile "
            f"need {expected}; change the classes, tile_px or the network's arguments"
        )


def _check_header(file: Any, plans: Sequence[Mapping[str, tuple[int, ...]]], path: Path) -> None:
    planned = {key: shape for plan in plans for key, shape in plan.items()}
    _check_shapes(planned, {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}, str(path))  # noqa: SIM118


def _check_shapes(
    planned: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: str
) -> None:
    complaints = [
        _list_keys("missing", sorted(planned.keys() - found.keys())),
        _list_keys("unexpected", sorted(found.keys() - planned.keys())),
        _list_keys(
            "of another shape",
            [
                f"{key} {found[key]} instead of {shape}"
                for key, shape in planned.items()
                if key in found and found[key] != shape
            ],
        ),
    ]
    if any(complaints):
        raise ModelError(
            f"the weights of {where} do not fit the networks of {CONFIG_FILE} "
            f"({'; '.join(filter(None, complaints))}); name there what the weights were trained with"
        )


def _list_keys(title: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {title}: {', '.join(keys[:_SHOWN])}{more}" if keys else ""


def _load_stage(file: Any, config: ModelConfig, stage: int, device: torch.device) -> Segmenter:
    # building draws random weights, which must not disturb the caller's random numbers
    with torch.random.fork_rng(devices=[]):
        network = build_network(config.networks[stage], f"stages[{stage}].network")
    prefix = config.key_prefixes[stage]
    state = {key: _read_weight(file, prefix + key, value) for key, value in network.state_dict().items()}
    network.load_state_dict(state, strict=True)
    return as_segmenter(network.to(device), config, stage)


def _read_weight(file: Any, key: str, like: Tensor) -> Tensor:
    code = file.get_slice(key).get_dtype()
    if (code in _FLOAT_CODES) != like.is_floating_point():
        raise ModelError(
            f"weight {key} is stored as {code}, the network has {like.dtype}; save the model again"
        )
    value: Tensor = file.get_tensor(key).to(like.dtype)
    if not torch.isfinite(value).all():
        raise ModelError(f"weight {key} holds NaN or infinity; train or save the model again")
    return value


def _stored(key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    stored = (
        value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype, copy=True).contiguous()
    )
    if not torch.isfinite(stored).all():
        raise ModelError(
            f"weight {key} is not finite as {dtype}; save with dtype='float32', or look into the training"
        )
    return stored


def _replace_file(path: Path, data: bytes) -> None:
    # a reader sees the old file or the new one, never a part
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ResourceError(f"{name!r} is no device of torch; use for instance 'cpu' or 'cuda'") from error
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ResourceError(f"device {name!r} was asked for, and torch finds {found} CUDA devices; use 'cpu'")
    return device
