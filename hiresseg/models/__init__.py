"""Who looks at a tile: models by name or folder, loaded, described and saved.

Importing this module, and describing a model, do not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hiresseg.models.config import NetworkConfig
from hiresseg.models.folder import bundled_names, digest_folder, find_model, is_function_name, read_config
from hiresseg.models.spec import ClassInfo, Model, ModelSpec, Segmenter, StageSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ClassInfo",
    "Model",
    "ModelSpec",
    "NetworkConfig",
    "Segmenter",
    "StageSpec",
    "bundled_models",
    "describe_model",
    "load_model",
    "save_model",
]


def bundled_models() -> tuple[str, ...]:
    """Names of the models that come with the package, sorted."""
    return bundled_names()


def describe_model(name_or_path: str | Path) -> ModelSpec:
    """What a model says about itself, without building its networks.

    Args:
        name_or_path: a bundled model's name, a model folder, a folder written by the save_pretrained of
            segmentation-models-pytorch, an exported network (.pt2, .onnx) with a config.json beside it, or
            "module:function", which is built to be described; or "hf://OWNER/NAME", which is fetched.

    Raises:
        ModelError: if there is no such model or its configuration is not as it should be.
    """
    if is_function_name(name_or_path):
        return load_model(name_or_path).spec
    folder, named = find_model(name_or_path)
    config = read_config(folder, named)
    return replace(config.spec, digest=digest_folder(folder, config))


def load_model(name_or_path: str | Path, *, device: str = "cpu") -> Model:
    """The model with its weights, in eval mode and single precision, ready to segment.

    Nothing is downloaded but what is named by hf://. Nothing is unpickled and no code of the model's is run,
    but where a .pt2 file or a Python function is named: a torch.export file can hold any code, and so is
    opened only by its own name.

    Args:
        name_or_path: as for `describe_model`. A text that names a bundled model means that one; write
            "./name" for a folder of the same name.
        device: where the networks live, for instance `cpu` or `cuda:0`.

    Raises:
        ModelError: if there is no such model, or configuration, networks and weights contradict each other.
        ResourceError: if there is no such device.
    """
    if is_function_name(name_or_path):
        from hiresseg.models.python import build_model

        return build_model(str(name_or_path), device)
    from hiresseg.models.package import load_package

    return load_package(name_or_path, device)


def save_model(
    folder: str | Path,
    spec: ModelSpec,
    networks: Sequence[nn.Module],
    network_configs: Sequence[NetworkConfig],
    *,
    dtype: Literal["float16", "bfloat16", "float32"] = "float32",
) -> None:
    """Write a model folder that `load_model` gives back; files that stand there are replaced.

    Args:
        folder: made if it does not exist.
        spec: what the model says about itself; its digest is not written.
        networks: one per stage, as their library builds them.
        network_configs: how to build the same networks again.
        dtype: how floating-point weights are stored.

    Raises:
        ModelError: if specification, configurations and networks contradict each other, or a weight does not
            fit into `dtype`.
    """
    from hiresseg.models.package import save_package

    save_package(Path(folder), spec, networks, network_configs, dtype)
