"""Networks of segmentation-models-pytorch: the same logits as there, and nothing fetched or unpickled."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

from hiresseg import models
from hiresseg.errors import ModelError
from hiresseg.models.networks import build_network
from hiresseg.models.smp import ARCHITECTURES

# the smallest encoder that the decoders take
TINY = {"encoder_name": "tu-lcnet_035", "encoder_weights": None}
RGB = ("red", "green", "blue")
ONE_STAGE = (models.StageSpec(0, 64, 16, 4),)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a test of model loading reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def spec(num_classes, *, stages=ONE_STAGE, bands=RGB):
    return models.ModelSpec(
        name="test",
        bands=bands,
        classes=tuple(models.ClassInfo(f"c{i}", (i, i, i)) for i in range(num_classes)),
        activation="softmax",
        mean=(0.0,) * len(bands),
        std=(1.0,) * len(bands),
        stages=stages,
    )


def build(name, **arguments):
    torch.manual_seed(0)
    network = getattr(smp, name)(**{"encoder_weights": None, **arguments})
    for key, value in network.named_buffers():
        # statistics that differ from their initial values, and so would be missed
        if key.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1)
    return network.eval()


SMALL_DECODERS = {
    "Unet": {"decoder_channels": [32, 24, 16, 16, 16], "decoder_attention_type": "scse"},
    "UnetPlusPlus": {"decoder_channels": [32, 24, 16, 8, 8]},
    "MAnet": {"decoder_channels": [32, 24, 16, 8, 8], "decoder_pab_channels": 8},
    "FPN": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "DeepLabV3": {"decoder_channels": 16},
    "DeepLabV3Plus": {"decoder_channels": 16, "encoder_output_stride": 8, "decoder_atrous_rates": [2, 4, 6]},
    "UPerNet": {"decoder_channels": 16},
    "Segformer": {"decoder_segmentation_channels": 16, "encoder_name": "mit_b0"},
    "PSPNet": {"psp_out_channels": 16},
    "DPT": {
        "encoder_name": "tu-vit_tiny_patch16_224.augreg_in21k",
        "dynamic_img_size": True,
        "decoder_intermediate_channels": [8, 8, 8, 8],
        "decoder_fusion_channels": 8,
    },
}


QUICK = ("Unet", "FPN", "DeepLabV3Plus")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in ARCHITECTURES if n not in QUICK)]
)
def test_an_architecture_comes_back_with_equal_logits(tmp_path, name):
    arguments = {**TINY, **SMALL_DECODERS.get(name, {}), "in_channels": 4, "classes": 3}
    network = build(name, **arguments)
    config = models.NetworkConfig("smp", name, arguments)
    four_bands = spec(3, stages=(models.StageSpec(0, 128, 16, 4),), bands=(*RGB, "infrared"))
    models.save_model(tmp_path, four_bands, [network], [config])
    images = torch.randn(2, 4, 128, 128)
    with torch.no_grad():
        expected = network(images)
        found = models.load_model(tmp_path).segmenters[0](images, None)
    assert expected.std() > 0
    assert torch.equal(found, expected)


# an encoder that reads numbers while it is built, a vision transformer, pooling in the decoder
@pytest.mark.parametrize("name", ["Segformer", "DPT", "PAN"])
def test_special_architectures_are_planned_without_memory(tmp_path, name):
    # planning comes before the weights are looked at, and so it has passed where they are what is refused
    write_without_weights(tmp_path, {"_model_class": name, **TINY, **SMALL_DECODERS.get(name, {})})
    with pytest.raises(ModelError, match=r"\d+ missing: decoder\."):
        models.load_model(tmp_path)


def test_pretrained_encoders_are_not_fetched(tmp_path):
    write_without_weights(
        tmp_path, {"_model_class": "FPN", "encoder_name": "resnet18", "encoder_weights": "imagenet"}
    )
    with pytest.raises(ModelError, match=r"\d+ missing: decoder\."):
        models.load_model(tmp_path)


def write_without_weights(folder, document):
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")


def test_the_table_is_complete():
    classes = {name for name in smp.__all__ if isinstance(getattr(smp, name), type)}
    assert classes == set(ARCHITECTURES)


def test_a_network_that_reads_the_prior_as_bands(tmp_path):
    stages = (models.StageSpec(1, 64, 16), models.StageSpec(0, 64, 16))
    arguments = [{**TINY, "in_channels": n, "classes": 2} for n in (3, 5)]
    configs = [models.NetworkConfig("smp", "Linknet", a) for a in arguments]
    networks = [build("Linknet", **a) for a in arguments]
    models.save_model(tmp_path, spec(2, stages=stages), networks, configs)
    segmenters = models.load_model(tmp_path).segmenters
    images, prior = torch.randn(1, 3, 64, 64), torch.rand(1, 2, 64, 64)
    with torch.no_grad():
        assert torch.equal(segmenters[0](images, None), networks[0](images))
        expected = networks[1](torch.cat([images, prior * 2 - 1], 1))
        assert torch.equal(segmenters[1](images, prior), expected)
    with pytest.raises(ValueError, match="pass a prior"):
        segmenters[1](images, None)


# ---- refusals


def refused(name, message, *, model=None, **arguments):
    """Save must refuse, by the same checks that loading passes through."""
    config = models.NetworkConfig("smp", name, {**TINY, "classes": 2, **arguments})
    network = torch.nn.Identity()
    with pytest.raises(ModelError, match=message):
        models.save_model("never written", model or spec(2), [network], [config])
    assert not Path("never written").exists()


@pytest.mark.parametrize("name", ["create_model", "SegFormer", "os", "Unet.__init__"])
def test_an_architecture_that_is_not_there(name):
    refused(name, rf"name must be one of Unet, .*, got '{name}'")


@pytest.mark.parametrize(
    "encoder",
    ["hf-hub:someone/something", "tu-hf-hub:someone/something", "tu-local-dir:/tmp", "../x", "", 5],
)
def test_an_encoder_name_that_would_be_fetched(encoder):
    refused("Unet", "encoder_name must be", encoder_name=encoder)


@pytest.mark.parametrize(
    "argument",
    ["checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "self"],
)
def test_arguments_that_timm_would_act_upon(argument):
    refused("Unet", f"unknown keys \\['{argument}'\\]", **{argument: "file.pth"})


def test_an_unknown_encoder():
    refused("Unet", "Unet cannot be built from .*no_such_net", encoder_name="no_such_net")


def test_an_activation_inside_the_network():
    refused("Unet", "activation must be null, got 'sigmoid'", activation="sigmoid")


def test_channels_that_contradict_the_model():
    refused("Unet", "gives 4 classes, but the model's 2 with softmax need 2", classes=4)
    refused("Unet", r"stages\[0\].network must have in_channels 3 \(the bands\), got 5", in_channels=5)
    two = spec(2, stages=(models.StageSpec(1, 64, 16), models.StageSpec(0, 64, 16)))
    configs = [models.NetworkConfig("smp", "Unet", {**TINY, "classes": 2, "in_channels": n}) for n in (3, 4)]
    networks = [build("Unet", **c.arguments) for c in configs]
    with pytest.raises(ModelError, match=r"in_channels 3 \(the bands\) or 5 \(bands and prior\), got 4"):
        models.save_model("never written", two, networks, configs)


def test_tiles_that_the_stride_does_not_divide():
    odd = spec(2, stages=(models.StageSpec(0, 80, 16),))
    refused("FPN", r"stages\[0\] does not take tiles of shape \(1, 3, 80, 80\).*divisible by 32", model=odd)


def test_logits_of_another_size():
    refused(
        "FPN", r"gives logits of shape \(1, 2, 32, 32\), classes and tile need \(1, 2, 64, 64\)", upsampling=2
    )


# ---- save_pretrained folders


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "binary"
    build("DeepLabV3Plus", **TINY, decoder_channels=16, aux_params={"classes": 2}).save_pretrained(folder)
    return folder


def test_a_save_pretrained_folder_loads(binary):
    model = models.load_model(binary)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        masks, _ = smp.from_pretrained(binary).eval()(images)
        assert torch.equal(model.segmenters[0](images, None), masks)
    assert [c.name for c in model.spec.classes] == ["background", "foreground"]
    assert (model.spec.activation, model.spec.name) == ("sigmoid", "binary")
    assert model.spec.mean == pytest.approx((123.675, 116.28, 103.53))
    assert model.spec.std == pytest.approx((58.395, 57.12, 57.375))
    assert model.spec.stages == (models.StageSpec(0, 512, 64, 8),)
    assert models.describe_model(binary) == model.spec


@pytest.mark.parametrize(
    ("document", "activation", "classes"),
    [
        ({"classes": 3}, "softmax", ["class_0", "class_1", "class_2"]),
        ({"classes": 2, "activation": "sigmoid"}, "sigmoid", ["background", "class_0", "class_1"]),
        ({"classes": 2, "activation": "softmax2d", "in_channels": 2}, "softmax", ["class_0", "class_1"]),
        ({}, "sigmoid", ["background", "foreground"]),
    ],
)
def test_what_smp_leaves_open_has_defaults(tmp_path, document, activation, classes):
    (tmp_path / "config.json").write_text(json.dumps({"_model_class": "Unet", **document}))
    (tmp_path / "model.safetensors").touch()
    found = models.describe_model(tmp_path)
    assert found.activation == activation
    assert [c.name for c in found.classes] == classes
    assert len({c.color for c in found.classes}) == len(classes)
    assert len(found.bands) == len(found.mean) == document.get("in_channels", 3)


@pytest.mark.parametrize(
    ("name", "former"), [("Unet", "decoder_use_batchnorm"), ("PSPNet", "psp_use_batchnorm")]
)
def test_folders_of_older_versions_load(tmp_path, name, former):
    network = build(name, **TINY)
    network.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    document[former] = document.pop("decoder_use_norm")
    (tmp_path / "config.json").write_text(json.dumps(document))
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(models.load_model(tmp_path).segmenters[0](images, None), network(images))


def write_overrides(tmp_path, binary, overrides):
    for file in binary.iterdir():
        (tmp_path / file.name).symlink_to(file)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes((binary / name).read_bytes())
    (tmp_path / "hiresseg.json").write_text(json.dumps(overrides))


def test_hiresseg_json_overrides_them(binary, tmp_path):
    classes = [{"name": "ground", "color": [1, 2, 3]}, {"name": "roof", "color": [4, 5, 6]}]
    overrides = {"classes": classes, "licence": "MIT", "std": [1, 2, 3], "stages": [{"tile_px": 256}]}
    write_overrides(tmp_path, binary, overrides)
    found = models.load_model(tmp_path).spec
    assert found.classes == (models.ClassInfo("ground", (1, 2, 3)), models.ClassInfo("roof", (4, 5, 6)))
    assert (found.licence, found.std) == ("MIT", (1.0, 2.0, 3.0))
    assert found.stages == (models.StageSpec(0, 256, 64, 8),)
    before = found.digest
    (tmp_path / "hiresseg.json").write_text(json.dumps({**overrides, "licence": "BSD"}))
    assert models.describe_model(tmp_path).digest != before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epochs": 3}, r"hiresseg\.json has unknown keys \['epochs'\]"),
        ({"stages": []}, "stages must be a list of 1 entries"),
        ({"stages": [{"network": {"library": "smp", "name": "FPN"}}]}, r"unknown keys \['network'\]"),
        ({"stages": [{"level": 1}]}, "last stage must work at level 0"),
        ({"classes": [{"name": n, "color": [0, 0, 0]} for n in "abc"]}, "gives 1 classes"),
        ([], "must hold a JSON object"),
    ],
)
def test_overrides_are_checked(binary, tmp_path, overrides, message):
    write_overrides(tmp_path, binary, overrides)
    with pytest.raises(ModelError, match=message):
        models.load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_model_class": "from_pretrained"}, "_model_class must be one of"),
        ({"_model_class": None}, "_model_class must be one of"),
        ({"classes": 300}, "classes must be a whole number from 1 to 254, got 300"),
        ({"in_channels": "3"}, "in_channels must be a whole number"),
        ({"activation": "tanh"}, "activation must be one of sigmoid, softmax"),
        ({"encoder_name": "tu-hf-hub:a/b"}, "encoder_name must be the plain name"),
        ({"checkpoint_path": "x.pth"}, "unknown keys"),
        ({"decoder_channels": 10**6}, "of another shape"),
    ],
)
def test_a_configuration_of_smp_is_checked_too(binary, tmp_path, changes, message):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((binary / name).read_bytes())
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**document, **changes}))
    with pytest.raises(ModelError, match=message):
        models.load_model(tmp_path)


def test_a_built_network_is_frozen_and_in_eval_mode():
    network = build_network(models.NetworkConfig("smp", "Unet", TINY))
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())
