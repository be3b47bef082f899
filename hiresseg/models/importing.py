"""Weights from elsewhere become a model folder: a checkpoint's tensors, or an exported network's file.

A checkpoint is a pickle, and is read by `torch.load(weights_only=True)`, which makes tensors and plain
containers of it and refuses everything else.
"""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from hiresseg.errors import ModelError, StoreError
from hiresseg.models.config import FILE_SUFFIXES, ModelConfig, spec_document
from hiresseg.models.folder import (
    CONFIG_FILE,
    OVERRIDES_FILE,
    model_files,
    network_file,
    read_config,
    refuse_torchscript,
)
from hiresseg.models.networks import MISFITS, build_network
from hiresseg.models.package import load_package, plan_network, save_package
from hiresseg.models.spec import ModelSpec

_CONTAINERS = ("state_dict", "model_state_dict", "model")
_SHOWN = 50
_TEMPLATE = """\
{
  "format": "hiresseg-model", "version": 1, "name": "my-model",
  "bands": ["red", "green", "blue"],
  "classes": [{"name": "background", "color": [0, 0, 0]}, {"name": "building", "color": [230, 60, 40]}],
  "activation": "softmax", "mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4],
  "dtypes": ["uint8"], "pixel_size_m": [0.1, 0.5],
  "stages": [{"level": 0, "tile_px": 512, "overlap_px": 64, "trim_px": 8,
              "network": {"library": "smp", "name": "Unet",
                          "arguments": {"encoder_name": "resnet34", "in_channels": 3, "classes": 2}}}]
}"""


