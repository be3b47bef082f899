"""Checkpoints and exported networks become model folders, or it is said which keys did not fit."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch

from hiresseg import models
from hiresseg.errors import ModelError, StoreError
from hiresseg.models.cascade import CoarseNet
from hiresseg.models.importing import Misfits, import_model

from .conftest import SHORT_CONFIG, TinyNet, export_pt2

NETWORK = {"library": "hiresseg", "name": "CoarseNet", "arguments": {"widths": [4, 6], "dropout": 0.0}}


def own_config(**network):
    stage = {"level": 0, "tile_px": 64, "overlap_px": 16, "network": {**NETWORK, **network}}
    return {
        **SHORT_CONFIG, "format": "hiresseg-model", "version": 1, "name": "mine", "activation": "sigmoid",
        "stages": [stage],
    }  # fmt: skip


@pytest.fixture
def network():
    torch.manual_seed(5)
    return CoarseNet((4, 6), 0.0).eval()


@pytest.fixture
def checkpoint(tmp_path):
    home = tmp_path / "checkpoints"
    home.mkdir()
    (home / "config.json").write_text(json.dumps(own_config()))

    def write(content):
        torch.save(content, home / "last.ckpt")
        return home / "last.ckpt"

    return write


def logits_of(folder):
    return models.load_model(folder).segmenters[0](torch.ones(1, 3, 64, 64), None)


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda state: state, ""),
        (lambda state: {"state_dict": state, "epoch": 3}, ""),
        (lambda state: {"module." + key: value for key, value in state.items()}, "module."),
        (lambda state: {"state_dict": {"model.net." + k: v for k, v in state.items()}}, "model.net."),
        (lambda state: {"model": state, "optimizer": {"lr": 0.1}}, ""),
    ],
)
def test_a_checkpoint_becomes_a_folder(checkpoint, network, tmp_path, wrap, prefix):
    imported = import_model(checkpoint(wrap(network.state_dict())), tmp_path / "out")
    assert (imported.prefix, imported.misfits) == (prefix, Misfits())
    assert torch.equal(logits_of(tmp_path / "out"), network(torch.ones(1, 3, 64, 64)).detach())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoints", "out"]


def test_an_smp_checkpoint_with_the_configuration_of_save_pretrained(tmp_path):
    import segmentation_models_pytorch as smp

    arguments = {"encoder_name": "tu-lcnet_035", "encoder_weights": None, "classes": 2}
    torch.manual_seed(1)
    network = smp.FPN(**arguments).eval()
    (tmp_path / "config.json").write_text(json.dumps({"_model_class": "FPN", **arguments}))
    torch.save(network.state_dict(), tmp_path / "net.pth")
    import_model(tmp_path / "net.pth", tmp_path / "out")
    images = torch.randn(1, 3, 64, 64)
    found = models.load_model(tmp_path / "out").segmenters[0](images, None)
    assert torch.equal(found, network(images).detach())


@pytest.fixture
def misfit(network, checkpoint):
    state = dict(network.state_dict())
    del state["head.bias"]
    state["surplus"] = torch.zeros(2)
    state["stem.0.weight"] = torch.zeros(4, 4, 3, 3)
    state["head.weight"] = state["head.weight"].int()
    return checkpoint(state)


def test_keys_that_do_not_fit_are_all_shown(misfit, tmp_path):
    with pytest.raises(ModelError, match="--allow-missing") as caught:
        import_model(misfit, tmp_path / "out")
    assert str(caught.value).splitlines()[1:] == [
        "1 missing:",
        "  head.bias",
        "1 unexpected:",
        "  surplus",
        "2 differing:",
        "  stem.0.weight: (4, 4, 3, 3) float32 there, (4, 3, 3, 3) float32 here",
        "  head.weight: (1, 4, 1, 1) int32 there, (1, 4, 1, 1) float32 here",
    ]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoints"]


def test_what_fits_is_taken_where_that_was_asked_for(misfit, network, tmp_path):
    imported = import_model(misfit, tmp_path / "out", allow_missing=True)
    assert imported.misfits.missing == ("head.bias",)
    state = models.load_model(tmp_path / "out").segmenters[0].state_dict()
    assert torch.equal(state["trunk.first.body.0.weight"], network.state_dict()["trunk.first.body.0.weight"])
    assert state["stem.0.weight"].std() > 0
    import_model(misfit, tmp_path / "again", allow_missing=True)
    assert torch.equal(logits_of(tmp_path / "again"), logits_of(tmp_path / "out"))


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_more_than_tensors_is_refused_and_runs_nothing(checkpoint, network, tmp_path):
    path = checkpoint({"state_dict": network.state_dict(), "hook": Canary(tmp_path / "touched")})
    with pytest.raises(ModelError, match=r"weights_only=True\) refuses it .*UnpicklingError") as caught:
        import_model(path, tmp_path / "out")
    # torch's own advice is to read it without that guard
    assert "weights_only=False" not in str(caught.value)
    path.write_bytes(pickle.dumps(Canary(tmp_path / "touched")))
    with pytest.raises(ModelError, match="refuses it"):
        import_model(path, tmp_path / "out")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoints"]


@pytest.mark.parametrize("data", [b"", b"abc", b"PK\3\4" + bytes(100)])
def test_bytes_that_are_no_checkpoint(checkpoint, tmp_path, data):
    path = checkpoint({})
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"last\.ckpt is not taken"):
        import_model(path, tmp_path / "out")


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(1)], {"state_dict": {}}, 3])
def test_a_checkpoint_without_named_tensors(checkpoint, tmp_path, content):
    with pytest.raises(ModelError, match=r"holds no tensors by name.*save network\.state_dict"):
        import_model(checkpoint(content), tmp_path / "out")


def test_sizes_that_no_memory_holds_are_refused_before_they_are_allocated(checkpoint, network, tmp_path):
    path = checkpoint(network.state_dict())
    huge = own_config(arguments={"widths": [10**6, 10**6], "dropout": 0.0})
    (path.parent / "config.json").write_text(json.dumps(huge))
    with pytest.raises(ModelError, match=r"\(1000000, 3, 3, 3\) float32 here"):
        import_model(path, tmp_path / "out")


def test_without_a_configuration_one_to_fill_in_is_shown(checkpoint, network, tmp_path):
    path = checkpoint(network.state_dict())
    (path.parent / "config.json").unlink()
    with pytest.raises(ModelError, match=r"needs a config\.json beside it") as caught:
        import_model(path, tmp_path / "out")
    (path.parent / "config.json").write_text(str(caught.value).partition("\n")[2])
    with pytest.raises(ModelError, match=r"does not fit the network of config\.json"):
        import_model(path, tmp_path / "out")


def test_a_configuration_of_something_else(checkpoint, network, tmp_path):
    path = checkpoint(network.state_dict())
    document = own_config()
    document["stages"] = [{**document["stages"][0], "level": 1}, *document["stages"]]
    (path.parent / "config.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match="has 2 stages, and a checkpoint is of one network"):
        import_model(path, tmp_path / "out")
    exported = own_config(library="onnx", name="net.onnx", arguments={})
    (path.parent / "config.json").write_text(json.dumps(exported))
    with pytest.raises(ModelError, match=r"names the file net\.onnx; import that"):
        import_model(path, tmp_path / "out")


def test_a_folder_that_is_not_empty_stays_as_it_is(checkpoint, network, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    path = checkpoint(network.state_dict())
    (out / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        import_model(path, out)
    (out / "mine.txt").unlink()
    import_model(path, out)
    assert logits_of(out).shape == (1, 1, 64, 64)


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match="is no file; name a checkpoint"):
        import_model(tmp_path / "nothing.ckpt", tmp_path / "out")


def test_an_exported_network_becomes_a_folder(export, beside, tmp_path):
    beside()
    path = export()
    import_model(path, tmp_path / "out")
    model = models.load_model(tmp_path / "out" / path.name)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.segmenters[0](images, None), TinyNet()(images).detach())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["format"] == "hiresseg-model"
    if path.suffix == ".onnx":
        assert models.load_model(tmp_path / "out").spec == model.spec


def test_an_exported_network_that_does_not_fit_is_not_imported(beside, tmp_path):
    beside()
    path = export_pt2(tmp_path / "net.pt2", TinyNet(logits=5))
    with pytest.raises(ModelError, match="logits of shape"):
        import_model(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
