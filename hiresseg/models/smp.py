"""The architectures of segmentation-models-pytorch (smp), DeepLabV3+ among them, and its own folders.

An smp class passes arguments that it does not know on to timm, which can fetch files and open pickles
(`checkpoint_path`, `pretrained_cfg`, names like `hf-hub:...`). So only the arguments in the signature of the
class itself are taken, plus a few harmless ones of timm.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hiresseg.errors import ModelError
from hiresseg.models.checks import check_choice, check_integer, check_object, check_text
from hiresseg.models.config import SPEC_KEYS, ModelConfig, NetworkConfig, parse_short_config

if TYPE_CHECKING:
    from torch import nn

    from hiresseg.models.spec import Activation

ARCHITECTURES = (
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "PAN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "UPerNet",
    "Segformer",
    "DPT",
)

_TIMM_ARGUMENTS = frozenset({"dynamic_img_size", "img_size", "output_stride", "drop_rate", "drop_path_rate"})
# what older versions called other things; smp still takes them
_FORMER_ARGUMENTS = frozenset({"decoder_use_batchnorm", "psp_use_batchnorm"})
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def build_smp(config: NetworkConfig, name: str) -> nn.Module:
    """The network with random weights on the current default device; nothing is downloaded.

    `encoder_weights` is taken and always None, since the folder has the weights.

    Raises:
        ModelError: if architecture, encoder or an argument is not one of those that are taken.
    """
    import segmentation_models_pytorch as smp

    check_choice(config.name, f"{name}.name", ARCHITECTURES)
    architecture = getattr(smp, config.name)
    parameters = inspect.signature(architecture.__init__).parameters.values()
    known = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD} - {"self"}
    allowed = frozenset(known | _TIMM_ARGUMENTS | _FORMER_ARGUMENTS)
    arguments = check_object(dict(config.arguments), f"{name}.arguments", frozenset(), allowed)
    encoder = check_text(arguments.get("encoder_name", "resnet34"), f"{name}.arguments.encoder_name")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", encoder):
        raise ModelError(
            f"{name}.arguments.encoder_name must be the plain name of an encoder, got {encoder!r}; "
            "names with a source in front would be fetched from there"
        )
    if arguments.get("activation") is not None:
        raise ModelError(
            f"{name}.arguments.activation must be null, got {arguments['activation']!r:.80}; networks give "
            "logits, and what turns them into probabilities is the model's own activation"
        )
    with warnings.catch_warnings():
        # that a name is a former one is nothing that who runs a model could change
        warnings.simplefilter("ignore", DeprecationWarning)
        network: nn.Module = architecture(**{**arguments, "encoder_weights": None})
    return network


def is_pretrained(document: Mapping[str, object]) -> bool:
    """Whether a config.json was written by the save_pretrained of an smp network."""
    return "_model_class" in document


def config_of_pretrained(
    document: Mapping[str, object], overrides: Mapping[str, object], folder: str
) -> ModelConfig:
    """What a save_pretrained folder says, completed by defaults and by its hiresseg.json.

    Args:
        document: config.json as smp writes it.
        overrides: hiresseg.json, any of the keys of a config.json that describe a model; its one stage may
            leave out what stays as it is, and has no `network`.
        folder: name of the folder.

    Raises:
        ModelError: if either of them is not as it should be.
    """
    name = f"{folder}/config.json"
    architecture = check_choice(document["_model_class"], f"{name}: _model_class", ARCHITECTURES)
    arguments = {
        key: value for key, value in document.items() if not key.startswith("_") and key != "activation"
    }
    num_bands = check_integer(arguments.get("in_channels", 3), f"{name}: in_channels", 1, 1024)
    num_logits = check_integer(arguments.get("classes", 1), f"{name}: classes", 1, 254)
    network = {"library": "smp", "name": architecture, "arguments": arguments}
    check_object(dict(overrides), f"{folder}/hiresseg.json", frozenset(), SPEC_KEYS)
    activation = _activation(document.get("activation"), num_logits, name)
    names = ["background", "foreground"] if num_logits == 1 else [f"class_{i}" for i in range(num_logits)]
    if activation == "sigmoid" and num_logits > 1:
        names = ["background", *names]
    full = {**default_entries(folder, num_bands, names, activation), **overrides}
    config = parse_short_config(full, f"{name} with hiresseg.json" if overrides else name, network)
    return replace(config, key_prefixes=("",))


def _activation(stated: object, num_logits: int, name: str) -> Activation:
    if stated is None or stated == "identity":
        return "sigmoid" if num_logits == 1 else "softmax"
    check_choice(stated, f"{name}: activation", ("sigmoid", "softmax", "softmax2d"))
    return "sigmoid" if stated == "sigmoid" else "softmax"


def default_entries(
    folder: str, num_bands: int, class_names: Sequence[object], activation: Activation
) -> dict[str, object]:
    """What a short config.json would say for a network of which only this is known: RGB as in ImageNet."""
    is_rgb = num_bands == 3
    return {
        "name": folder,
        "bands": ["red", "green", "blue"] if is_rgb else [f"band_{i + 1}" for i in range(num_bands)],
        "classes": [{"name": name, "color": list(class_color(i))} for i, name in enumerate(class_names)],
        "activation": activation,
        "mean": list(imagenet_statistics()[0]) if is_rgb else [127.5] * num_bands,
        "std": list(imagenet_statistics()[1]) if is_rgb else [127.5] * num_bands,
    }


def imagenet_statistics() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of red, green and blue in bytes, as encoders that saw ImageNet want them."""
    return tuple(255 * m for m in _IMAGENET_MEAN), tuple(255 * s for s in _IMAGENET_STD)


def class_color(index: int) -> tuple[int, int, int]:
    """Red, green and blue of a class that has no colour of its own; 0 is black."""
    # each bit of the number brightens one of the three, from the highest of the colour downwards
    color = [0, 0, 0]
    for bit in range(8):
        color[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return color[0], color[1], color[2]