@dataclass(frozen=True, slots=True)
class Misfits:
    """Keys of a checkpoint and of the network that did not find each other."""

    missing: tuple[str, ...] = ()
    """Keys of the network that the checkpoint has not."""
    unexpected: tuple[str, ...] = ()
    """Keys of the checkpoint that the network has not."""
    differing: tuple[str, ...] = ()
    """Keys of both, with their shapes and types there and here."""

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    def describe(self) -> str:
        """All kinds with their keys, a line each."""
        lines = []
        for field in fields(self):
            keys = getattr(self, field.name)
            if keys:
                lines += [f"{len(keys)} {field.name}:", *(f"  {key}" for key in keys[:_SHOWN])]
                lines += [f"  and {len(keys) - _SHOWN} more"] * (len(keys) > _SHOWN)
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file."""

    spec: ModelSpec
    prefix: str = ""
    """What all keys of the checkpoint began with, and those of the folder do not."""
    misfits: Misfits = Misfits()


def import_model(file: Path, folder: Path, *, allow_missing: bool = False) -> Imported:
    """Make a model folder of a file and the config.json beside it.

    Args:
        file: a checkpoint (a pickled state_dict, bare or under `state_dict`, `model_state_dict` or `model`),
            for which config.json names the network; or a .pt2 or ONNX file.
        folder: must not exist, or be empty; it appears when it is whole.
        allow_missing: keep what fits where keys do not. Weights that are missing stay as a fresh network has
            them.

    Raises:
        ModelError: if the file cannot be read without running code of it, or does not fit.
        StoreError: if the folder holds something, or cannot be written.
    """
    _check_target(folder)
    if not file.is_file():
        raise ModelError(f"{file} is no file; name a checkpoint, or a .pt2 or .onnx file")
    refuse_torchscript(file)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            whole = Path(scratch) / "model"
            whole.mkdir()
            if file.suffix.lower() in FILE_SUFFIXES.values():
                imported = _copy_exported(file, whole)
            else:
                imported = _convert_checkpoint(file, whole, allow_missing=allow_missing)
            whole.replace(folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error}); name another folder with -o") from error
    return imported


def _check_target(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise StoreError(f"{folder} is there already; name another folder with -o, or remove it")


def _copy_exported(file: Path, folder: Path) -> Imported:
    spec = load_package(file, "cpu").spec
    home = file.parent.resolve()
    config = read_config(home, file.name)
    for name in model_files(home, config):
        if name not in (CONFIG_FILE, OVERRIDES_FILE):
            shutil.copyfile(network_file(home, name), folder / name)
    text = json.dumps(spec_document(spec, config.networks), indent=2, ensure_ascii=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    return Imported(spec)


def _convert_checkpoint(file: Path, folder: Path, *, allow_missing: bool) -> Imported:
    config = _read_config_beside(file)
    planned = plan_network(config, 0)
    planned = {key.removeprefix(config.key_prefixes[0]): like for key, like in planned.items()}
    state, prefix = _strip_prefix(_read_state(file), planned.keys())
    misfits = _compare(planned, state)
    if misfits and not allow_missing:
        raise ModelError(
            f"{file} does not fit the network of {CONFIG_FILE}; name there what it was trained with, or take "
            f"what fits with --allow-missing:\n{misfits.describe()}"
        )
    with torch.random.fork_rng(devices=[]):
        # what is missing is at least the same each time
        torch.manual_seed(0)
        network = build_network(config.networks[0])
    fitting = {key: value for key, value in state.items() if _fits(planned.get(key), value)}
    network.load_state_dict(fitting, strict=False)
    save_package(folder, config.spec, [network], config.networks, "float32")
    return Imported(config.spec, prefix, misfits)


def _read_config_beside(file: Path) -> ModelConfig:
    home = file.parent.resolve()
    if not (home / CONFIG_FILE).exists():
        raise ModelError(
            f"{file} needs a {CONFIG_FILE} beside it that says of which network it is; fill in this one "
            f"and save it as {home / CONFIG_FILE}:\n{_TEMPLATE}"
        )
    config = read_config(home)
    if len(config.networks) != 1:
        raise ModelError(
            f"{home / CONFIG_FILE} has {len(config.networks)} stages, and a checkpoint is of one network; "
            f"give it a {CONFIG_FILE} of one stage"
        )
    if config.networks[0].library in FILE_SUFFIXES:
        raise ModelError(f"{home / CONFIG_FILE} names the file {config.networks[0].name}; import that")
    return config


def _read_state(file: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # that a pickle is of another protocol matters only if it is refused for it
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (*MISFITS, pickle.UnpicklingError, EOFError, OSError) as error:
        # torch's own message goes on to say how to run whatever the file holds
        reason = (str(error).splitlines() or [""])[0].partition(" This file can")[0]
        raise ModelError(
            f"{file} is not taken: torch.load(weights_only=True) refuses it ({type(error).__name__}: "
            f"{reason[:200]}), and all else could run any code; where you trust it, open it yourself, and "
            f"write network.state_dict() alone with torch.save"
        ) from error
    for inner in (
        content,
        *(content[k] for k in _CONTAINERS if isinstance(content, Mapping) and k in content),
    ):
        if isinstance(inner, Mapping):
            tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
            if tensors:
                return tensors
    found = ", ".join(map(str, content))[:200] if isinstance(content, Mapping) else type(content).__name__
    raise ModelError(
        f"{file} holds no tensors by name, but {found}; save network.state_dict(), bare or under "
        f"{', '.join(_CONTAINERS)}"
    )


def _strip_prefix(state: Mapping[str, Tensor], planned: AbstractSet[str]) -> tuple[dict[str, Tensor], str]:
    """The state without what Lightning (`model.`), DataParallel (`module.`) and others put before keys."""
    prefixes: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in planned:
                prefixes[".".join([*parts[:cut], ""])] += 1
    prefix = max(prefixes, key=lambda entry: (prefixes[entry], -len(entry)), default="")
    return {key.removeprefix(prefix): value for key, value in state.items()}, prefix


def _compare(planned: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Misfits:
    return Misfits(
        missing=tuple(sorted(planned.keys() - state.keys())),
        unexpected=tuple(sorted(state.keys() - planned.keys())),
        differing=tuple(
            f"{key}: {_describe(state[key])} there, {_describe(like)} here"
            for key, like in planned.items()
            if key in state and not _fits(like, state[key])
        ),
    )


def _fits(like: Tensor | None, value: Tensor) -> bool:
    return (
        like is not None
        and like.shape == value.shape
        and like.is_floating_point() == value.is_floating_point()
    )


def _describe(value: Tensor) -> str:
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
