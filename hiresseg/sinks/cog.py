"""One GeoTIFF, laid out for the cloud, from the chunks of a finished run, in bounded memory."""

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from hiresseg.durable import replacing
from hiresseg.geometry import Georef
from hiresseg.sinks.geotags import GeoTags, describe_raster
from hiresseg.sinks.levels import ChunkSource, Level, fill_levels
from hiresseg.sinks.meaning import Meaning
from hiresseg.sinks.pyramid import plan_levels
from hiresseg.sinks.tiff import TiledLevel, needs_bigtiff, pack_head, plan_offsets
from hiresseg.sinks.verify import ExpectedLevel, digest_pixels, verify_cog

# TIFF's number for zlib streams; every reader has it
_DEFLATE: Final = 8
_COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CogReport:
    """What was written."""

    path: Path
    file_bytes: int
    num_levels: int
    """The full size and its overviews."""
    num_tiles: int
    """Tiles of all levels."""
    num_empty_tiles: int
    """Those without an answer, which take no space."""
    is_bigtiff: bool
    digest: int
    """CRC-32C over the CRC-32C (little-endian) of the pixels of each full-size tile, in reading order."""
    losses: tuple[str, ...]
    """What GeoTIFF could not say of the georeference, in words."""


def write_cog(
    path: Path | str,
    source: ChunkSource,
    georef: Georef,
    *,
    meaning: Meaning,
    num_threads: int = 1,
) -> CogReport:
    """Write a cloud-optimised GeoTIFF with overviews, and read it back before it gets its name.

    Memory is at most that of about two rows of chunks and does not grow with the scene's height; compressed
    tiles wait in temporary files in the folder of `path`. The same input gives the same bytes, whatever
    `num_threads`.

    Args:
        path: the final name; a file of that name is replaced at the very end.
        source: the pixels. Its chunks become the file's tiles, compressed as they are.
        georef: where the pixels lie; may be empty.
        meaning: classes and colours, or a scale.
        num_threads: threads for compressing and for reading back.

    Raises:
        StoreError: if the file cannot be written, or does not read back as it was written.
        ValueError: if the source's chunks are no TIFF tiles.
    """
    path = Path(path)
    tile_px = source.chunk_px
    if tile_px < 16 or tile_px % 16:
        raise ValueError(f"chunk_px is the edge of a TIFF tile and must be a multiple of 16, got {tile_px}")
    tags = describe_raster(georef, meaning)
    with replacing(path) as partial_path, ExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(num_threads))
        levels = [
            Level(
                height,
                width,
                tile_px,
                stack.enter_context(tempfile.TemporaryFile(dir=path.parent)),
                is_overview=index > 0,
            )
            for index, (height, width) in enumerate(plan_levels(*source.shape, tile_px))
        ]
        fill_levels(levels, source, meaning, executor)
        is_bigtiff = _assemble(partial_path, levels, tags)
        expected = [ExpectedLevel(level.height, level.width, level.digests) for level in levels]
        verify_cog(
            partial_path, expected, tile_px=tile_px, readback=tags.readback, executor=executor, name=path
        )
        file_bytes = partial_path.stat().st_size
    return CogReport(
        path=path,
        file_bytes=file_bytes,
        num_levels=len(levels),
        num_tiles=sum(level.counts.size for level in levels),
        num_empty_tiles=sum(int(np.count_nonzero(level.counts == 0)) for level in levels),
        is_bigtiff=is_bigtiff,
        digest=digest_pixels(levels[0].digests.astype("<u4")),
        losses=tags.losses,
    )


def _assemble(path: Path, levels: Sequence[Level], tags: GeoTags) -> bool:
    """Write head and parts; whether it became a BigTIFF."""
    tiled = [
        TiledLevel(level.height, level.width, level.counts.ravel(), tags.overview if index else tags.full)
        for index, level in enumerate(levels)
    ]
    tile_px = levels[0].tile_px
    is_big = needs_bigtiff(tiled, tile_px=tile_px, compression=_DEFLATE)
    pack = partial(pack_head, tiled, tile_px=tile_px, compression=_DEFLATE, is_big=is_big)
    offsets = plan_offsets(tiled, len(pack(offsets=None)))
    with path.open("wb") as file:
        file.write(pack(offsets=offsets))
        for level in reversed(levels):
            level.parts.seek(0)
            shutil.copyfileobj(level.parts, file, _COPY_BYTES)
    return is_big
