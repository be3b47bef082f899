"""Segment images that do not fit in memory.

`open_scene` opens an image of any size, `load_model` a model, and `stream` gives the finished windows of the
one segmented by the other. The `hiresseg` command runs the same engine and writes files.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hiresseg.geometry import Window
    from hiresseg.models import Model, ModelSpec, load_model
    from hiresseg.scenes import Scene, open_scene
    from hiresseg.stages import stream

__all__ = ["Model", "ModelSpec", "Scene", "Window", "load_model", "open_scene", "stream"]

# imported when first used, so that `import hiresseg` and `hiresseg --help` load no torch
_HOMES = {
    "Model": "hiresseg.models",
    "ModelSpec": "hiresseg.models",
    "Scene": "hiresseg.scenes",
    "Window": "hiresseg.geometry",
    "load_model": "hiresseg.models",
    "open_scene": "hiresseg.scenes",
    "stream": "hiresseg.stages",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hiresseg' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
