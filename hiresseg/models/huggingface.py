"""Semantic segmentation folders of Hugging Face: config.json and model.safetensors, built by transformers.

Of config.json only the fields that the classes in the tables below declare are handed on. So nothing in it
can name code, another repository, or kernels to fetch; and weights are handed over as tensors, so that
transformers opens no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hiresseg.errors import ModelError, ResourceError
from hiresseg.models.checks import check_choice, check_integer, check_list, check_number, check_object
from hiresseg.models.config import SPEC_KEYS, ModelConfig, NetworkConfig, parse_short_config
from hiresseg.models.smp import default_entries

if TYPE_CHECKING:
    from torch import Tensor, nn

ARCHITECTURES: Mapping[str, str] = {
    "SegformerForSemanticSegmentation": "SegformerConfig",
    "UperNetForSemanticSegmentation": "UperNetConfig",
    "Mask2FormerForUniversalSegmentation": "Mask2FormerConfig",
    "EomtForUniversalSegmentation": "EomtConfig",
}
_BACKBONES: Mapping[str, str] = {"swin": "SwinConfig", "convnext": "ConvNextConfig", "resnet": "ResNetConfig"}
_COUNTS = ("depths", "layers", "blocks", "stages", "convs")
_MAX_COUNT = 256


def is_huggingface(document: Mapping[str, object]) -> bool:
    """Whether a config.json was written by the save_pretrained of transformers."""
    return "architectures" in document and "model_type" in document


def config_of_huggingface(
    document: Mapping[str, object],
    preprocessor: Mapping[str, object],
    overrides: Mapping[str, object],
    folder: str,
) -> ModelConfig:
    """What such a folder says, completed by defaults and by its hiresseg.json.

    Args:
        document: config.json as transformers writes it.
        preprocessor: preprocessor_config.json, for mean and deviation; may be empty.
        overrides: hiresseg.json, as for a folder of segmentation-models-pytorch.
        folder: name of the folder.

    Raises:
        ModelError: if one of them is not as it should be.
    """
    name = f"{folder}/config.json"
    (architecture,) = check_list(document["architectures"], f"{name}: architectures", 1, 1)
    architecture = check_choice(architecture, f"{name}: architectures[0]", tuple(ARCHITECTURES))
    backbone = document.get("backbone_config")
    inner = backbone if isinstance(backbone, dict) else {}
    num_bands = check_integer(
        document.get("num_channels", inner.get("num_channels", 3)), f"{name}: num_channels", 1, 1024
    )
    labels = document.get("id2label") or {str(i): f"class_{i}" for i in range(2)}
    if not isinstance(labels, dict) or labels.keys() != {str(i) for i in range(len(labels))}:
        raise ModelError(
            f"{name}: id2label must name the classes from 0 up, got {labels!r:.80}; number them so"
        )
    check_integer(len(labels), f"{name}: number of id2label", 1, 254)
    names = ["background", "foreground"] if len(labels) == 1 else [labels[str(i)] for i in range(len(labels))]
    full = default_entries(folder, num_bands, names, "sigmoid" if len(labels) == 1 else "softmax")
    if architecture.startswith("Eomt"):
        # its positions are learnt for tiles of this size alone
        full["stages"] = [{"tile_px": document.get("image_size", 640)}]
    check_object(dict(overrides), f"{folder}/hiresseg.json", frozenset(), SPEC_KEYS)
    full |= {**_normalisation(preprocessor, num_bands, f"{folder}/preprocessor_config.json"), **overrides}
    arguments = {key: value for key, value in document.items() if key not in ("id2label", "label2id")}
    network = {
        "library": "transformers",
        "name": architecture,
        "arguments": {**arguments, "num_labels": len(labels)},
    }
    config = parse_short_config(full, f"{name} with hiresseg.json" if overrides else name, network)
    return replace(config, key_prefixes=("",))


def build_huggingface(config: NetworkConfig, name: str) -> nn.Module:
    """The network with random weights on the current default device; nothing is downloaded.

    Raises:
        ModelError: if the architecture, or its backbone, is not one of those that are taken.
        ResourceError: if transformers is not installed.
    """
    architecture, settings = _declare(config, name)
    network: nn.Module = architecture(settings)
    return network


def load_huggingface(path: Path, config: NetworkConfig, prefix: str) -> nn.Module:
    """The network with its weights, on the CPU, in eval mode.

    Args:
        path: of the weights, whose size was checked.
        config: the network.
        prefix: what its keys in the file begin with.

    Raises:
        ModelError: if the weights do not fit.
    """
    import torch
    from safetensors import safe_open

    architecture, settings = _declare(config, str(path))
    with torch.device("meta"):
        planned = sum(value.numel() for value in architecture(settings).parameters())
    with safe_open(path, framework="pt", device="cpu") as file:
        keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118
        found = sum(math.prod(file.get_slice(key).get_shape()) for key in keys)
        if planned > found:
            raise ModelError(
                f"config.json describes a network of {planned} weights, {path} has {found}; name there what "
                f"they were trained with"
            )
        state = {key.removeprefix(prefix): file.get_tensor(key) for key in keys}
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise ModelError(f"weight {key} holds NaN or infinity; train or save the model again")
    network, report = _hand_over(architecture, settings, state)
    misfits = {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}
    if misfits:
        listed = "; ".join(f"{len(keys)} {kind}: {', '.join(keys[:3])}" for kind, keys in misfits.items())
        raise ModelError(
            f"the weights of {path} do not fit {config.name} ({listed}); save the model again "
            f"with save_pretrained"
        )
    return network


def _hand_over(
    architecture: Any, settings: Any, state: dict[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    import torch
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    # its own table of keys that did not fit is told by the one message
    logging.set_verbosity_error()
    try:
        # from no folder: it renames the keys of older versions, and opens nothing
        network, report = architecture.from_pretrained(
            None, config=settings, state_dict=state, output_loading_info=True, dtype=torch.float32
        )
    finally:
        logging.set_verbosity(verbosity)
    return network.eval().requires_grad_(False), report


def _declare(config: NetworkConfig, name: str) -> tuple[Any, Any]:
    """The class of the network, and its settings."""
    try:
        import scipy  # noqa: F401 - some of its networks do not start without
        import transformers
    except ImportError as error:
        raise ResourceError(
            f"folders of Hugging Face need transformers ({error}); pip install 'hiresseg[transformers]'"
        ) from error
    from huggingface_hub.errors import StrictDataclassError

    try:
        return getattr(transformers, _architecture(config, name)), _settings(transformers, config, name)
    except StrictDataclassError as error:
        raise ModelError(
            f"{name}: {config.name} does not take these settings ({' '.join(str(error).split())[:300]}); "
            f"correct config.json"
        ) from error


def _architecture(config: NetworkConfig, name: str) -> str:
    return check_choice(config.name, f"{name}.name", tuple(ARCHITECTURES))


def _settings(transformers: Any, config: NetworkConfig, name: str) -> Any:
    form = getattr(transformers, ARCHITECTURES[config.name])
    arguments = dict(config.arguments)
    entries = _declared(form, arguments, name)
    if "backbone_config" in _fields(form):
        inner = check_object(
            arguments.get("backbone_config"), f"{name}: backbone_config", frozenset({"model_type"}), None
        )
        kind = check_choice(inner["model_type"], f"{name}: backbone_config.model_type", tuple(_BACKBONES))
        backbone = getattr(transformers, _BACKBONES[kind])
        entries["backbone_config"] = backbone(**_declared(backbone, inner, f"{name}: backbone_config"))
    return form(**entries, num_labels=arguments.get("num_labels", 2))


def _fields(form: Any) -> frozenset[str]:
    from transformers import PreTrainedConfig

    own = [part for part in form.__mro__ if not issubclass(PreTrainedConfig, part)]
    return frozenset(key for part in own for key in vars(part).get("__annotations__", {}) if key[0] != "_")


def _declared(form: Any, entries: Mapping[str, object], name: str) -> dict[str, Any]:
    known = _fields(form) | {"out_features", "out_indices"}
    kept = {key: value for key, value in entries.items() if key in known}
    for key, value in kept.items():
        # each of these builds as many layers as it says
        if key.endswith(_COUNTS):
            for count in value if isinstance(value, list) else [value]:
                check_integer(count, f"{name}: {key}", 0, _MAX_COUNT)
    return kept


def _normalisation(preprocessor: Mapping[str, object], num_bands: int, name: str) -> dict[str, object]:
    if preprocessor.get("do_normalize") is False or "image_mean" not in preprocessor:
        return {}
    factor = check_number(preprocessor.get("rescale_factor", 1 / 255), f"{name}: rescale_factor", 1e-9, 1.0)
    scale = 1.0 if preprocessor.get("do_rescale") is False else 1 / factor
    return {
        entry: [
            scale * check_number(value, f"{name}: {key}")
            for value in check_list(preprocessor.get(key), f"{name}: {key}", num_bands, num_bands)
        ]
        for entry, key in (("mean", "image_mean"), ("std", "image_std"))
    }
