"""GDAL handles: opened with one explicit driver, used by one thread at a time, kept for the next."""

from __future__ import annotations

import os
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from hiresseg.errors import SceneError

# Reads are aligned to blocks, so the cache need only hold the blocks of a read. Sidecars are asked for by
# name, not looked up in a listing of the folder, which may hold a hundred thousand scenes.
GDAL_CACHE_MIB = 64
GDAL_OPTIONS = {
    "GDAL_CACHEMAX": GDAL_CACHE_MIB,
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GTIFF_IGNORE_READ_ERRORS": "NO",
    # a JPEG that was cut off would else be filled with grey
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    # this shortcut takes memory for the whole picture, and gives what it finds there if the PNG was cut off
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}

# GDAL raises its own errors past rasterio's where a damaged file surprises it, and its messages may quote
# bytes of the file, which rasterio takes for text
GDAL_ERRORS = (RasterioError, CRSError, CPLE_BaseError, UnicodeDecodeError)

# `warnings.catch_warnings` swaps a list of the whole process, so two opens must not do it at once
_OPENING = threading.Lock()


class Handles:
    """A pool of handles on one file, one kind per stored resolution.

    A handle is lent to one thread at a time, since GDAL's are not to be shared, and closed rather than kept
    when a read failed in it. After a fork the child opens its own: they would share a file position.

    Args:
        path: the file, by which errors name it.
        driver: the one GDAL driver that may open it.
        text: what GDAL is given in its place; None for the file itself.
    """

    def __init__(self, path: Path, driver: str, text: str | None = None) -> None:
        self.driver = driver
        self._path, self._address = path, text or path
        self._lock = threading.Lock()
        self._idle: dict[int | None, list[DatasetReader]] = defaultdict(list)
        self._process = os.getpid()

    @contextmanager
    def lend(
        self, overview: int | None = None, *, doing: str = "reading its header"
    ) -> Iterator[DatasetReader]:
        """A handle on overview number `overview`, or on full resolution; `doing` says what for.

        Raises:
            SceneError: if the file cannot be opened, or GDAL fails at what is done with it.
        """
        with rasterio.Env(**GDAL_OPTIONS):
            handle = self._take(overview)
            try:
                yield handle
            except GDAL_ERRORS as error:
                handle.close()
                reason = error.__cause__ or error
                raise SceneError(
                    f"{self._path}: {doing} failed ({reason}); "
                    "the file is truncated or damaged: copy it again"
                ) from error
            except BaseException:
                handle.close()
                raise
            with self._lock:
                self._idle[overview].append(handle)

    def close(self) -> None:
        """Close all handles that are not lent."""
        with self._lock:
            idle, self._idle = self._idle, defaultdict(list)
        for handles in idle.values():
            for handle in handles:
                handle.close()

    def _take(self, overview: int | None) -> DatasetReader:
        with self._lock:
            if self._process != os.getpid():
                self._idle, self._process = defaultdict(list), os.getpid()
            if self._idle[overview]:
                return self._idle[overview].pop()
        return self._open(overview)

    def _open(self, overview: int | None) -> DatasetReader:
        options = {} if overview is None else {"overview_level": overview}
        try:
            with _OPENING, warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                return rasterio.open(self._address, driver=self.driver, sharing=False, **options)
        except GDAL_ERRORS as error:
            raise SceneError(
                f"{self._path}: cannot be opened as {self.driver} ({error}); "
                "the file is damaged or uses a codec that this GDAL lacks"
            ) from error
