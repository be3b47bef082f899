"""A model that Python code builds: only what was typed is imported, and what it gives is checked."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from hiresseg import models
from hiresseg.errors import ModelError

MODULE = """
import torch
from hiresseg import models

CONFIG = {
    "bands": ("red", "green", "blue"),
    "classes": [{"name": "ground", "color": [0, 0, 0]}, {"name": "roof", "color": [230, 60, 40]}],
    "activation": "softmax", "mean": [100, 110, 120], "std": [50, 51, 52],
    "stages": [{"tile_px": 64, "overlap_px": 16, "trim_px": 0}],
}
SPEC = models.ModelSpec(
    "mine", ("grey",), tuple(models.ClassInfo(n, (0, 0, 0)) for n in "ab"), "sigmoid", (0.0,), (1.0,),
    (models.StageSpec(0, 64, 16),),
)


def pair(classes=2):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, classes, 1), torch.nn.Dropout(0.5)), CONFIG


def model():
    return models.Model(SPEC, (lambda images, prior: images - 1,))


def wrong_logits():
    return pair(3)


def wrong_key():
    return pair()[0], {**CONFIG, "epochs": 3}


def no_json():
    return pair()[0], {**CONFIG, "mean": {1, 2, 3}}


def no_network():
    return models.Model(SPEC, ())


def wrong_spec():
    from dataclasses import replace
    return models.Model(replace(SPEC, std=(0.0,)), model().segmenters)


def nothing():
    return None


def fails():
    return 1 / 0


NUMBER = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_model.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "own_model", raising=False)
    yield tmp_path
    sys.modules.pop("own_model", None)


@pytest.mark.usefixtures("own")
def test_a_network_and_its_configuration():
    before = list(sys.path)
    model = models.load_model("own_model:pair")
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    torch.manual_seed(0)
    expected = torch.nn.Conv2d(3, 2, 1)(images)
    torch.testing.assert_close(model.segmenters[0](images, None), expected.detach())
    assert model.spec.name == "own_model"
    assert model.spec.stages == (models.StageSpec(0, 64, 16, 0),)
    assert models.describe_model("own_model:pair") == model.spec
    assert sys.path == before


@pytest.mark.usefixtures("own")
def test_a_model_is_taken_as_it_is():
    model = models.load_model("own_model:model")
    images = torch.randn(2, 1, 64, 64)
    assert torch.equal(model.segmenters[0](images, None), images - 1)
    assert model.spec.name == "mine"


def test_the_digest_sees_code_and_weights(own):
    def digest():
        sys.modules.pop("own_model", None)
        return models.load_model("own_model:pair").spec.digest

    first = digest()
    assert digest() == first
    (own / "own_model.py").write_text(MODULE + "\n# more code\n")
    second = digest()
    (own / "own_model.py").write_text(MODULE.replace("manual_seed(0)", "manual_seed(1)"))
    assert len({first, second, digest()}) == 3


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_modle:pair", "there is no module own_modle, neither installed nor in"),
        ("own_model.sub:pair", "there is no module own_model"),
        ("own_model:build", "own_model has no function build"),
        ("own_model:NUMBER", "has no function NUMBER"),
        ("own_model:nothing", "gives NoneType; it must give a hiresseg.Model, or"),
        (
            "own_model:wrong_logits",
            r"logits of shape \(1, 3, 64, 64\), classes and tile need \(1, 2, 64, 64\)",
        ),
        ("own_model:wrong_key", "unknown keys.*epochs"),
        ("own_model:no_json", "is no plain JSON"),
        ("own_model:no_network", "0 networks for 1 stages"),
        ("own_model:wrong_spec", "std must be positive"),
    ],
)
def test_what_is_no_model_is_refused(name, message):
    with pytest.raises(ModelError, match=message):
        models.load_model(name)


@pytest.mark.usefixtures("own")
def test_what_the_code_raises_is_shown_as_it_is():
    with pytest.raises(ZeroDivisionError):
        models.load_model("own_model:fails")


def test_another_module_that_is_missing_is_the_codes_own_matter(own):
    (own / "own_model.py").write_text("import a_module_that_is_not_there")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        models.load_model("own_model:pair")


def test_what_is_installed_comes_before_the_current_folder(own):
    (own / "json").mkdir()
    (own / "json" / "__init__.py").write_text("raise AssertionError('hidden')")
    with pytest.raises(ModelError, match="has no function build"):
        models.load_model("json:build")


def test_a_file_cannot_name_a_function(own):
    stage = {"level": 0, "tile_px": 64, "overlap_px": 16}
    entries = {
        "format": "hiresseg-model", "version": 1, "name": "x", "bands": ["red"], "activation": "sigmoid",
        "classes": [{"name": n, "color": [0, 0, 0]} for n in "ab"], "mean": [0], "std": [1],
    }  # fmt: skip
    for network in ({"library": "python", "name": "own_model:pair"}, "own_model:pair"):
        entries["stages"] = [{**stage, "network": network}]
        (own / "config.json").write_text(json.dumps(entries))
        with pytest.raises(ModelError, match=r"network(\.library must be one of| must be a JSON object)"):
            models.load_model(own)
    for library in ("hiresseg", "smp"):
        entries["stages"] = [{**stage, "network": {"library": library, "name": "own_model:pair"}}]
        (own / "config.json").write_text(json.dumps(entries))
        with pytest.raises(ModelError, match="must be one of"):
            models.load_model(own)
    assert "own_model" not in sys.modules


def test_the_command_takes_it(own):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hiresseg_pipelines.cli", "models", "own_model:model"],
        capture_output=True, text=True, check=False, cwd=own,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mine\n")
