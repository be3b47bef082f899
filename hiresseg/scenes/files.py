"""Which local file is meant, which driver reads it, and what must not lie beside it."""

from __future__ import annotations

import re
from pathlib import Path

from hiresseg.errors import SceneError

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER_FORMATS = (
    (b"\x89PNG", "a PNG"),
    (b"\xff\xd8\xff", "a JPEG"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 codestream"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"<VRTDataset", "a VRT"),
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
    path = Path(text).absolute()
    try:
        if path.is_file():
            return path
        found = path.exists()
    except (OSError, ValueError) as error:
        raise SceneError(f"{text!r}: cannot be looked up ({error}); check the path") from error
    if found:
        raise SceneError(f"{text}: is no regular file; give the path of a GeoTIFF")
    raise SceneError(f"{text}: no such file; check the path")


def driver_of(path: Path) -> str:
    """Name of the one GDAL driver that may open `path`, by its first bytes.

    A driver is never left to be guessed from content: a VRT that calls itself .tif would be opened as a VRT
    and could show any file of this machine as pixels.

    Raises:
        SceneError: if the file is not a TIFF.
    """
    head = _head_of(path)
    if head.startswith(_TIFF):
        return "GTiff"
    kind = next((name for magic, name in _OTHER_FORMATS if head.startswith(magic)), "of an unknown format")
    remedy = "convert it with `gdal_translate -of COG`" if head else "it has no content: copy it again"
    raise SceneError(f"{path}: is {kind if head else 'empty'}, and only GeoTIFF is read; {remedy}")


def sidecars_of(path: Path) -> list[Path]:
    """The files beside `path` from which GDAL would take overviews, masks, or georeferencing."""
    stem = path.with_suffix("")
    suffixes = (".ovr", ".msk", ".msk.ovr", ".ovr.msk", ".aux.xml")
    names = [Path(f"{path}{case}") for suffix in suffixes for case in (suffix, suffix.upper())]
    names += [
        stem.with_suffix(suffix) for suffix in (".tfw", ".TFW", ".tifw", ".wld", ".aux", ".imd", ".rpb")
    ]
    return [name for name in names if name.is_file()]


def refuse_disguised_sidecars(path: Path) -> None:
    """Make sure that overviews and masks beside `path` are TIFF: GDAL would open them with any driver.

    Raises:
        SceneError: if one of them is not.
    """
    for sidecar in sidecars_of(path):
        if sidecar.suffix.lower() in {".ovr", ".msk"} and not _head_of(sidecar).startswith(_TIFF):
            raise SceneError(
                f"{sidecar}: overviews or mask of a scene must be TIFF; remove or rebuild this file"
            )


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error}); check its permissions") from error
