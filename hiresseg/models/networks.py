"""Networks from their names: built, and made to look alike, `(images, prior) -> logits`."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hiresseg.errors import HiressegError, ModelError
from hiresseg.models.config import ModelConfig, NetworkConfig
from hiresseg.models.smp import build_smp
from hiresseg.models.spec import Segmenter

# what constructors of other people's networks raise when their arguments do not fit
MISFITS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


_LEAST_SUM = 1e-6


class ImageSegmenter(nn.Module):
    """A network that looks at the images alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, images: Float[Tensor, "N C t t"], prior: Float[Tensor, "N K t t"] | None = None
    ) -> Float[Tensor, "N L h w"]:
        """Logits of each tile; the prior is not looked at."""
        del prior
        return _logits(self.network(images))


class HuggingFaceSegmenter(nn.Module):
    """A network of transformers: its logits, or its masks with their classes, at the size of the tile."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, images: Float[Tensor, "N C t t"], prior: Float[Tensor, "N K t t"] | None = None
    ) -> Float[Tensor, "N K t t"]:
        """Logits of each tile; the prior is not looked at.

        Masks are weighted with their classes, as in Mask2Former (https://arxiv.org/abs/2112.01527): of
        the sums the logarithm is given, so that softmax makes shares of them.
        """
        del prior
        output = self.network(pixel_values=images)
        size = images.shape[-2:]
        if "logits" in output:
            return interpolate(output["logits"], size, mode="bilinear", align_corners=False)
        # the last class says that a mask is none
        classes = output["class_queries_logits"].softmax(-1)[..., :-1]
        masks = interpolate(output["masks_queries_logits"], size, mode="bilinear", align_corners=False)
        sums = torch.einsum("nqk,nqhw->nkhw", classes, masks.sigmoid())
        return sums.float().clamp_min(_LEAST_SUM).log()


class StackedSegmenter(nn.Module):
    """A network for images alone that reads the prior as further bands, from -1 (no) to 1 (yes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, images: Float[Tensor, "N C t t"], prior: Float[Tensor, "N K t t"] | None
    ) -> Float[Tensor, "N L h w"]:
        """Logits of each tile.

        Raises:
            ValueError: without a prior.
        """
        if prior is None:
            raise ValueError(
                "this network refines the answer of a stage before it, and was given none; pass a prior"
            )
        return _logits(self.network(torch.cat([images, 2 * prior - 1], 1)))


def build_network(config: NetworkConfig, name: str = "network") -> nn.Module:
    """The network with random weights, on the current default device, in eval mode.

    Args:
        config: which one, and its arguments.
        name: how messages call it.

    Raises:
        ModelError: if there is no such network or it does not take these arguments.
    """
    try:
        network = _build(config, name)
    except HiressegError:
        raise
    except MISFITS as error:
        raise ModelError(
            f"{name}: {config.name} cannot be built from {dict(config.arguments)!r:.300}: "
            f"{type(error).__name__}: {str(error)[:300]}"
        ) from error
    return network.eval().requires_grad_(False)


def as_segmenter(network: nn.Module, config: ModelConfig, stage: int) -> Segmenter:
    """The network of one stage as `(images, prior) -> logits`.

    Raises:
        ModelError: if an smp network's channels do not fit the bands and classes.
    """
    if config.networks[stage].library == "hiresseg":
        return network
    if config.networks[stage].library == "transformers":
        return HuggingFaceSegmenter(network)
    arguments = config.networks[stage].arguments
    num_bands, num_logits = len(config.spec.bands), config.spec.num_logits
    channels = arguments.get("in_channels", 3)
    if arguments.get("classes", 1) != num_logits:
        raise ModelError(
            f"stages[{stage}].network gives {arguments.get('classes', 1)} classes, but the model's "
            f"{len(config.spec.classes)} with {config.spec.activation} need {num_logits}; make them agree"
        )
    if channels == num_bands:
        return ImageSegmenter(network)
    if stage and channels == num_bands + num_logits:
        return StackedSegmenter(network)
    allowed = f"{num_bands} (the bands)" + (
        f" or {num_bands + num_logits} (bands and prior)" if stage else ""
    )
    raise ModelError(
        f"stages[{stage}].network must have in_channels {allowed}, got {channels}; make them agree"
    )


def _build(config: NetworkConfig, name: str) -> nn.Module:
    if config.library == "smp":
        return build_smp(config, name)
    if config.library == "transformers":
        from hiresseg.models.huggingface import build_huggingface

        return build_huggingface(config, name)
    return _build_own(config, name)


def _build_own(config: NetworkConfig, name: str) -> nn.Module:
    from hiresseg.models.cascade import CoarseNet, RefineNet
    from hiresseg.models.crm import ContinuousRefiner
    from hiresseg.models.fcn import FCN
    from hiresseg.models.pointwise import PointwiseNet

    table: dict[str, type[nn.Module]] = {
        "CoarseNet": CoarseNet,
        "ContinuousRefiner": ContinuousRefiner,
        "FCN": FCN,
        "PointwiseNet": PointwiseNet,
        "RefineNet": RefineNet,
    }
    if config.name not in table:
        raise ModelError(f"{name}.name must be one of {', '.join(table)}, got {config.name!r}")
    # JSON has lists where Python has tuples
    arguments = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config.arguments.items()
    }
    return table[config.name](**arguments)


def _logits(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    # with a classification head an smp network gives the labels of the whole tile as well
    return output[0] if isinstance(output, tuple) else output
