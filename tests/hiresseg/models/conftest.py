"""A tiny network as every kind of file that a user may hand over."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from torch import nn

SHORT_CONFIG = {
    "bands": ["red", "green", "blue"],
    "classes": [{"name": "ground", "color": [0, 0, 0]}, {"name": "roof", "color": [230, 60, 40]}],
    "activation": "softmax",
    "mean": [100.0, 110.0, 120.0],
    "std": [50.0, 51.0, 52.0],
    "stages": [{"tile_px": 64, "overlap_px": 16, "trim_px": 2}],
}


class TinyNet(nn.Module):
    """Two layers; `form` says in what it wraps its logits."""

    def __init__(self, bands=3, logits=2, form=None):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(bands, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, logits, 1)
        self.form = form
        self.eval()

    def forward(self, images):
        logits = self.head(self.norm(self.body(images)).relu())
        return self.form(logits) if self.form else logits


@pytest.fixture
def beside(tmp_path):
    """Writes config.json into the test's folder: `beside(key=value)` changes entries, None takes them out."""

    def write(**changes):
        entries = {key: value for key, value in {**SHORT_CONFIG, **changes}.items() if value is not None}
        (tmp_path / "config.json").write_text(json.dumps(entries))

    return write


def export_pt2(path, network, shape=(2, 3, 64, 64), is_open=True):
    auto = torch.export.Dim.AUTO
    axes = ({0: auto, 2: auto, 3: auto},) if is_open else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (torch.randn(shape),), dynamic_shapes=axes)
        torch.export.save(program, path)
    return path


def export_onnx(path, network, shape=(2, 3, 64, 64), is_open=True):
    names = {0: "n", 2: "h", 3: "w"}
    outputs = ["out"] if network.form is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.randn(shape),),
            path,
            dynamo=False,
            input_names=["images"],
            output_names=outputs,
            dynamic_axes={"images": names, "out": names} if is_open else None,
        )
    return path


EXPORTERS = {".pt2": export_pt2, ".onnx": export_onnx}


@pytest.fixture(params=[".pt2", ".onnx"])
def export(request, tmp_path):
    """Writes a network as one kind of file, in turn: `export(network, shape, is_open)`."""
    if request.param == ".onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")

    def write(network=None, shape=(2, 3, 64, 64), is_open=True, name="net"):
        return EXPORTERS[request.param](
            tmp_path / (name + request.param), network or TinyNet(), shape, is_open
        )

    return write
