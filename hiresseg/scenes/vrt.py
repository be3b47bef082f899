"""Virtual rasters: what one may name, read before GDAL does.

A VRT can make GDAL open any file, address or database, and run code. So it is parsed here, whatever is not
known to be harmless is refused by name, and GDAL is given the text that was checked, with absolute paths of
sources: it never sees the file itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from hiresseg.errors import SceneError
from hiresseg.scenes.files import driver_of, head_of, local_file

MAX_BYTES = 16 << 20
"""What a VRT may take: one of ten thousand sources has about 8 MiB."""

_ELEMENTS = frozenset(
    """VRTDataset SRS GeoTransform GCPList GCP Metadata MDI BlockXSize BlockYSize MaskBand VRTRasterBand
    ColorInterp ColorTable Entry CategoryNames Category Description NoDataValue HideNoDataValue NodataValue
    UnitType Offset Scale Histograms HistItem HistMin HistMax BucketCount IncludeOutOfRange Approximate
    HistCounts SimpleSource ComplexSource AveragedSource KernelFilteredSource Kernel Size Coefs
    SourceFilename SourceBand SourceProperties SrcRect DstRect NODATA UseMaskBand ScaleOffset ScaleRatio LUT
    ColorTableComponent Exponent SrcMin SrcMax DstMin DstMax Clamp PixelFunctionType PixelFunctionArguments
    SourceTransferType""".split()  # noqa: SIM905 - a list of sixty strings says no more
)
_ATTRIBUTES = frozenset(
    """rasterXSize rasterYSize dataType band subClass relativeToVRT shared xOff yOff xSize ySize RasterXSize
    RasterYSize DataType BlockXSize BlockYSize key domain format Id Pixel Line X Y Z Info Projection
    dataAxisToSRSAxisMapping coordinateEpoch c1 c2 c3 c4 resampling normalized blockXSize
    blockYSize""".split()  # noqa: SIM905 - a list of sixty strings says no more
)
_KINDS = frozenset({None, "VRTDataset", "VRTRasterBand", "VRTSourcedRasterBand", "VRTDerivedRasterBand"})


@dataclass(frozen=True, slots=True)
class Vrt:
    """A virtual raster that was found harmless."""

    text: str
    """What GDAL opens."""
    sources: tuple[Path, ...]
    """The files that it shows, each once."""


def read_vrt(path: Path) -> Vrt:
    """Parse and check a VRT; its sources are looked at, not opened.

    Raises:
        SceneError: if it holds what is not taken, or a source is no local TIFF, JPEG 2000, PNG or JPEG.
    """
    root = _parse(path)
    sources: dict[Path, None] = {}
    for element in root.iter():
        _refuse_unknown(path, element)
        if element.tag == "SourceFilename":
            source = _source_of(path, element)
            sources[source] = None
            # shared ones would be used by two threads at once
            element.attrib = {"relativeToVRT": "0", "shared": "0"}
            element.text = str(source)
    return Vrt(ET.tostring(root, encoding="unicode"), tuple(sources))


def _parse(path: Path) -> ET.Element:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error}); check its permissions") from error
    if len(content) > MAX_BYTES or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise SceneError(
            f"{path}: a VRT may take {MAX_BYTES >> 20} MiB and declare no entities; "
            "write the scene as a file with `gdal_translate -of COG`"
        )
    try:
        root = ET.fromstring(content)  # noqa: S314 - there are no entities to expand
    except (ET.ParseError, ValueError, LookupError) as error:
        raise SceneError(f"{path}: is no well-formed VRT ({error}); write it again") from error
    if root.tag != "VRTDataset":
        raise SceneError(f"{path}: is named .vrt, and holds <{root.tag}>; give it its own name")
    return root


def _refuse_unknown(path: Path, element: ET.Element) -> None:
    # arguments of a pixel function are numbers with names of their own
    given = set(element.attrib) if element.tag != "PixelFunctionArguments" else set()
    unknown = [f"<{element.tag}>"] if element.tag not in _ELEMENTS else sorted(given - _ATTRIBUTES)
    if element.get("subClass") not in _KINDS:
        unknown.append(str(element.get("subClass")))
    if unknown:
        raise SceneError(
            f"{path}: a VRT with {unknown[0]} is not read, only mosaics and bands of local files; "
            "write the scene as a file with `gdal_translate -of COG`"
        )


def _source_of(path: Path, element: ET.Element) -> Path:
    name = (element.text or "").strip()
    # what GDAL would take for something else than a path is refused by local_file, before it is joined
    is_relative = element.get("relativeToVRT", "0") == "1" and not Path(name).is_absolute()
    try:
        if is_relative and ":" not in name:
            name = str(path.parent / name)
        source = local_file(name)
        # GDAL chooses the driver of a source, and takes all that holds this word for a VRT
        is_vrt = driver_of(source) == "VRT" or b"<VRTDataset" in head_of(source, 4096)
    except SceneError as error:
        raise SceneError(f"{path}: its source cannot be taken: {error}") from error
    if is_vrt or "<" in str(source):
        raise SceneError(
            f"{path}: its source {source} is itself a VRT, or is named like one; "
            "write it as a file with `gdal_translate -of COG`"
        )
    return source
