from __future__ import annotations

import pytest
import torch

from hiresseg.errors import RecipeError
from hiresseg.models import ClassInfo, ModelSpec, NetworkConfig, StageSpec, save_model
from hiresseg.models.config import ModelConfig
from hiresseg.training.start import begin_network


def config_of(classes, *, library="hiresseg", name="FCN", **arguments):
    spec = ModelSpec(
        "toy", ("red", "green", "blue"), tuple(ClassInfo(f"c{i}", (0, 0, i)) for i in range(classes)),
        "softmax", (0.0,) * 3, (1.0,) * 3, (StageSpec(0, 64, 16),),
    )  # fmt: skip
    network = NetworkConfig(library, name, {"in_channels": 3, "classes": classes, **arguments})
    return ModelConfig(spec, (network,), ("0.",))


def test_a_network_begins_random_and_trainable():
    lines = []
    torch.manual_seed(0)
    network = begin_network(config_of(2, widths=[4, 6]), "none", lines.append)
    assert network.training
    assert all(weight.requires_grad for weight in network.parameters())
    assert "random weights" in lines[0]


def test_weights_of_another_model_are_taken_where_they_fit(tmp_path):
    before = config_of(2, widths=[4, 6])
    known = begin_network(before, "none", print)
    save_model(tmp_path / "known", before.spec, [known], before.networks)
    lines = []
    network = begin_network(config_of(3, widths=[4, 6]), str(tmp_path / "known"), lines.append)
    own, theirs = network.state_dict(), known.state_dict()
    assert torch.equal(own["down.0.0.weight"], theirs["down.0.0.weight"])
    assert own["head.weight"].shape != theirs["head.weight"].shape
    assert f"begins with {len(own) - 2} of {len(own)}" in lines[0]


def test_weights_that_cannot_be_had_are_refused(tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="only encoders of smp"):
        begin_network(config_of(2, widths=[4]), "imagenet", print)
    with pytest.raises(RecipeError, match=r"neither a folder|must be"):
        begin_network(config_of(2, widths=[4]), str(tmp_path / "none"), print)
    other = config_of(2, widths=[5])
    save_model(tmp_path / "other", other.spec, [begin_network(other, "none", print)], other.networks)
    mine = config_of(4, library="smp", name="Unet", encoder_name="resnet18", decoder_channels=[8, 8, 8, 8, 8])
    with pytest.raises(RecipeError, match="no weight that fits"):
        begin_network(mine, str(tmp_path / "other"), print)


def test_an_encoder_that_saw_imagenet_is_asked_of_smp(monkeypatch):
    from segmentation_models_pytorch import encoders

    real = encoders.get_encoder
    asked = []

    def get_encoder(name, *, in_channels, weights):
        asked.append((name, in_channels, weights))
        encoder = real(name, in_channels=in_channels, weights=None)
        torch.nn.init.constant_(encoder.conv1.weight, 0.5)
        return encoder

    monkeypatch.setattr(encoders, "get_encoder", get_encoder)
    config = config_of(2, library="smp", name="FPN", encoder_name="resnet18")
    network = begin_network(config, "imagenet", lambda _: None)
    assert asked == [("resnet18", 3, "imagenet")]
    assert (network.encoder.conv1.weight == 0.5).all()

    def fails(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(encoders, "get_encoder", fails)
    with pytest.raises(RecipeError, match="no route to host"):
        begin_network(config, "imagenet", print)
