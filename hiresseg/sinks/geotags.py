"""What a GeoTIFF says about itself: place, colours, names, nodata.

GDAL writes these fields into a file of one pixel in memory, and they are carried over byte by byte: that way
they come out exactly as GDAL itself would have written them. Only the place of a scene that is a GeoTIFF is
taken from its own fields: they can say map projections that GDAL reads and cannot write again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from xml.sax.saxutils import escape

import numpy as np
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader, MemoryFile

from hiresseg.geometry import Gcp, Georef
from hiresseg.sinks.meaning import FILL, ClassMeaning, Meaning
from hiresseg.sinks.tiff import Tag, TiledLevel, pack_head, read_tags

# size, codec, tiles: what differs from the file of one pixel
_LAYOUT_CODES: Final = frozenset({254, 256, 257, 259, 273, 278, 279, 317, 322, 323, 324, 325})
# what an overview repeats: bits, colours, samples, planes, colour table, sample format, nodata
_OVERVIEW_CODES: Final = frozenset({258, 262, 277, 284, 320, 339, 42113})
# pixel size, tie points, matrix
_TRANSFORM_CODES: Final = frozenset({33550, 33922, 34264})
_METADATA_CODE: Final = 42112

# columns of GDAL's attribute table: name, type (0 integer, 2 text), use
_TABLE_COLUMNS: Final = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))


@dataclass(frozen=True, slots=True)
class Readback:
    """A georeference as GDAL reads it from a file."""

    crs_wkt: str | None
    transform: tuple[float, ...]
    """Six numbers, row by row; those of the identity without a georeference."""
    points: tuple[tuple[float, ...], ...]
    """Row, column, x, y and z of each control point."""
    is_point: bool


@dataclass(frozen=True, slots=True)
class GeoTags:
    """Fields for the directories, and how the finished file must read back."""

    full: tuple[Tag, ...]
    """For the full size."""
    overview: tuple[Tag, ...]
    """For each overview."""
    readback: Readback
    """The georeference as GDAL reads it from these fields."""
    losses: tuple[str, ...]
    """What GeoTIFF cannot say of the georeference, in words."""


def describe_raster(georef: Georef, meaning: Meaning) -> GeoTags:
    """Find the fields that carry `georef` and `meaning`.

    Raises:
        rasterio.errors.CRSError: if the WKT is not one.
    """
    tags, readback = _carry_place(georef, meaning) or _write_place(georef, meaning)
    if isinstance(meaning, ClassMeaning):
        tags[_METADATA_CODE] = _with_class_table(tags[_METADATA_CODE], meaning)
    return GeoTags(
        full=tuple(tags.values()),
        overview=tuple(tag for code, tag in tags.items() if code in _OVERVIEW_CODES),
        readback=readback,
        losses=_list_losses(georef, readback),
    )


def _carry_place(georef: Georef, meaning: Meaning) -> tuple[dict[int, Tag], Readback] | None:
    """The scene's own fields, if they read back as its place: what lies beside a file can overrule them."""
    own = {tag[0]: Tag(*tag) for tag in georef.tags}
    if not own:
        return None
    # a transform that lies beside the file goes with the projection that stands in it
    rest = Georef() if own.keys() & _TRANSFORM_CODES else replace(georef, crs_wkt=None)
    tags = _write_one_pixel(rest, meaning) | own
    readback = _read_one_pixel(tags)
    return None if _list_losses(georef, readback) else (tags, readback)


def _write_place(georef: Georef, meaning: Meaning) -> tuple[dict[int, Tag], Readback]:
    """The place as GDAL writes it."""
    tags = _write_one_pixel(georef, meaning)
    readback = _read_one_pixel(tags)
    if georef.gcps and readback.points:
        # GDAL 3.10 moves the points of a pixel-is-point file by a pixel on the way out and in
        first = georef.gcps[0]
        shift = readback.points[0][0] - first.row, readback.points[0][1] - first.col
        if any(shift):
            tags = _write_one_pixel(georef, meaning, shift=shift)
            readback = _read_one_pixel(tags)
    return tags, readback


def read_georef(dataset: DatasetReader) -> Readback:
    """The georeference of an open file, in a form that can be compared."""
    points, points_crs = dataset.gcps
    crs = dataset.crs or points_crs
    return Readback(
        crs_wkt=crs.to_wkt() if crs else None,
        transform=tuple(dataset.transform)[:6],
        points=tuple((p.row, p.col, p.x, p.y, p.z) for p in points),
        is_point=dataset.tags().get("AREA_OR_POINT") == "Point",
    )


