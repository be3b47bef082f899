"""The weights that a training begins with: drawn, of an encoder that saw ImageNet, or of another model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from hiresseg.errors import ModelError, RecipeError
from hiresseg.models import load_model
from hiresseg.models.config import ModelConfig
from hiresseg.models.networks import ImageSegmenter, build_network


def begin_network(config: ModelConfig, weights: str, say: Callable[[str], None]) -> nn.Module:
    """The network of a model of one stage, ready to be trained.

    Args:
        config: the model.
        weights: `none`, `imagenet`, or the model folder whose weights it takes where they have their like.
        say: takes a line about what it begins with.

    Raises:
        RecipeError: if these weights cannot be had.
        ModelError: if the network cannot be built.
    """
    network = build_network(config.networks[0], "network")
    if weights == "none":
        say("begins with random weights, and downloads nothing; an smp encoder can begin with 'imagenet'")
    elif weights == "imagenet":
        _load_encoder(network, config, say)
    else:
        _load_like(network, Path(weights), say)
    return network.train().requires_grad_(True)


def _load_encoder(network: nn.Module, config: ModelConfig, say: Callable[[str], None]) -> None:
    from segmentation_models_pytorch.encoders import get_encoder

    own = config.networks[0]
    if own.library != "smp":
        raise RecipeError(
            f"network.weights: only encoders of smp saw ImageNet, and {own.name} has none; use 'none'"
        )
    name = own.arguments.get("encoder_name", "resnet34")
    try:
        encoder = get_encoder(name, in_channels=own.arguments["in_channels"], weights="imagenet")
    except (OSError, LookupError, RuntimeError, ValueError) as error:
        raise RecipeError(
            f"network.weights: the weights of {name} cannot be fetched ({type(error).__name__}: "
            f"{str(error)[:200]}); check the connection, or use 'none'"
        ) from error
    taken = _take(network, {f"encoder.{key}": value for key, value in encoder.state_dict().items()})
    say(f"begins with an encoder {name} that saw ImageNet ({taken} tensors), the decoder with random weights")


def _load_like(network: nn.Module, folder: Path, say: Callable[[str], None]) -> None:
    try:
        (segmenter,) = load_model(folder).segmenters
    except (ModelError, ValueError) as error:
        raise RecipeError(
            f"network.weights must be 'none', 'imagenet' or the folder of a model of one stage: {error}"
        ) from error
    other = segmenter.network if isinstance(segmenter, ImageSegmenter) else segmenter
    if not isinstance(other, nn.Module) or not (taken := _take(network, other.state_dict())):
        raise RecipeError(f"network.weights: {folder} has no weight that fits this network; use 'none'")
    say(f"begins with {taken} of {len(network.state_dict())} tensors of {folder}, the others are random")


def _take(network: nn.Module, theirs: Mapping[str, Tensor]) -> int:
    own = network.state_dict()
    fitting = {key: value for key, value in theirs.items() if key in own and own[key].shape == value.shape}
    network.load_state_dict(own | fitting)
    return len(fitting)
