"""Figures of merit whose parts add up: over windows, over images, in any order.

Each is a small value with `add` for a window and `merge` for another part of the same; none ever holds an
array of the scene's size. Integers are counted and divided once, at the end, so that the order cannot show.
"""

from __future__ import annotations

from hiresseg.metrics.boundary import BandAccuracy, BoundaryIou, boundary_distance_px, published_radii
from hiresseg.metrics.comparison import Comparison, ErrorMap, LabelSource, MetricSpec
from hiresseg.metrics.confusion import Confusion
from hiresseg.metrics.counts import count_labels
from hiresseg.metrics.nearest import BEYOND, distance_to_other
from hiresseg.metrics.panoptic import PanopticCounts, PanopticScore, Segment, decode_ids
from hiresseg.metrics.seam import SeamCounts

__all__ = [
    "BEYOND",
    "BandAccuracy",
    "BoundaryIou",
    "Comparison",
    "Confusion",
    "ErrorMap",
    "LabelSource",
    "MetricSpec",
    "PanopticCounts",
    "PanopticScore",
    "SeamCounts",
    "Segment",
    "boundary_distance_px",
    "count_labels",
    "decode_ids",
    "distance_to_other",
    "published_radii",
]
