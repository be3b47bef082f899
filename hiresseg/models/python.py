"""A model that a user's own code builds, `my_pkg.my_file:build`, as a person typed it.

Whoever types such a name runs that code, as with `python -m`. No file is ever read for one: a model folder
cannot name a function.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hiresseg.errors import ModelError
from hiresseg.models.config import NetworkConfig, parse_config, parse_short_config, spec_document
from hiresseg.models.networks import ImageSegmenter
from hiresseg.models.package import check_tile, find_device
from hiresseg.models.spec import Model

_FORM = "a hiresseg.Model, or a torch.nn.Module and a dictionary of what a short config.json says"


def build_model(name: str, device: str) -> Model:
    """What the function `module:function` builds, checked, on a device.

    The current folder is searched after all that is installed. What the code itself raises is not caught.

    Raises:
        ModelError: if there is no such function, or what it gives is no model.
        ResourceError: if there is no such device.
    """
    target = find_device(device)
    with _current_folder_last():
        build, source = _find_function(name)
        built = build()
    model = built if isinstance(built, Model) else _from_pair(built, name)
    _check_spec(model, name)
    for segmenter in model.segmenters:
        if isinstance(segmenter, nn.Module):
            segmenter.to(target)
    with torch.device(target), torch.inference_mode():
        for stage, segmenter in enumerate(model.segmenters):
            check_tile(segmenter, model.spec, stage)
    return replace(model, spec=replace(model.spec, digest=_digest(model, name, source)))


@contextmanager
def _current_folder_last() -> Iterator[None]:
    # a command is not started in a way that Python would look there; after the rest, it hides nothing
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _find_function(name: str) -> tuple[Any, Path | None]:
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # another module that is missing is the user's code's own matter
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ModelError(
            f"{name}: there is no module {error.name}, neither installed nor in {Path.cwd()}; check the name"
        ) from error
    build = getattr(module, function, None)
    if not callable(build):
        raise ModelError(f"{name}: {module_name} has no function {function}; check the name")
    file = getattr(module, "__file__", None)
    return build, None if file is None else Path(file)


def _from_pair(built: object, name: str) -> Model:
    match built:
        case (nn.Module() as network, Mapping() as entries):
            # what is not JSON has no place in it, and a tuple becomes a list
            try:
                document = json.loads(json.dumps(dict(entries)))
            except (TypeError, ValueError) as error:
                raise ModelError(f"{name} gives a configuration that is no plain JSON ({error})") from error
        case _:
            raise ModelError(f"{name} gives {type(built).__name__}; it must give {_FORM}")
    short = {"name": name.partition(":")[0], **document}
    config = parse_short_config(short, f"the configuration of {name}", {"library": "hiresseg", "name": "own"})
    return Model(config.spec, (ImageSegmenter(network.eval().requires_grad_(False)),))


def _check_spec(model: Model, name: str) -> None:
    stages, networks = len(model.spec.stages), len(model.segmenters)
    if stages != networks:
        raise ModelError(f"{name} gives {networks} networks for {stages} stages; it must give one for each")
    # the form of config.json holds for every specification, wherever it comes from
    document = spec_document(model.spec, (NetworkConfig("hiresseg", "own"),) * stages)
    try:
        document = json.loads(json.dumps(document))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name} gives a specification that config.json cannot hold ({error})") from error
    parse_config(document, f"the specification of {name}")


def _digest(model: Model, name: str, source: Path | None) -> str:
    """SHA-256 over the name, the module's own file, the specification and the weights."""
    digest = hashlib.sha256(f"{name}\n{replace(model.spec, scores=dict(model.spec.scores))!r}\n".encode())
    if source is not None and source.is_file():
        digest.update(source.read_bytes())
    for segmenter in model.segmenters:
        if isinstance(segmenter, nn.Module):
            for key, value in segmenter.state_dict().items():
                digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
