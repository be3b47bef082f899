"""What each package exports is what it says it exports."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

import hiresseg

PACKAGES = [
    "hiresseg",
    "hiresseg.models",
    "hiresseg.scenes",
    "hiresseg.sinks",
    "hiresseg.testing",
    "hiresseg_kernels",
]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_promised_name_is_there(name):
    package = import_module(name)
    assert package.__doc__
    assert len(set(package.__all__)) == len(package.__all__)
    for promised in package.__all__:
        assert not promised.startswith("_")
        found = getattr(package, promised)
        assert not inspect.ismodule(found)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert inspect.getdoc(found), f"{name}.{promised} says nothing about itself"


def test_the_library_in_seven_names():
    assert set(hiresseg.__all__) == {
        "Model", "ModelSpec", "Scene", "Window", "load_model", "open_scene", "stream",
    }  # fmt: skip


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="'hiresseg' has no attribute 'segment'"):
        _ = hiresseg.segment


def test_each_name_lives_where_its_home_says():
    for name in hiresseg.__all__:
        assert getattr(hiresseg, name) is getattr(import_module(hiresseg._HOMES[name]), name)
    assert set(hiresseg._HOMES) == set(hiresseg.__all__)


def test_stream_takes_two_things_by_place_and_the_rest_by_name():
    kinds = {
        name: parameter.kind for name, parameter in inspect.signature(hiresseg.stream).parameters.items()
    }
    by_place = [name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert by_place == ["scene", "model"]
    assert {"confidence", "probabilities", "normalize", "setting", "tta", "block_px"} == set(kinds) - set(
        by_place
    )
