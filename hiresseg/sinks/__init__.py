"""Where answers go: a georeferenced GeoTIFF, and a picture."""

from hiresseg.sinks.cog import CogReport, write_cog
from hiresseg.sinks.levels import ChunkSource
from hiresseg.sinks.meaning import FILL, ClassMeaning, Meaning, NamedColor, ScaledMeaning
from hiresseg.sinks.preview import write_preview

__all__ = [
    "FILL",
    "ChunkSource",
    "ClassMeaning",
    "CogReport",
    "Meaning",
    "NamedColor",
    "ScaledMeaning",
    "write_cog",
    "write_preview",
]
