"""Fakes and contracts for the tests of a new scene, model or sink.

A new model sub-classes `SegmenterContract` in its tests, and a new scene `SceneContract`. `segment_whole` is
the definition of a stage, in float64 and over whole arrays.
"""

from __future__ import annotations

from hiresseg.testing.scene_contract import SceneContract
from hiresseg.testing.scenes import ArrayScene
from hiresseg.testing.segmenters import FakeSegmenter, SegmenterContract, constant, convolution, make_model
from hiresseg.testing.whole import decide, segment_whole

__all__ = [
    "ArrayScene",
    "FakeSegmenter",
    "SceneContract",
    "SegmenterContract",
    "constant",
    "convolution",
    "decide",
    "make_model",
    "segment_whole",
]
