"""Folders of Hugging Face: the answers of transformers itself, from tiny random networks."""

from __future__ import annotations

import json
import socket
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate

from hiresseg import models
from hiresseg.errors import ModelError
from hiresseg.models import huggingface

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("scipy")

STAGES = ["stage1", "stage2", "stage3", "stage4"]
SWIN = {
    "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4,
    "out_features": STAGES,
}  # fmt: skip
CONVNEXT = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "out_features": STAGES}


def make(name, **changes):
    """A tiny network of one of the architectures, with random weights."""
    torch.manual_seed(0)
    forms = {
        "Segformer": lambda: transformers.SegformerConfig(
            depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16, **changes,
        ),
        "UperNet": lambda: transformers.UperNetConfig(
            backbone_config=transformers.ConvNextConfig(**CONVNEXT), hidden_size=16, auxiliary_channels=8,
            auxiliary_in_channels=16, **changes,
        ),
        "Mask2Former": lambda: transformers.Mask2FormerConfig(
            backbone_config=transformers.SwinConfig(**SWIN), feature_size=32, mask_feature_size=32,
            hidden_dim=32, encoder_feedforward_dim=16, encoder_layers=1, decoder_layers=2,
            num_attention_heads=2, dim_feedforward=16, num_queries=5, **changes,
        ),
        "Eomt": lambda: transformers.EomtConfig(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=64, num_queries=5,
            num_blocks=2, num_upscale_blocks=1, **changes,
        ),
    }  # fmt: skip
    (architecture,) = (a for a in huggingface.ARCHITECTURES if a.startswith(name))
    return getattr(transformers, architecture)(forms[name]()).eval()


def save(folder, name, stages=({"tile_px": 64, "overlap_px": 16},), **changes):
    network = make(name, **{"num_labels": 3, **changes})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save_pretrained(folder)
    (folder / "hiresseg.json").write_text(json.dumps({"stages": list(stages)}))
    return network


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a test of model loading reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ["Segformer", "UperNet"])
def test_logits_are_those_of_transformers_at_the_size_of_the_tile(tmp_path, name):
    network = save(tmp_path, name)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found = models.load_model(tmp_path).segmenters[0](images, None)
        expected = interpolate(network(images).logits, (64, 64), mode="bilinear")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.std() > 0


@pytest.mark.parametrize("name", ["Mask2Former", "Eomt"])
def test_masks_and_their_classes_become_shares(tmp_path, name):
    network = save(tmp_path, name)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found = models.load_model(tmp_path).segmenters[0](images, None)
        output = network(images)
        masks = interpolate(output.masks_queries_logits, (64, 64), mode="bilinear").sigmoid()
        classes = output.class_queries_logits.softmax(-1)[..., :3]
    sums = sum(classes[:, q, :, None, None] * masks[:, q, None] for q in range(5))
    torch.testing.assert_close(found.softmax(1), sums / sums.sum(1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert found.std() > 0


def test_names_and_normalisation_come_from_the_folder(tmp_path):
    save(tmp_path, "Segformer", num_labels=2, id2label={0: "ground", 1: "roof"})
    before = models.describe_model(tmp_path)
    prepared = {
        "do_normalize": True,
        "do_rescale": True,
        "image_mean": [0.5, 0.4, 0.2],
        "image_std": [0.1] * 3,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepared))
    spec = models.describe_model(tmp_path)
    assert [info.name for info in spec.classes] == ["ground", "roof"]
    assert spec.mean == pytest.approx((127.5, 102, 51))
    assert spec.std == pytest.approx((25.5,) * 3)
    assert spec.digest != before.digest
    assert models.load_model(tmp_path).spec == spec


def test_one_label_is_a_sigmoid(tmp_path):
    save(tmp_path, "Segformer", num_labels=1)
    spec = models.load_model(tmp_path).spec
    assert (spec.activation, spec.num_logits, len(spec.classes)) == ("sigmoid", 1, 2)


def test_eomt_takes_the_size_of_its_positions(tmp_path):
    save(tmp_path, "Eomt", stages=({"overlap_px": 16},))
    assert models.describe_model(tmp_path).stages[0].tile_px == 512
    (tmp_path / "hiresseg.json").unlink()
    with pytest.raises(ModelError, match="overlap_px"):
        models.describe_model(tmp_path)
    (tmp_path / "hiresseg.json").write_text('{"stages": [{"tile_px": 128, "overlap_px": 16}]}')
    with pytest.raises(ModelError, match="does not take tiles of shape"):
        models.load_model(tmp_path)


def test_what_could_fetch_or_run_something_is_not_looked_at(tmp_path):
    network = save(tmp_path, "UperNet")
    document = json.loads((tmp_path / "config.json").read_text())
    elsewhere = {
        "auto_map": {"AutoModel": "someone/else--code.Net"}, "attn_implementation": "someone/kernels",
        "_attn_implementation": "someone/kernels", "quantization_config": {"quant_method": "awq"},
        "use_pretrained_backbone": True, "backbone": "someone/else", "trust_remote_code": True,
    }  # fmt: skip
    edit(tmp_path, **elsewhere, backbone_config={**document["backbone_config"], **elsewhere})
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    (tmp_path / "code.py").write_text("raise AssertionError")
    images = torch.randn(1, 3, 64, 64)
    found = models.load_model(tmp_path).segmenters[0](images, None)
    torch.testing.assert_close(found, network(images).logits.detach())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["SegformerForImageClassification"]},
            r"architectures\[0\] must be one of Segformer",
        ),
        ({"architectures": []}, "architectures must be a list of 1 entries"),
        ({"depths": [10**8, 1, 1, 1]}, "depths must be a whole number from 0 to 256, got 100000000"),
        ({"hidden_sizes": [10**6] * 4}, r"describes a network of \d+ weights, .* has \d+"),
        ({"hidden_sizes": [8, 8, 8, 8]}, "do not fit|does not fit"),
        ({"num_channels": 4}, r"describes a network of \d+ weights"),
        ({"hidden_act": 3}, "does not take these settings .*hidden_act"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must name the classes from 0 up"),
        (
            {"id2label": {"0": "a", "1": "b", "2": "c", "3": "d"}},
            "does not fit|do not fit|describes a network",
        ),
    ],
)
def test_a_configuration_that_lies(tmp_path, changes, message):
    save(tmp_path, "Segformer")
    edit(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        models.load_model(tmp_path)


def test_a_backbone_that_is_not_in_the_table(tmp_path):
    save(tmp_path, "UperNet")
    edit(tmp_path, backbone_config={"model_type": "timm_backbone", "backbone": "resnet18"})
    with pytest.raises(
        ModelError, match=r"backbone_config\.model_type must be one of swin, convnext, resnet"
    ):
        models.load_model(tmp_path)


def test_weights_that_are_missing_or_unexpected_are_listed(tmp_path):
    save(tmp_path, "Segformer")
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state["surplus"] = state.pop("decode_head.classifier.bias")
    save_file(state, path, {"format": "pt"})
    with pytest.raises(
        ModelError, match=r"missing_keys: decode_head\.classifier\.bias; .*unexpected_keys: surplus"
    ):
        models.load_model(tmp_path)
    state["surplus"][0] = torch.nan
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ModelError, match="surplus holds NaN or infinity"):
        models.load_model(tmp_path)