def _write_one_pixel(
    georef: Georef, meaning: Meaning, shift: tuple[float, float] = (0.0, 0.0)
) -> dict[int, Tag]:
    place: dict[str, Any] = {"crs": CRS.from_wkt(georef.crs_wkt) if georef.crs_wkt else CRS()}
    if georef.transform is not None:
        place["transform"] = georef.transform
    elif georef.gcps:
        place["gcps"] = [_to_rasterio(gcp, shift) for gcp in georef.gcps]
    with warnings.catch_warnings():
        # a plain grid of pixels is a legitimate scene
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff", height=1, width=1, count=1, dtype="uint8", nodata=FILL, **place
            ) as dataset:
                if georef.is_point:
                    dataset.update_tags(AREA_OR_POINT="Point")
                _write_meaning(dataset, meaning)
            tags = read_tags(bytes(memory.getbuffer()))
    return {code: tag for code, tag in tags.items() if code not in _LAYOUT_CODES}


def _read_one_pixel(tags: Mapping[int, Tag]) -> Readback:
    level = TiledLevel(1, 1, np.zeros(1, np.uint32), tuple(tags.values()))
    file = pack_head([level], tile_px=16, compression=8, is_big=False, offsets=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        # not the file that GDAL wrote, beside which it keeps in a second one what the keys cannot say
        with MemoryFile(file) as memory, memory.open(driver="GTiff") as dataset:
            return read_georef(dataset)


def _to_rasterio(gcp: Gcp, shift: tuple[float, float]) -> GroundControlPoint:
    return GroundControlPoint(gcp.row - shift[0], gcp.col - shift[1], gcp.x, gcp.y, gcp.z, gcp.id, gcp.info)


def _write_meaning(dataset: Any, meaning: Meaning) -> None:
    if isinstance(meaning, ClassMeaning):
        dataset.write_colormap(1, {value: entry.color for value, entry in enumerate(meaning.classes)})
        dataset.update_tags(
            **{f"CLASS_NAME_{value}": entry.name for value, entry in enumerate(meaning.classes)}
        )
        dataset.set_band_description(1, "class")
    else:
        dataset.scales, dataset.offsets = (meaning.scale,), (0.0,)
        dataset.set_band_description(1, meaning.description)


def _with_class_table(metadata: Tag, meaning: ClassMeaning) -> Tag:
    """Metadata with an attribute table: GDAL reads class names from it since 3.12, and skips it before."""
    columns = "".join(
        f'<FieldDefn index="{index}"><Name>{name}</Name><Type>{kind}</Type><Usage>{use}</Usage></FieldDefn>'
        for index, (name, kind, use) in enumerate(_TABLE_COLUMNS)
    )
    rows = "".join(
        f'<Row index="{value}">'
        + "".join(f"<F>{cell}</F>" for cell in (value, escape(entry.name), *entry.color))
        + "</Row>"
        for value, entry in enumerate(meaning.classes)
    )
    item = (
        '  <Item name="DEFAULT_RASTER_ATTRIBUTE_TABLE" sample="0" role="rat">'
        f'<GDALRasterAttributeTable tableType="thematic">{columns}{rows}</GDALRasterAttributeTable></Item>\n'
    ).encode()
    end = metadata.value.rindex(b"</GDALMetadata>")
    value = metadata.value[:end] + item + metadata.value[end:]
    return Tag(metadata.code, metadata.kind, len(value), value)


def _list_losses(georef: Georef, readback: Readback) -> tuple[str, ...]:
    losses = []
    wanted = CRS.from_wkt(georef.crs_wkt) if georef.crs_wkt else None
    if wanted is None and readback.crs_wkt is not None:
        losses.append("GDAL sees an unnamed coordinate reference system where the scene has none")
    elif wanted and readback.crs_wkt is None:
        losses.append("the coordinate reference system cannot be said in GeoTIFF keys and is left out")
    elif wanted and readback.crs_wkt != wanted.to_wkt():
        losses.append("the coordinate reference system is kept only as closely as GeoTIFF keys can say it")
    if georef.is_point != readback.is_point:
        losses.append("whether a pixel is a point or an area is not kept")
    if tuple(georef.transform or Affine.identity())[:6] != readback.transform:
        losses.append("the transform reads back differently in its last digits")
    if georef.transform is None:
        if tuple((g.row, g.col, g.x, g.y, g.z) for g in georef.gcps) != readback.points:
            losses.append("control points read back differently in their last digits")
        if any(g.info or g.id != str(index) for index, g in enumerate(georef.gcps, start=1)):
            losses.append("names and remarks of control points have no place in a GeoTIFF")
    return tuple(losses)
