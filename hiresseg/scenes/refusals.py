"""What a file may not announce: refused before a pixel is decoded, since that allocates what is announced."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
from rasterio.enums import ColorInterp, Interleaving
from rasterio.io import DatasetReader

from hiresseg.errors import SceneError
from hiresseg.scenes.directories import MAX_DIRECTORIES, has_endless_chain, is_index_cut_off
from hiresseg.scenes.files import SEQUENTIAL, driver_of, refuse_disguised_sidecars, sidecars_of
from hiresseg.scenes.handles import GDAL_CACHE_MIB, Handles

MAX_BLOCK_BYTES = 256 << 20
"""What one block of a file may decode to: a header announces any size, and one pixel read allocates it."""

MAX_BANDS = 4096
"""What a file may hold: each band costs GDAL memory, and a header can announce 65535."""

MAX_RATIO = 2000
"""Bytes that a byte of a PNG or JPEG can stand for, and more: deflate reaches 1032, JPEG about 1400."""

DTYPES = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float32",
    "float64",
)
_COMPLEX_BYTES = 16


def is_planar(dataset: DatasetReader) -> bool:
    """Whether each band has blocks of its own."""
    return bool(dataset.count > 1 and dataset.interleaving == Interleaving.band)


def refuse_files(path: Path) -> None:
    """Make sure that GDAL may open a file, and what it would open beside it.

    Raises:
        SceneError: if overviews or a mask are no TIFF, or a chain of directories has no end.
    """
    refuse_disguised_sidecars(path)
    for file in (path, *sidecars_of(path)):
        if has_endless_chain(file):
            raise SceneError(
                f"{file}: its directories run in a circle, or announce {MAX_DIRECTORIES} images or more; "
                "write the first image alone with `gdal_translate -of COG`"
            )


def refuse_samples(path: Path, dataset: DatasetReader, bands: tuple[int, ...]) -> None:
    """Make sure that the bands are of one sample type, which is a plain number.

    Raises:
        SceneError: if they are not.
    """
    dtypes, kinds = dataset.dtypes, dataset.colorinterp
    for i in bands:
        # half floats are what GDAL names so from version 3.11 on, and single floats before
        if dtypes[i - 1] not in (*DTYPES, "float16"):
            raise SceneError(
                f"{path}: band {i} has samples of type {dtypes[i - 1]}; "
                f"convert it to one of {', '.join(DTYPES)}, for example with `gdal_translate -ot Float32`"
            )
        if dtypes[i - 1] != dtypes[bands[0] - 1]:
            raise SceneError(
                f"{path}: band {bands[0]} is {dtypes[bands[0] - 1]}, and band {i} {dtypes[i - 1]}; name "
                "bands of one sample type, or convert them with `gdal_translate -ot Float32`"
            )
        if kinds[i - 1] == ColorInterp.palette and (
            bands != (i,) or dtypes[i - 1] not in {"uint8", "uint16"}
        ):
            raise SceneError(
                f"{path}: band {i} holds indices of a palette beside other bands, or of type "
                f"{dtypes[i - 1]}; read it alone, or expand it with `gdal_translate -expand rgb`"
            )


def refuse_sizes(path: Path, driver: str, dataset: DatasetReader) -> None:
    """Make sure that a file can hold what its header announces, in blocks that memory can hold.

    Raises:
        SceneError: if not.
    """
    if dataset.tags(ns="OVERVIEWS"):
        raise SceneError(f"{path}: its overviews point to another file; rebuild them with `gdaladdo`")
    if dataset.count > MAX_BANDS:
        raise SceneError(
            f"{path}: announces {dataset.count} bands, more than the {MAX_BANDS} allowed; split it"
        )
    refuse_block(path, dataset)
    is_forged = (
        is_index_cut_off(path)
        if driver == "GTiff"
        else driver in SEQUENTIAL and _whole_bytes(dataset) > MAX_RATIO * path.stat().st_size
    )
    if is_forged:
        raise SceneError(
            f"{path}: announces {dataset.height} x {dataset.width} pixels, but its {path.stat().st_size} "
            f"bytes {'end before the list of its blocks does' if driver == 'GTiff' else 'cannot hold them'}; "
            "the file is truncated or forged: copy it again"
        )


def refuse_block(path: Path, dataset: DatasetReader) -> None:
    """Make sure that memory can hold a block.

    Raises:
        SceneError: if not.
    """
    rows, cols = dataset.block_shapes[0]
    per_pixel = _pixel_bytes(dataset)
    block_bytes = rows * cols * (per_pixel // dataset.count if is_planar(dataset) else per_pixel)
    if block_bytes > MAX_BLOCK_BYTES:
        raise SceneError(
            f"{path}: a block of {rows} x {cols} pixels decodes to {block_bytes >> 20} MiB, more than the "
            f"{MAX_BLOCK_BYTES >> 20} MiB allowed; rewrite it with `gdal_translate -of COG`"
        )


def refuse_source(path: Path) -> None:
    """Make sure that a file that a VRT shows is one that could be read by itself.

    Raises:
        SceneError: if not, or if it would have to be decoded from its top for every window.
    """
    refuse_files(path)
    driver = driver_of(path)
    with closing(Handles(path, driver)) as handles, handles.lend() as dataset:
        refuse_sizes(path, driver, dataset)
        whole_bytes = _whole_bytes(dataset)
    if driver in SEQUENTIAL and whole_bytes > GDAL_CACHE_MIB << 20:
        raise SceneError(
            f"{path}: decodes to {whole_bytes >> 20} MiB, always from its top, more than the "
            f"{GDAL_CACHE_MIB} MiB that a VRT can show at the speed of a file; convert it with "
            "`gdal_translate -of COG`"
        )


def _pixel_bytes(dataset: DatasetReader) -> int:
    return sum(np.dtype(name).itemsize if name in DTYPES else _COMPLEX_BYTES for name in dataset.dtypes)


def _whole_bytes(dataset: DatasetReader) -> int:
    return int(dataset.height * dataset.width * _pixel_bytes(dataset))
