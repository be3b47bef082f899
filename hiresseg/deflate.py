"""DEFLATE of masks: compressed once, a chunk of the run's arrays and a tile of the GeoTIFF.

The two differ in their wrapping only. A zarr chunk is a gzip member, which ends in a CRC-32 of its pixels; a
tile of a TIFF is a zlib stream, which ends in their Adler-32. What lies between is copied.
"""

from __future__ import annotations

import numpy as np
from zlib_ng import zlib_ng

GZIP_LEVEL = 6
_GZIP_WINDOW_BITS, _ZLIB_WINDOW_BITS = 31, 15
_GZIP_HEADER_BYTES, _GZIP_TRAILER_BYTES = 10, 8
_ZLIB_HEADER = b"\x78\x01"


def compress_gzip(pixels: np.ndarray) -> bytes:
    """One gzip member, whose header has no name and no time: the same pixels give the same bytes."""
    return _compress(pixels, _GZIP_WINDOW_BITS)


def compress_zlib(pixels: np.ndarray) -> bytes:
    """One zlib stream."""
    return _compress(pixels, _ZLIB_WINDOW_BITS)


def decompress_gzip(data: bytes) -> bytes:
    """What is in one gzip member.

    Raises:
        ValueError: if it is damaged, or holds other pixels than its checksum says.
    """
    try:
        return bytes(zlib_ng.decompress(data, wbits=_GZIP_WINDOW_BITS))
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub gives it no base
        raise ValueError(str(error)) from error


def rewrap_gzip(member: bytes, pixels: np.ndarray) -> bytes:
    """The zlib stream with the compressed bytes of a gzip member that `compress_gzip` made of `pixels`."""
    body = memoryview(member)[_GZIP_HEADER_BYTES:-_GZIP_TRAILER_BYTES]
    checksum = zlib_ng.adler32(np.ascontiguousarray(pixels))
    return b"".join([_ZLIB_HEADER, body, checksum.to_bytes(4, "big")])


def _compress(pixels: np.ndarray, window_bits: int) -> bytes:
    # masks are runs: matching runs only is several times faster than searching, and the result is smaller
    compressor = zlib_ng.compressobj(GZIP_LEVEL, zlib_ng.DEFLATED, wbits=window_bits, strategy=zlib_ng.Z_RLE)
    return bytes(compressor.compress(np.ascontiguousarray(pixels))) + bytes(compressor.flush())
