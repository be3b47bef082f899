"""An ONNX file, run by onnxruntime (extra `[onnx]`).

A graph of operators from a fixed set cannot run code of its own. It can name other files for its weights, and
those are held to the one that torch.onnx.export writes, beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hiresseg.errors import ModelError, ResourceError
from hiresseg.models.exported import InputSizes
from hiresseg.models.folder import DATA_SUFFIX

_FLOATS = ("tensor(float)",)
_MAX_FILE_BYTES = 2 << 30


class OnnxNetwork(nn.Module):
    """A session of onnxruntime as a network; a session is safe to be run by several threads.

    Args:
        session: an `onnxruntime.InferenceSession`.
        output: name of the output that has the logits.
        name: of the file, for messages.
    """

    def __init__(self, session: Any, output: str, name: str) -> None:
        super().__init__()
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = output
        self._name = name

    def forward(self, images: Tensor) -> Tensor:
        """What the file gives, on the device of `images`.

        Raises:
            ModelError: in a reduced precision, or if onnxruntime fails.
        """
        if torch.is_autocast_enabled(images.device.type):
            raise ModelError(
                f"{self._name} computes in the precision that it was exported with; leave out --precision"
            )
        values = images.float().cpu().contiguous().numpy()
        try:
            (answer,) = self._session.run([self._output], {self._input: values})
        except _session_errors() as error:
            raise ModelError(
                f"onnxruntime cannot run {self._name} on {images.shape} ({str(error)[:300]})"
            ) from error
        return torch.from_numpy(answer).to(images.device)


def open_onnx(path: Path, device: torch.device) -> tuple[nn.Module, InputSizes]:
    """The file as a network, and the sizes that it is bound to.

    Raises:
        ModelError: if it is no ONNX file, or not one of images to logits.
        ResourceError: if onnxruntime is not installed, or does not know the device.
    """
    runtime, onnx = _import_runtime()
    _check_data_files(onnx, path)
    try:
        session = runtime.InferenceSession(
            path, _options(runtime), providers=_providers(runtime.get_available_providers(), device)
        )
    except _session_errors() as error:
        raise ModelError(
            f"{path} is not taken by onnxruntime ({str(error)[:300]}); export it anew"
        ) from error
    inputs = [(entry.name, entry.type, entry.shape) for entry in session.get_inputs()]
    if len(inputs) != 1 or inputs[0][1] not in _FLOATS or len(inputs[0][2]) != 4:
        raise ModelError(
            f"{path.name} has the inputs {inputs!r:.300}; export a network of one float32 (N, C, t, t) tensor"
        )
    # an axis without a fixed size has a name there, or nothing
    batch, channels, height, width = (size if isinstance(size, int) else None for size in inputs[0][2])
    network = OnnxNetwork(session, _output_name(session, path.name), path.name)
    return network, InputSizes(batch, channels, height, width)


def _import_runtime() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ResourceError(
            f"ONNX files need onnx and onnxruntime ({error}); pip install 'hiresseg[onnx]'"
        ) from error
    return onnxruntime, onnx


def _options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    # blocks run side by side, each in a thread; with more of them a sum could depend on their number
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # what is wrong is raised, and said once
    options.log_severity_level = 4
    return options


def _providers(available: list[str], device: torch.device) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if device.type != "cuda" or "CUDAExecutionProvider" not in available:
        raise ResourceError(
            f"onnxruntime does not run on {device} here, only with {', '.join(available)}; use --device cpu, "
            f"or install onnxruntime-gpu in the place of onnxruntime"
        )
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _output_name(session: Any, name: str) -> str:
    names = [entry.name for entry in session.get_outputs()]
    if len(names) == 1:
        return str(names[0])
    if "out" in names:
        return "out"
    raise ModelError(
        f"{name} has the outputs {', '.join(names)[:200]}; export one output, or call the one of logits 'out'"
    )


def _check_data_files(onnx: Any, path: Path) -> None:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ModelError(
            f"{path} is larger than the {_MAX_FILE_BYTES} bytes that an ONNX file may have; export it with "
            f"external_data=True"
        )
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(path, load_external_data=False)
    except DecodeError as error:
        raise ModelError(f"{path} is no sound ONNX file ({error}); export it anew") from error
    allowed = path.name + DATA_SUFFIX
    for location in _locations(onnx, model):
        if location != allowed:
            raise ModelError(
                f"{path} has weights in {location!r:.200}, and only {allowed} beside it is read; "
                f"rename that, or export it anew with torch.onnx.export"
            )


def _locations(onnx: Any, message: Any) -> Iterator[str]:
    """Names of the files that tensors anywhere in the model point to."""
    if isinstance(message, onnx.TensorProto):
        if message.external_data or message.data_location == onnx.TensorProto.EXTERNAL:
            yield next((entry.value for entry in message.external_data if entry.key == "location"), "")
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else (value,):
                yield from _locations(onnx, part)


def _session_errors() -> tuple[type[Exception], ...]:
    # onnxruntime has no common base of its errors
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception)]
    return (*own, RuntimeError, ValueError)
