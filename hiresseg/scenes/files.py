"""Which local file is meant, which driver reads it, and what must not lie beside it."""

from __future__ import annotations

import re
from pathlib import Path

from hiresseg.errors import SceneError

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SEQUENTIAL = ("PNG", "JPEG")
"""Drivers of formats that can only be decoded from the top."""

_DRIVERS = (
    *((magic, "GTiff") for magic in TIFF_MAGIC),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\0\0\0\x0cjP  ", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
)
_OTHER_FORMATS = (
    (b"\x89HDF", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"RIFF", "a WebP or another RIFF file"),
    (b"%PDF", "a PDF"),
)


def local_file(uri: str | Path) -> Path:
    """The file that `uri` names, as an absolute path.

    Raises:
        SceneError: if it is remote, a virtual file system of GDAL, missing, or no regular file.
    """
    text = str(uri)
    # at least two letters, so that a Windows drive is no scheme
    if re.match(r"[A-Za-z][A-Za-z0-9+._-]+:", text) or text.lower().replace("\\", "/").startswith("/vsi"):
        raise SceneError(
            f"{text}: only local files are read; copy the scene to a local disk and give its path"
        )
    try:
        path = Path(text).absolute()
        # rasterio hands paths on as UTF-8
        str(path).encode()
        if path.is_file():
            return path
        found = path.exists()
    except (OSError, ValueError) as error:
        raise SceneError(f"{text!r}: cannot be looked up ({error}); check the path, or rename it") from error
    if found:
        raise SceneError(f"{text}: is no regular file; give the path of a GeoTIFF, or of another image")
    raise SceneError(f"{text}: no such file; check the path")


def driver_of(path: Path) -> str:
    """Name of the one GDAL driver that may open `path`, by its first bytes.

    A driver is never left to be guessed from content: a VRT that calls itself .tif would be opened as a VRT
    and could show any file of this machine as pixels. Only a file named .vrt is taken for one.

    Raises:
        SceneError: if the file is of another format.
    """
    head = head_of(path, 64)
    driver = next((name for magic, name in _DRIVERS if head.startswith(magic)), None)
    if driver:
        return driver
    is_xml = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")
    if is_xml and path.suffix.lower() == ".vrt":
        return "VRT"
    if b"<VRTDataset" in head:
        raise SceneError(
            f"{path}: is a VRT, and is not named one; rename it to .vrt if you trust it, or write it as a "
            "file with `gdal_translate -of COG`"
        )
    kind = next((name for magic, name in _OTHER_FORMATS if head.startswith(magic)), "of an unknown format")
    remedy = "convert it with `gdal_translate -of COG`" if head else "it has no content: copy it again"
    raise SceneError(
        f"{path}: is {kind if head else 'empty'}, and only TIFF, JPEG 2000, PNG, JPEG and VRT are read; "
        f"{remedy}"
    )


def sidecars_of(path: Path) -> list[Path]:
    """The files beside `path` from which GDAL would take overviews, masks, or georeferencing."""
    suffixes = (".ovr", ".msk", ".msk.ovr", ".ovr.msk", ".aux.xml")
    names = [Path(f"{path}{case}") for suffix in suffixes for case in (suffix, suffix.upper())]
    # as GDAL makes the name of a world file: .tfw of .tif
    letters = path.suffix[1:].lower() or "tif"
    world = (f".{letters[0]}{letters[-1]}w", f".{letters}w", ".tfw", ".tifw", ".wld")
    names += [
        path.with_suffix(case)
        for suffix in dict.fromkeys((*world, ".aux", ".imd", ".rpb", ".tab"))
        for case in (suffix, suffix.upper())
    ]
    return [name for name in names if name.is_file()]


def refuse_disguised_sidecars(path: Path) -> None:
    """Make sure that overviews and masks beside `path` are TIFF: GDAL would open them with any driver.

    Raises:
        SceneError: if one of them is not.
    """
    for sidecar in sidecars_of(path):
        if sidecar.suffix.lower() in {".ovr", ".msk"} and not head_of(sidecar, 4).startswith(TIFF_MAGIC):
            raise SceneError(
                f"{sidecar}: overviews or mask of a scene must be TIFF; remove or rebuild this file"
            )


def head_of(path: Path, num_bytes: int) -> bytes:
    """The first bytes of a file.

    Raises:
        SceneError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(num_bytes)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error}); check its permissions") from error
