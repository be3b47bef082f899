"""What a raster's header says, and what is refused because of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving
from rasterio.errors import CRSError
from rasterio.io import DatasetReader

from hiresseg.errors import SceneError
from hiresseg.geometry import Gcp, Georef
from hiresseg.scenes.directories import is_index_cut_off, read_place_tags, reduced_mask_shapes
from hiresseg.scenes.handles import Handles
from hiresseg.scenes.validity import ValidityRule

MAX_BLOCK_BYTES = 256 << 20
"""What one block of a file may decode to: a header announces any size, and one pixel read allocates it."""

MAX_BANDS = 4096
"""What a file may hold: each band costs GDAL memory, and a header can announce 65535."""

_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_NAMED_BANDS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """One resolution at which a file holds its pixels."""

    level: int
    """Pyramid level that it is."""
    overview: int | None
    """Number of the overview; None for full resolution."""
    height: int
    width: int
    block: tuple[int, int]
    """Rows and columns that decode at once."""


@dataclass(frozen=True, slots=True)
class Header:
    """All that is known of a raster without decoding a pixel."""

    bands: tuple[int, ...]
    """Indices of the bands that are read, from 1."""
    band_names: tuple[str, ...]
    dtype: np.dtype
    georef: Georef
    rule: ValidityRule
    is_planar: bool
    """Whether each band has blocks of its own."""
    stored: tuple[Stored, ...]
    """Fine to coarse; the first is full resolution."""


def read_header(path: Path, handles: Handles, bands: Sequence[int] | None) -> Header:
    """The header of `path`, checked.

    Raises:
        SceneError: if the file holds what hiresseg does not read, or announces what it cannot hold.
    """
    with handles.lend() as dataset:
        if dataset.tags(ns="OVERVIEWS"):
            raise SceneError(f"{path}: its overviews point to another file; rebuild them with `gdaladdo`")
        _refuse_sizes(path, dataset)
        chosen = _choose_bands(path, dataset, bands)
        _refuse_samples(path, dataset, chosen)
        rule = ValidityRule.of(dataset, chosen)
        return Header(
            bands=chosen,
            band_names=_names_of(dataset, chosen),
            dtype=np.dtype(dataset.dtypes[chosen[0] - 1]),
            georef=_georef_of(path, dataset),
            rule=rule,
            is_planar=_is_planar(dataset),
            stored=(_full(dataset), *_overviews(path, dataset, handles, rule)),
        )


def _choose_bands(path: Path, dataset: DatasetReader, bands: Sequence[int] | None) -> tuple[int, ...]:
    if bands is None:
        kinds = dataset.colorinterp
        chosen = tuple(i for i in dataset.indexes if kinds[i - 1] != ColorInterp.alpha)
        if not chosen:
            raise SceneError(f"{path}: has no band but alpha; name the bands to read")
        return chosen
    chosen = tuple(int(i) for i in bands)
    if not chosen or any(i not in dataset.indexes for i in chosen):
        raise SceneError(
            f"{path}: has bands 1 to {dataset.count}, asked for {list(bands)}; name some of these"
        )
    return chosen


def _refuse_samples(path: Path, dataset: DatasetReader, bands: tuple[int, ...]) -> None:
    dtypes, kinds = dataset.dtypes, dataset.colorinterp
    for i in bands:
        if dtypes[i - 1] not in _DTYPES:
            raise SceneError(
                f"{path}: band {i} has samples of type {dtypes[i - 1]}; "
                f"convert it to one of {', '.join(_DTYPES)}, for example with `gdal_translate -ot Float32`"
            )
        if kinds[i - 1] == ColorInterp.palette:
            raise SceneError(
                f"{path}: band {i} holds indices of a palette; expand it with `gdal_translate -expand rgb`"
            )


def _refuse_sizes(path: Path, dataset: DatasetReader) -> None:
    if dataset.count > MAX_BANDS:
        raise SceneError(
            f"{path}: announces {dataset.count} bands, more than the {MAX_BANDS} allowed; split it"
        )
    _refuse_block(path, dataset)
    if is_index_cut_off(path):
        raise SceneError(
            f"{path}: announces {dataset.height} x {dataset.width} pixels, but its {path.stat().st_size} "
            "bytes end before the list of its blocks does; the file is truncated or forged: copy it again"
        )


def _refuse_block(path: Path, dataset: DatasetReader) -> None:
    rows, cols = dataset.block_shapes[0]
    per_pixel = sum(np.dtype(name).itemsize for name in dataset.dtypes if name in _DTYPES)
    block_bytes = rows * cols * (per_pixel // dataset.count if _is_planar(dataset) else per_pixel)
    if block_bytes > MAX_BLOCK_BYTES:
        raise SceneError(
            f"{path}: a block of {rows} x {cols} pixels decodes to {block_bytes >> 20} MiB, more than the "
            f"{MAX_BLOCK_BYTES >> 20} MiB allowed; rewrite it with `gdal_translate -of COG`"
        )


def _is_planar(dataset: DatasetReader) -> bool:
    return bool(dataset.count > 1 and dataset.interleaving == Interleaving.band)


def _full(dataset: DatasetReader) -> Stored:
    return Stored(0, None, dataset.height, dataset.width, tuple(dataset.block_shapes[0]))


def _overviews(path: Path, full: DatasetReader, handles: Handles, rule: ValidityRule) -> list[Stored]:
    """Those overviews whose grid is that of a level, and which say what is valid as full resolution does."""
    found: dict[int, Stored] = {}
    masked = reduced_mask_shapes(path) if rule.mask_bands else set()
    for number, factor in enumerate(full.overviews(1)):
        with handles.lend(number) as dataset:
            _refuse_block(path, dataset)
            level = _level_of(dataset.shape, full.shape)
            if level is None or (rule.mask_bands and dataset.shape not in masked):
                _log.info(
                    "%s: overview 1:%d is not used: its grid is another, or it lacks the mask", path, factor
                )
                continue
            block = tuple(dataset.block_shapes[0])
            found.setdefault(level, Stored(level, number, dataset.height, dataset.width, block))
    return [found[level] for level in sorted(found)]


def _level_of(shape: tuple[int, int], full: tuple[int, int]) -> int | None:
    levels = range(1, max(full).bit_length() + 1)
    return next((n for n in levels if shape == (-(-full[0] >> n), -(-full[1] >> n))), None)


def _names_of(dataset: DatasetReader, bands: tuple[int, ...]) -> tuple[str, ...]:
    kinds = (kind.name if kind in _NAMED_BANDS else None for kind in dataset.colorinterp)
    names = [given or kind for given, kind in zip(dataset.descriptions, kinds, strict=True)]
    return tuple(names[i - 1] or f"band_{i}" for i in bands)


def _georef_of(path: Path, dataset: DatasetReader) -> Georef:
    _refuse_place(path, dataset)
    points, points_crs = dataset.gcps
    crs = dataset.crs or points_crs
    return Georef(
        crs_wkt=_wkt_of(crs) if crs else None,
        transform=None if dataset.transform.is_identity else dataset.transform,
        gcps=tuple(Gcp(p.row, p.col, p.x, p.y, p.z or 0.0, p.id or "", p.info or "") for p in points),
        is_point=dataset.tags().get("AREA_OR_POINT") == "Point",
        metre_per_unit=_metre_per_unit(crs) if crs else None,
        tags=read_place_tags(path),
    )


def _refuse_place(path: Path, dataset: DatasetReader) -> None:
    """No mask could say such a place, which would only show when all is computed."""
    transform = tuple(dataset.transform)[:6]
    if not all(map(math.isfinite, transform)):
        raise SceneError(
            f"{path}: its transform {transform} is not finite; give it another with `gdal_edit.py -a_ullr`, "
            "or remove it with `gdal_edit.py -unsetgt`"
        )
    for point in dataset.gcps[0]:
        if not all(map(math.isfinite, (point.row, point.col, point.x, point.y, point.z or 0.0))):
            raise SceneError(f"{path}: {point} is not finite; give it other points with `gdal_edit.py -gcp`")


def _wkt_of(crs: CRS) -> str:
    return str(crs.to_wkt())


def _metre_per_unit(crs: CRS) -> float | None:
    try:
        return float(crs.linear_units_factor[1])
    except CRSError:
        # degrees
        return None
