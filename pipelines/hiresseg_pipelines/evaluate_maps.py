"""Maps of classes in raster files: opened, aligned, read by window."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Int16, Shaped
from numpy import ndarray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as GdalWindow

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.metrics import LabelSource
from hiresseg.metrics.confusion import UNKNOWN
from hiresseg.models import ClassInfo
from hiresseg.scenes.files import driver_of, local_file, refuse_disguised_sidecars

_OFF_PX = 0.01
"""Grids are one where their pixels nowhere lie farther apart than this."""
_HIGHEST = np.iinfo(np.int16).max


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a map lies: its size, and its place if it has one."""

    height: int
    width: int
    crs: Any = None
    """As rasterio gives it; None where there is none."""
    transform: Affine | None = None


class RasterMap:
    """The first band of a raster as classes; what its mask, its nodata or `unknown` says is UNKNOWN.

    Args:
        uri: path of a GeoTIFF, PNG or another raster that hiresseg reads.
        unknown: a value that stands for no class.

    Raises:
        SceneError: if it cannot be opened, or is no map of classes.
    """

    def __init__(self, uri: str | Path, unknown: int | None) -> None:
        self.path = local_file(uri)
        self._unknown = unknown
        self._file = _open(self.path)
        if np.dtype(self._file.dtypes[0]).kind not in "ui":
            raise SceneError(
                f"{self.path}: holds {self._file.dtypes[0]}, and a map of classes holds whole numbers; give "
                f"labels, not probabilities"
            )
        # an alpha band or a mask; nodata is compared by value, which is quicker
        flags = self._file.mask_flag_enums[0]
        self._has_mask = not any(flag.name in {"all_valid", "nodata"} for flag in flags)
        self.num_bands = self._file.count
        transform = None if self._file.transform == Affine.identity() else self._file.transform
        self.grid = Grid(self._file.height, self._file.width, self._file.crs, transform)
        self.height, self.width = self._file.height, self._file.width

    def read_raw(self, window: Window) -> Shaped[ndarray, "C h w"]:
        """All bands as they are stored.

        Raises:
            SceneError: if they cannot be decoded.
        """
        part = GdalWindow(window.left, window.top, window.width, window.height)
        try:
            pixels: ndarray = self._file.read(window=part)
        except RasterioError as error:
            raise SceneError(f"{self.path}: cannot be read at {window} ({error}); copy it") from error
        return pixels

    def read(self, window: Window) -> Int16[ndarray, "h w"]:
        """Class of each pixel of a window.

        Raises:
            SceneError: if it cannot be decoded, or holds what can be no class.
        """
        values = self.read_raw(window)[0]
        is_unknown = np.zeros(values.shape, bool)
        for value in {self._unknown, self._file.nodata} - {None}:
            is_unknown |= values == value
        if self._has_mask:
            part = GdalWindow(window.left, window.top, window.width, window.height)
            is_unknown |= self._file.read_masks(1, window=part) == 0
        known = values[~is_unknown]
        if known.size and not 0 <= int(known.min()) <= int(known.max()) <= _HIGHEST:
            raise SceneError(
                f"{self.path}: holds values from {known.min()} to {known.max()}, and classes lie between 0 "
                f"and {_HIGHEST}; say with --ignore what is none, or compare ids with --panoptic"
            )
        labels: ndarray = values.astype(np.int16)
        labels[is_unknown] = UNKNOWN
        return labels

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Names and colours that the file gives; empty without them."""
        tags = self._file.tags()
        names: list[str] = []
        while (name := tags.get(f"CLASS_NAME_{len(names)}")) is not None:
            names.append(name)
        try:
            colors = self._file.colormap(1)
        except ValueError:
            colors = {}
        return tuple(
            ClassInfo(name, tuple(colors.get(value, (0, 0, 0))[:3])) for value, name in enumerate(names)
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class PartOf:
    """A part of a map, as a map."""

    source: LabelSource
    window: Window

    @property
    def height(self) -> int:
        """Rows."""
        return self.window.height

    @property
    def width(self) -> int:
        """Columns."""
        return self.window.width

    def read(self, window: Window) -> Int16[ndarray, "h w"]:
        """Class of each pixel of a window of the part."""
        return self.source.read(self.place(window))

    def place(self, window: Window) -> Window:
        """A window of the part among the pixels of the whole."""
        top, left = self.window.top + window.top, self.window.left + window.left
        return Window(top, left, window.height, window.width)


@dataclass(frozen=True, slots=True)
class ArrayMap:
    """A map in an array or a mapped file, in which `unknown` is no class."""

    labels: Shaped[ndarray, "h w"]
    unknown: int

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.labels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.labels.shape[1])

    def read(self, window: Window) -> Int16[ndarray, "h w"]:
        """Class of each pixel of a window."""
        part = self.labels[window.top : window.bottom, window.left : window.right]
        labels: ndarray = part.astype(np.int16)
        labels[part == self.unknown] = UNKNOWN
        return labels


def align(prediction: Grid, truth: Grid, names: tuple[str, str]) -> tuple[Window, Window]:
    """The common part of two grids, in the pixels of each; by pixels alone where either has no place.

    Args:
        prediction: where the prediction lies.
        truth: where the truth lies.
        names: of both, for the message.

    Raises:
        SceneError: if one would have to be resampled, or they have nothing in common.
    """
    both = f"{names[0]} and {names[1]}"
    mine, theirs = prediction.transform, truth.transform
    if mine is None or theirs is None:
        if (prediction.height, prediction.width) != (truth.height, truth.width):
            raise SceneError(
                f"{both}: are of {prediction.height} x {prediction.width} and {truth.height} x {truth.width} "
                f"pixels, and not both have a place on the map by which to align them; give maps of one size"
            )
        whole = Window(0, 0, truth.height, truth.width)
        return whole, whole
    remedy = _warp_command(prediction, names)
    if prediction.crs != truth.crs:
        raise SceneError(
            f"{both}: are in {_name(prediction.crs)} and {_name(truth.crs)}; first run\n{remedy}"
        )
    # corners of the truth among the pixels of the prediction: whole numbers, both ends, if the grids are one
    to_mine = ~mine @ theirs
    first = to_mine @ (0, 0)
    last = to_mine @ (truth.width, truth.height)
    col, row = round(first[0]), round(first[1])
    ends = (*first, *last)
    wanted = (col, row, col + truth.width, row + truth.height)
    if max(abs(end - want) for end, want in zip(ends, wanted, strict=True)) > _OFF_PX:
        raise SceneError(
            f"{both}: have pixels of {_size(mine)} and {_size(theirs)}, and the second begins {first[0]:.2f} "
            f"columns and {first[1]:.2f} rows into the first: their grids are not one; first run\n{remedy}"
        )
    common = Window(0, 0, prediction.height, prediction.width).intersect(
        Window(row, col, truth.height, truth.width)
    )
    if common.num_pixels == 0:
        raise SceneError(f"{both}: have no pixel in common; check that they show the same place")
    return common, Window(common.top - row, common.left - col, common.height, common.width)


def _open(path: Path) -> Any:
    driver = driver_of(path)
    refuse_disguised_sidecars(path)
    with warnings.catch_warnings():
        # a plain grid of pixels is a legitimate map
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(path, driver=driver)
        except RasterioError as error:
            raise SceneError(f"{path}: cannot be opened as {driver} ({error}); copy it again") from error


def _warp_command(grid: Grid, names: tuple[str, str]) -> str:
    assert grid.transform is not None
    _, b, c, d, _, f = grid.transform[:6]
    right, bottom = grid.transform @ (grid.width, grid.height)
    if b or d:
        return f"  gdalwarp -r near (both to one grid that is not turned) {names[1]} aligned.tif"
    crs = f" -t_srs {_name(grid.crs)!r}" if grid.crs else ""
    return (
        f"  gdalwarp -r near{crs} -te {min(c, right):.10g} {min(f, bottom):.10g} {max(c, right):.10g} "
        f"{max(f, bottom):.10g} -ts {grid.width} {grid.height} {names[1]} aligned.tif"
    )


def _name(crs: Any) -> str:
    return str(crs.to_string()) if crs else "no CRS"


def _size(transform: Affine) -> str:
    return f"{abs(transform.a):.8g} x {abs(transform.e):.8g}"
