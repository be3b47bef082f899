"""A user's own network in one file: what torch.export (.pt2) or ONNX wrote, as `images -> logits`.

A file may be bound to the sizes that it was exported with. A batch of one size is honoured: tiles are given
in parts of it, the last one filled up. Tiles or bands of another size than the model's are refused.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from hiresseg.errors import ModelError
from hiresseg.models.config import ModelConfig
from hiresseg.models.networks import MISFITS, ImageSegmenter, StackedSegmenter

_FORM = "a tensor of logits (N, K, t, t) alone, or a dictionary that has it as 'out'"
_UNREADABLE = (*MISFITS, OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class InputSizes:
    """What a file is bound to, in the order of its input's axes; None where any size will do."""

    batch: int | None
    channels: int | None
    height: int | None
    width: int | None

    def check(self, channels: tuple[int, ...], tile_px: int, name: str) -> None:
        """Refuse bands or tiles that the file does not take.

        Raises:
            ModelError: with both numbers.
        """
        if self.channels not in (None, *channels):
            raise ModelError(
                f"{name} takes {self.channels} bands, config.json names {channels[0]}; make them agree"
            )
        for edge in (self.height, self.width):
            if edge not in (None, tile_px):
                raise ModelError(
                    f"{name} takes tiles of {self.height or 'any'} x {self.width or 'any'} pixels, "
                    f"config.json says tile_px {tile_px}; write the file's size there, or leave sizes open"
                )


class FileNetwork(nn.Module):
    """A network from a file, given batches of the size that it takes, and asked for its logits alone.

    Args:
        network: gives whatever the file gives.
        batch: tiles that it takes at a time; None for any number.
        name: of the file, for messages.
    """

    def __init__(self, network: nn.Module, batch: int | None, name: str) -> None:
        super().__init__()
        self.network = network
        self.batch = batch
        self.name = name

    def forward(self, images: Float[Tensor, "N C t t"]) -> Float[Tensor, "N L h w"]:
        """Logits of each tile.

        Raises:
            ModelError: if the file gives something else.
        """
        if self.batch is None or self.batch == len(images):
            return self._logits(images)
        parts = []
        for part in images.split(self.batch):
            missing = self.batch - len(part)
            filled = pad(part, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else part
            parts.append(self._logits(filled)[: len(part)])
        return torch.cat(parts)

    def _logits(self, images: Tensor) -> Tensor:
        output = self.network(images)
        logits = output.get("out") if isinstance(output, Mapping) else output
        if isinstance(logits, Tensor) and logits.ndim == 4:
            return logits
        raise ModelError(f"{self.name} gives {_describe(output)}; export a network that gives {_FORM}")


def load_exported(path: Path, config: ModelConfig, stage: int, device: torch.device) -> nn.Module:
    """The network of one stage, from its file, as `(images, prior) -> logits`.

    Raises:
        ModelError: if the file cannot be read, or does not fit the configuration.
        ResourceError: if the device is none that the file's library runs on here.
    """
    if config.networks[stage].library == "onnx":
        from hiresseg.models.onnx_file import open_onnx

        network, sizes = open_onnx(path, device)
    else:
        network, sizes = _open_pt2(path, device)
    num_bands, num_logits = len(config.spec.bands), config.spec.num_logits
    stacked = num_bands + num_logits
    sizes.check((num_bands, stacked) if stage else (num_bands,), config.spec.stages[stage].tile_px, path.name)
    bound = FileNetwork(network, sizes.batch, path.name)
    # of a file that takes any number of bands it is not known that it reads a prior
    return StackedSegmenter(bound) if stage and sizes.channels == stacked else ImageSegmenter(bound)


def _open_pt2(path: Path, device: torch.device) -> tuple[nn.Module, InputSizes]:
    # runs whatever the file's author wants: the caller has made sure that the user named this file
    try:
        _refuse_compiled(path)
        program = torch.export.load(path)
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        sizes = _sizes(program, path.name)
        _refuse_training_mode(program, path.name)
        network = program.module()
    except ModelError:
        raise
    except _UNREADABLE as error:
        raise ModelError(
            f"{path} cannot be read as a torch.export file ({type(error).__name__}: {str(error)[:300]}); "
            f"write it with torch.export.save under torch {torch.__version__}"
        ) from error
    return network.requires_grad_(False), sizes


def _refuse_compiled(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any("/aotinductor/" in name for name in names):
        raise ModelError(f"{path} is compiled for one machine; save it with torch.export.save instead")
    if not any(name.endswith(("models/model.json", "serialized_exported_program.json")) for name in names):
        raise ModelError(f"{path} holds no exported program; write it with torch.export.save")


def _sizes(program: Any, name: str) -> InputSizes:
    inputs = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.name in inputs]
    if len(inputs) != 1 or len(values) != 1 or not isinstance(values[0], Tensor) or values[0].ndim != 4:
        raise ModelError(
            f"{name} has the inputs {inputs!r:.200}; export a network of one (N, C, t, t) tensor"
        )
    batch, channels, height, width = (size if isinstance(size, int) else None for size in values[0].shape)
    return InputSizes(batch, channels, height, width)


def _refuse_training_mode(program: Any, name: str) -> None:
    calls = [(str(node.target), node.args) for node in program.graph.nodes]
    # the argument `train` of a dropout, and `training` of a batch norm
    is_training = any(
        ("dropout" in target and args[2:3] == (True,)) or ("batch_norm" in target and args[5:6] == (True,))
        for target, args in calls
    )
    if is_training or program.graph_signature.buffers_to_mutate:
        raise ModelError(
            f"{name} was exported in training mode, where answers depend on chance or on other tiles; "
            f"call network.eval() before torch.export.export"
        )


def _describe(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a dictionary of {', '.join(map(str, output))}"[:200]
    return f"a {type(output).__name__}"
