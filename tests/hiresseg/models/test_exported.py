"""A user's own network from a .pt2 or an ONNX file: the logits of the network, or a reason why not."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
import torch
from torch import nn

from hiresseg import models
from hiresseg.errors import ModelError, ResourceError
from hiresseg.models.folder import TEMPLATE

from .conftest import SHORT_CONFIG, TinyNet, export_onnx, export_pt2


def refused(path, message):
    with pytest.raises(ModelError, match=message):
        models.load_model(path)


@pytest.mark.parametrize("count", [1, 3])
def test_logits_are_those_of_the_network(export, beside, count):
    beside()
    path = export()
    model = models.load_model(path)
    images = torch.randn(count, 3, 64, 64)
    with torch.inference_mode():
        found = model.segmenters[0](images, None)
        torch.testing.assert_close(found, TinyNet()(images), rtol=1e-5, atol=1e-6)
    assert model.spec.name == "net"
    assert model.spec.stages == (models.StageSpec(0, 64, 16, 2),)
    assert models.describe_model(path) == model.spec


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_batch_of_one_size_is_honoured(export, beside, count):
    beside()
    segmenter = models.load_model(export(shape=(2, 3, 64, 64), is_open=False)).segmenters[0]
    images = torch.randn(count, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(segmenter(images, None), TinyNet()(images), rtol=1e-5, atol=1e-6)


def test_a_tile_of_another_size_is_told_with_both(export, beside):
    beside()
    refused(export(shape=(1, 3, 96, 96), is_open=False), "tiles of 96 x 96 pixels, .* tile_px 64")


def test_bands_of_another_number_are_told_with_both(export, beside):
    beside()
    refused(export(TinyNet(bands=4), (2, 4, 64, 64)), "takes 4 bands, config.json names 3")


def test_classes_of_another_number_are_told_with_both(export, beside):
    beside()
    refused(
        export(TinyNet(logits=5)), r"logits of shape \(1, 5, 64, 64\), classes and tile need \(1, 2, 64, 64\)"
    )


def test_logits_of_another_size_than_the_tile(export, beside):
    beside()
    network = TinyNet(form=nn.AvgPool2d(4))
    refused(export(network), r"logits of shape \(1, 2, 16, 16\)")


def test_without_a_configuration_one_to_fill_in_is_shown(export, tmp_path):
    path = export()
    with pytest.raises(ModelError, match=r"needs a config\.json beside it") as caught:
        models.load_model(path)
    shown = str(caught.value).partition("\n")[2]
    assert shown == TEMPLATE
    (tmp_path / "config.json").write_text(shown.replace("512", "64").replace("64,", "64,", 1))
    with pytest.raises(ModelError, match="overlap_px"):
        models.describe_model(path)
    (tmp_path / "config.json").write_text(shown)
    assert len(models.load_model(path).spec.classes) == 2


def test_a_short_configuration_has_the_defaults_of_a_stage(export, beside):
    beside(stages=None, name="mine")
    spec = models.describe_model(export())
    assert spec.name == "mine"
    assert spec.stages == (models.StageSpec(0, 512, 64, 8),)


def test_a_short_configuration_names_what_it_lacks(export, beside):
    beside(mean=None)
    refused(export(), "lacks mean; add")


def full_config(file_name, library):
    stage = {"level": 0, "tile_px": 64, "overlap_px": 16, "network": {"library": library, "name": file_name}}
    return {**SHORT_CONFIG, "format": "hiresseg-model", "version": 1, "name": "full", "stages": [stage]}


def test_a_folder_of_an_onnx_file_is_a_model(tmp_path):
    pytest.importorskip("onnxruntime")
    path = export_onnx(tmp_path / "net.onnx", TinyNet())
    (tmp_path / "config.json").write_text(json.dumps(full_config("net.onnx", "onnx")))
    images = torch.randn(1, 3, 64, 64)
    for name in (tmp_path, path):
        model = models.load_model(name)
        torch.testing.assert_close(model.segmenters[0](images, None), TinyNet()(images))
    assert models.describe_model(path) == models.describe_model(tmp_path)


def test_a_file_that_the_configuration_does_not_describe(export, tmp_path):
    path = export(name="other")
    (tmp_path / "config.json").write_text(json.dumps(full_config("net.onnx", "onnx")))
    refused(path, r"describes net\.onnx and not other")


@pytest.mark.parametrize("name", ["../net.onnx", "/net.onnx", ".net.onnx", "a\\net.onnx", "c:net.onnx"])
def test_a_name_that_leaves_the_folder(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(full_config(name, "onnx")))
    refused(tmp_path, r"must be the name of a \.onnx file in this folder")


def test_a_name_with_the_ending_of_another_format(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(full_config("net.pt2", "onnx")))
    refused(tmp_path, r"must be the name of a \.onnx file in this folder, got 'net\.pt2'")


def test_a_file_behind_a_link_that_leaves_the_folder(export, tmp_path, beside):
    path = export()
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / path.name).symlink_to(path)
    beside()
    (tmp_path / "config.json").rename(inner / "config.json")
    refused(inner / path.name, "is a link that leaves its folder")


def test_the_digest_sees_the_file(export, beside):
    beside()
    path = export()
    before = models.describe_model(path).digest
    path.write_bytes(path.read_bytes() + b" ")
    assert models.describe_model(path).digest != before


# ---- what a network answers


def test_a_dictionary_with_out_is_taken(tmp_path, beside):
    beside()
    path = export_pt2(
        tmp_path / "net.pt2", TinyNet(form=lambda logits: {"aux": logits[:, :1], "out": logits})
    )
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(models.load_model(path).segmenters[0](images, None), TinyNet()(images))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda logits: (logits, logits), "gives a tuple; export a network that gives a tensor"),
        (lambda logits: {"logits": logits}, "gives a dictionary of logits; "),
        (lambda logits: logits.mean((2, 3)), r"gives a tensor of shape \(1, 2\)"),
    ],
)
def test_other_answers_are_refused(tmp_path, beside, form, message):
    beside()
    refused(export_pt2(tmp_path / "net.pt2", TinyNet(form=form)), message)


def test_onnx_with_several_outputs_of_other_names(tmp_path, beside):
    pytest.importorskip("onnxruntime")
    beside()
    path = export_onnx(
        tmp_path / "net.onnx", TinyNet(form=lambda logits: (logits, logits + 1)), is_open=False
    )
    refused(path, r"has the outputs .*; export one output, or call the one of logits 'out'")


def test_two_inputs_are_refused(tmp_path, beside):
    class Two(nn.Module):
        def forward(self, images, other):
            return images[:, :2] + other[:, :2]

    beside()
    tile = torch.randn(1, 3, 64, 64)
    torch.export.save(torch.export.export(Two(), (tile, tile)), tmp_path / "net.pt2")
    refused(tmp_path / "net.pt2", "export a network of one")


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(2), nn.Dropout2d(0.5), nn.Dropout(0.5)])
def test_a_network_that_was_exported_while_training(tmp_path, beside, layer):
    beside()
    network = nn.Sequential(nn.Conv2d(3, 2, 1), layer)
    torch.export.save(
        torch.export.export(network.train(), (torch.randn(2, 3, 64, 64),)), tmp_path / "net.pt2"
    )
    refused(tmp_path / "net.pt2", r"exported in training mode.*network\.eval\(\)")


def test_a_later_stage_reads_the_prior_as_bands(tmp_path):
    pytest.importorskip("onnxruntime")
    networks = TinyNet(), TinyNet(bands=5)
    document = full_config("0.onnx", "onnx")
    (stage,) = document["stages"]
    second = {**stage, "network": {"library": "onnx", "name": "1.onnx"}}
    document["stages"] = [{**stage, "level": 1}, second]
    (tmp_path / "config.json").write_text(json.dumps(document))
    for number, network in enumerate(networks):
        export_onnx(tmp_path / f"{number}.onnx", network, (2, 3 + 2 * number, 64, 64))
    segmenters = models.load_model(tmp_path).segmenters
    images, prior = torch.randn(1, 3, 64, 64), torch.rand(1, 2, 64, 64)
    torch.testing.assert_close(segmenters[0](images, None), networks[0](images))
    expected = networks[1](torch.cat([images, 2 * prior - 1], 1))
    torch.testing.assert_close(segmenters[1](images, prior), expected)


# ---- files that are not what they are called, or can run code


def test_bytes_that_are_no_network(tmp_path, beside, export):
    beside()
    path = export()
    sound = path.read_bytes()
    for data in (b"", b"no network", sound[: len(sound) // 2]):
        path.write_bytes(data)
        refused(path, path.name.replace(".", r"\."))


def test_a_zip_that_holds_no_program(tmp_path, beside):
    beside()
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("a/models/nothing", "")
    refused(tmp_path / "net.pt2", "holds no exported program")
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("a/data/aotinductor/model/x.so", "")
    refused(tmp_path / "net.pt2", "is compiled for one machine")


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pt2_of_a_folder_is_opened_only_by_its_own_name(tmp_path):
    touched = tmp_path / "touched"
    sound = export_pt2(tmp_path / "sound.pt2", TinyNet())
    model = tmp_path / "model"
    model.mkdir()
    torch.save(Canary(touched), tmp_path / "bait")
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(model / "net.pt2", "w") as new:
        for name in old.namelist():
            is_sample = name.endswith("sample_inputs/model.pt")
            new.writestr(name, (tmp_path / "bait").read_bytes() if is_sample else old.read(name))
    (model / "config.json").write_text(json.dumps(full_config("net.pt2", "torch.export")))
    refused(model, r"can run any code; where you trust it, name the file itself: .*net\.pt2")
    models.describe_model(model / "net.pt2")
    assert not touched.exists()
    # what the documentation says is true of torch: the file named is opened, and what it holds runs
    refused(model / "net.pt2", "cannot be read as a torch.export file")
    assert touched.exists()


def test_torchscript_is_refused_with_a_command_that_works(tmp_path, beside):
    pytest.importorskip("onnxruntime")
    beside()
    path = tmp_path / "scripted.pt"
    export = (
        "import sys, torch; from torch import nn; torch.manual_seed(0); "
        "torch.jit.script(nn.Conv2d(3, 2, 1)).save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", export, str(path)], check=True, capture_output=True)
    with pytest.raises(ModelError, match="it is TorchScript") as caught:
        models.load_model(path)
    command = next(line for line in str(caught.value).splitlines() if line.startswith("  python"))
    words = shlex.split(command.replace("512", "64"))
    subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, cwd=tmp_path)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    found = models.load_model(tmp_path / "scripted.onnx").segmenters[0](images, None)
    torch.manual_seed(0)
    torch.testing.assert_close(found, nn.Conv2d(3, 2, 1)(images).detach())


# ---- ONNX


@pytest.fixture
def onnx_path(tmp_path, beside):
    pytest.importorskip("onnxruntime")
    beside()
    return export_onnx(tmp_path / "net.onnx", TinyNet())


def with_weights_in(path, location):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    onnx.save(
        model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())


def test_weights_in_the_file_beside_it_are_part_of_the_model(onnx_path):
    before = models.load_model(onnx_path)
    with_weights_in(onnx_path, "net.onnx.data")
    data = onnx_path.with_name("net.onnx.data")
    images = torch.randn(1, 3, 64, 64)
    model = models.load_model(onnx_path)
    assert torch.equal(model.segmenters[0](images, None), before.segmenters[0](images, None))
    data.write_bytes(data.read_bytes() + b" ")
    assert models.describe_model(onnx_path).digest != model.spec.digest


@pytest.mark.parametrize("location", ["../net.onnx.data", "/etc/passwd", "other", "sub/../net.onnx.data"])
def test_weights_in_any_other_file_are_refused(onnx_path, location):
    with_weights_in(onnx_path, location)
    refused(
        onnx_path, f"has weights in {re.escape(repr(location))}, and only net.onnx.data beside it is read"
    )


def test_weights_behind_a_link_that_leaves_the_folder(onnx_path, tmp_path_factory):
    with_weights_in(onnx_path, "net.onnx.data")
    data = onnx_path.with_name("net.onnx.data")
    outside = tmp_path_factory.mktemp("outside") / "data"
    data.rename(outside)
    refused(onnx_path, "not taken by onnxruntime")
    data.symlink_to(outside)
    refused(onnx_path, r"net\.onnx\.data is a link that leaves its folder")


def test_a_precision_that_onnx_does_not_know(onnx_path):
    segmenter = models.load_model(onnx_path).segmenters[0]
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ModelError, match="leave out --precision"),
    ):
        segmenter(torch.randn(1, 3, 64, 64), None)


def test_a_device_without_a_provider_is_no_silent_fall_back():
    from hiresseg.models.onnx_file import _providers

    with pytest.raises(ResourceError, match="only with CPUExecutionProvider; use --device cpu"):
        _providers(["CPUExecutionProvider"], torch.device("cuda:0"))
    chosen = _providers(["CUDAExecutionProvider", "CPUExecutionProvider"], torch.device("cuda:1"))
    assert chosen[0] == ("CUDAExecutionProvider", {"device_id": 1})


def test_without_the_extra_its_name_is_told(onnx_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ResourceError, match=r"pip install 'hiresseg\[onnx\]'"):
        models.load_model(onnx_path)
    assert models.describe_model(onnx_path).name == "net"


def test_a_file_is_described_without_torch(onnx_path):
    code = (
        "import sys; from hiresseg.models import describe_model as d; d(sys.argv[1]); "
        "print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(onnx_path)], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_the_engine_runs_a_file(export, beside, make_raster, tmp_path):
    import numpy as np

    from hiresseg.forward import ForwardSetting
    from hiresseg.stages import stream

    beside()
    path = export(shape=(2, 3, 64, 64), is_open=False)
    scene = make_raster(np.random.default_rng(0).integers(0, 255, (3, 100, 130), dtype=np.uint8))
    model = models.load_model(path)
    direct = replace(model, segmenters=(lambda images, prior: TinyNet()(images),))
    setting = ForwardSetting(workers=2, batch=3)
    found, expected = (
        np.concatenate(
            [a.probabilities.ravel() for a in stream(scene, m, probabilities=True, setting=setting)]
        )
        for m in (model, direct)
    )
    # stored in steps of 1/255, and sums of floats are not ordered alike
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert found.std() > 1
