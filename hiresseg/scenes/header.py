"""What a raster's header says, and what is refused because of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.io import DatasetReader

from hiresseg.errors import SceneError
from hiresseg.geometry import Gcp, Georef
from hiresseg.scenes.directories import read_place_tags, reduced_mask_shapes
from hiresseg.scenes.files import SEQUENTIAL
from hiresseg.scenes.handles import Handles
from hiresseg.scenes.orientation import Orientation
from hiresseg.scenes.palette import BAND_NAMES, Palette
from hiresseg.scenes.refusals import is_planar, refuse_block, refuse_samples, refuse_sizes
from hiresseg.scenes.spool import cell_of
from hiresseg.scenes.validity import ValidityRule

VRT_BLOCK_PX = 512
"""What is read of a VRT at a time: it has no blocks of its own."""

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
    """Of what a read returns: a palette's single band becomes three."""
    dtype: np.dtype
    """Of what a read returns."""
    has_gaps: bool
    georef: Georef
    rule: ValidityRule
    is_planar: bool
    """Whether each band has blocks of its own."""
    palette: Palette | None
    orientation: Orientation
    """How the file's pixels are turned before anyone sees them."""
    stored: tuple[Stored, ...]
    """Fine to coarse, turned; the first is full resolution."""

    def as_stored(self) -> Header:
        """The same file read for its numbers: no palette, and every pixel counts."""
        plain = replace(self, rule=ValidityRule((), None, (None,) * len(self.bands)), has_gaps=False)
        if self.palette is None:
            return plain
        samples = np.dtype(np.uint8 if len(self.palette.colors) == 256 else np.uint16)
        return replace(plain, palette=None, dtype=samples, band_names=(f"band_{self.bands[0]}",))


def read_header(path: Path, handles: Handles, bands: Sequence[int] | None) -> Header:
    """The header of `path`, checked.

    Raises:
        SceneError: if the file holds what hiresseg does not read, or announces what it cannot hold.
    """
    with handles.lend() as dataset:
        refuse_sizes(path, handles.driver, dataset)
        chosen = _choose_bands(path, dataset, bands)
        refuse_samples(path, dataset, chosen)
        _say_unapplied(path, dataset, chosen)
        rule = ValidityRule.of(dataset, chosen)
        is_palette = dataset.colorinterp[chosen[0] - 1] == ColorInterp.palette
        palette = Palette.of(dataset, chosen[0]) if is_palette else None
        samples = np.dtype(dataset.dtypes[chosen[0] - 1])
        orientation = Orientation.of_exif(dataset.tags().get("EXIF_Orientation"))
        names = BAND_NAMES if palette else _names_of(dataset, chosen)
        dtype = _dtype_read(samples, palette)
        full = _full(dataset, handles.driver, orientation, len(names) * dtype.itemsize)
        # those that a JPEG or a VRT seems to have are made as they are read
        has_overviews = handles.driver in {"GTiff", "JP2OpenJPEG"} or Path(f"{path}.ovr").is_file()
        can_use = has_overviews and orientation.is_upright and handles.driver != "VRT"
        return Header(
            bands=chosen,
            band_names=names,
            dtype=dtype,
            has_gaps=rule.can_exclude(samples) or (palette is not None and palette.has_transparent),
            georef=orientation.turn_georef(_georef_of(path, dataset), (full.height, full.width)),
            rule=rule,
            is_planar=is_planar(dataset),
            palette=palette,
            orientation=orientation,
            stored=(full, *(_overviews(path, dataset, handles, rule) if can_use else ())),
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


def _say_unapplied(path: Path, dataset: DatasetReader, bands: tuple[int, ...]) -> None:
    if any(dataset.scales[i - 1] != 1 or dataset.offsets[i - 1] != 0 for i in bands):
        _log.warning(
            "%s: has scale %s and offset %s, which are not applied: models are fed the numbers as stored, "
            "and the normalisation that comes with a model must be for these",
            path,
            dataset.scales[bands[0] - 1],
            dataset.offsets[bands[0] - 1],
        )


def _dtype_read(samples: np.dtype, palette: Palette | None) -> np.dtype:
    if palette:
        return np.dtype(np.uint8)
    # sums of such integers would run over; beyond 2**53 the last digits go
    if samples == np.float16:
        # what older versions of GDAL make of it themselves
        return np.dtype(np.float32)
    return np.dtype(np.float64) if samples.kind in "iu" and samples.itemsize == 8 else samples


def _full(dataset: DatasetReader, driver: str, orientation: Orientation, pixel_bytes: int) -> Stored:
    size = dataset.height, dataset.width
    if driver in SEQUENTIAL:
        block = cell_of(size, pixel_bytes)
    elif driver == "VRT":
        block = min(VRT_BLOCK_PX, size[0]), min(VRT_BLOCK_PX, size[1])
    else:
        block = tuple(dataset.block_shapes[0])
    return Stored(0, None, *orientation.turn_size(size), orientation.turn_size(block))


def _overviews(path: Path, full: DatasetReader, handles: Handles, rule: ValidityRule) -> list[Stored]:
    """Those overviews whose grid is that of a level, and which say what is valid as full resolution does."""
    found: dict[int, Stored] = {}
    masked = reduced_mask_shapes(path) if rule.mask_bands else set()
    for number, factor in enumerate(full.overviews(1)):
        with handles.lend(number) as dataset:
            refuse_block(path, dataset)
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
