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

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hiresseg.errors import HiressegError, ModelError, ResourceError
from hiresseg.models.config import FILE_SUFFIXES, ModelConfig, NetworkConfig, parse_config, spec_document
from hiresseg.models.exported import load_exported
from hiresseg.models.folder import (
    CONFIG_FILE,
    DATA_SUFFIX,
    WEIGHTS_FILE,
    digest_folder,
    find_model,
    model_files,
    network_file,
    read_config,
    weights_file,
)
from hiresseg.models.huggingface import load_huggingface
from hiresseg.models.networks import MISFITS, as_segmenter, build_network
from hiresseg.models.spec import Model, ModelSpec, Segmenter

_FLOATS: Mapping[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}
_FLOAT_CODES = frozenset({"F16", "BF16", "F32", "F64"})
_SHOWN = 3
# a name and three numbers for each weight: a hundred thousand of them
_MAX_HEADER_BYTES = 16 << 20


def load_package(name_or_path: str | Path, device: str) -> Model:
    """See `hiresseg.models.load_model`."""
    target = find_device(device)
    folder, named = find_model(name_or_path)
    try:
        return _load(folder, named, target)
    except ModelError as error:
        if folder.name in str(error):
            raise
        # what is wrong with a weight or a network is told with the model that it lies in
        raise ModelError(f"{folder}: {error}") from error


def _load(folder: Path, named: str | None, target: torch.device) -> Model:
    config = read_config(folder, named)
    stages = range(len(config.networks))
    from_files = [stage for stage in stages if config.networks[stage].library in FILE_SUFFIXES]
    files = {stage: _find_network(folder, config, stage, named) for stage in from_files}
    if any(network.library == "transformers" for network in config.networks):
        segmenters = _load_huggingface(weights_file(folder), config, target)
    else:
        plans = {stage: _plan_shapes(config, stage) for stage in stages if stage not in files}
        segmenters = _load_weights(weights_file(folder), config, plans, target) if plans else {}
    for stage, path in files.items():
        segmenters[stage] = _load_file(path, config, stage, target)
    spec = replace(config.spec, digest=digest_folder(folder, config))
    return Model(spec, tuple(segmenters[stage] for stage in stages))


def _find_network(folder: Path, config: ModelConfig, stage: int, named: str | None) -> Path:
    """The file of a stage's network; one that can run code only where the user named it."""
    network = config.networks[stage]
    path = network_file(folder, network.name)
    if network.library == "torch.export" and network.name != named:
        raise ModelError(
            f"the network of {folder} is {network.name}, and opening a torch.export file can run any code; "
            f"where you trust it, name the file itself: {folder / network.name}"
        )
    data = network.name + DATA_SUFFIX
    if data in model_files(folder, config):
        network_file(folder, data)
    return path


def _load_file(path: Path, config: ModelConfig, stage: int, device: torch.device) -> Segmenter:
    segmenter = load_exported(path, config, stage, device)
    # a file has no form without weights: it shows what it does with a tile
    with torch.device(device), torch.inference_mode():
        check_tile(segmenter, config.spec, stage)
    return segmenter


def _load_huggingface(path: Path, config: ModelConfig, device: torch.device) -> dict[int, Segmenter]:
    if len(config.networks) != 1:
        raise ModelError(
            f"{path.parent} has {len(config.networks)} stages; a network of transformers is one of its own"
        )
    _check_sizes(path)
    try:
        network = load_huggingface(path, config.networks[0], config.key_prefixes[0])
    except HiressegError:
        raise
    except (*MISFITS, SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} does not fit {config.networks[0].name} ({type(error).__name__}: {str(error)[:300]}); "
            f"save the model again with save_pretrained"
        ) from error
    segmenter = as_segmenter(network.to(device), config, 0)
    with torch.device(device), torch.inference_mode():
        # its attention looks at values, which a network without memory has not
        check_tile(segmenter, config.spec, 0)
    return {0: segmenter}


def _check_sizes(path: Path) -> None:
    """Refuse a header or a file that would not fit into memory, before any of it is mapped."""
    # the network, and what is read into it; a sparse file takes no disk, and is as large as it says
    needed, available = 2 * path.stat().st_size, psutil.virtual_memory().available
    if needed > available:
        raise ResourceError(
            f"the weights in {path} take {needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory "
            f"are free; load them on a larger machine"
        )
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise ModelError(
            f"{path} is no sound safetensors file: its header claims {header_bytes} bytes of at most "
            f"{_MAX_HEADER_BYTES}; copy or save it again"
        )


def _load_weights(
    path: Path, config: ModelConfig, plans: Mapping[int, Mapping[str, tuple[int, ...]]], device: torch.device
) -> dict[int, Segmenter]:
    try:
        _check_sizes(path)
        with safe_open(path, framework="pt", device="cpu") as file:
            _check_header(file, list(plans.values()), path)
            return {stage: _load_stage(file, config, stage, device) for stage in plans}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no sound safetensors file ({error}); copy or save it again") from error


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
            _plan_shapes(config, stage),
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


def _plan_shapes(config: ModelConfig, stage: int) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in plan_network(config, stage).items()}


def plan_network(config: ModelConfig, stage: int) -> dict[str, Tensor]:
    """Every weight of a stage by its key in the file, from a network without memory that has seen a tile.

    Raises:
        ModelError: if the network cannot be built, or does not take the tiles of its stage.
    """
    with torch.device("meta"), _SizesOnCpu(), torch.no_grad():
        network = build_network(config.networks[stage], f"stages[{stage}].network")
        check_tile(as_segmenter(network, config, stage), config.spec, stage)
    prefix = config.key_prefixes[stage]
    return {prefix + key: value for key, value in network.state_dict().items()}


def check_tile(segmenter: Segmenter, spec: ModelSpec, stage: int) -> None:
    """Refuse a network that does not take a tile of its stage, on the current default device.

    Raises:
        ModelError: if it fails, or gives logits of another shape.
    """
    tile_px = spec.stages[stage].tile_px
    images = torch.zeros(1, len(spec.bands), tile_px, tile_px)
    prior = torch.zeros(1, spec.num_logits, tile_px, tile_px) if stage else None
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


def find_device(name: str) -> torch.device:
    """A device of torch by its name.

    Raises:
        ResourceError: if there is none.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ResourceError(f"{name!r} is no device of torch; use for instance 'cpu' or 'cuda'") from error
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ResourceError(f"device {name!r} was asked for, and torch finds {found} CUDA devices; use 'cpu'")
    return device
