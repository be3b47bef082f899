"""A small picture of the scene, sampled while it is read for the run: the preview decodes nothing again."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy import ndarray

from hiresseg.errors import StoreError
from hiresseg.geometry import Window

THUMBNAIL_PX = 1600
"""Longest edge."""


_IMAGE_NAME, _VALID_NAME = "thumbnail.npy", "thumbnail-valid.npy"


def has_thumbnail(folder: Path) -> bool:
    """Whether a thumbnail was begun in a run's group, and is still there."""
    return (folder / _IMAGE_NAME).exists() and (folder / _VALID_NAME).exists()


class Thumbnail:
    """Every `factor`-th pixel of the scene, kept in a file of the run so that a resumed run has all of it.

    Each stage adds what it reads: a coarse one fills the picture, a finer one sharpens it where it looks.

    Args:
        folder: the run's group.
        size: rows and columns of the scene.
        num_bands: bands of the scene, of which one or three are kept.
        dtype: sample type of the scene.
    """

    def __init__(self, folder: Path, size: tuple[int, int], num_bands: int, dtype: np.dtype) -> None:
        self.factor = 1
        while max(size) > self.factor * THUMBNAIL_PX:
            self.factor *= 2
        self.size = -(-size[0] // self.factor), -(-size[1] // self.factor)
        self.num_bands = 3 if num_bands >= 3 else 1
        self._image = _open(folder / _IMAGE_NAME, (self.num_bands, *self.size), dtype)
        self._valid = _open(folder / _VALID_NAME, self.size, np.dtype(np.uint8))

    def sample(self, level: int, window: Window, pixels: ndarray, valid: ndarray | None) -> None:
        """Take what falls on the grid from freshly decoded pixels (C, h, w) of a level; safe from any thread.

        Windows of one level do not overlap, and a pixel decoded twice is written twice with the same value.
        """
        pixels = pixels[: self.num_bands]
        step, repeat = max(1, self.factor >> level), max(1, (1 << level) // self.factor)
        top, left = -(-window.top // step), -(-window.left // step)
        first_row, first_col = top * step - window.top, left * step - window.left
        part = pixels[:, first_row::step, first_col::step]
        mask = np.ones(part.shape[1:], bool) if valid is None else valid[first_row::step, first_col::step]
        if repeat > 1:
            top, left = top * repeat, left * repeat
            part = part.repeat(repeat, axis=1).repeat(repeat, axis=2)
            mask = mask.repeat(repeat, axis=0).repeat(repeat, axis=1)
        rows = slice(top, min(top + part.shape[1], self.size[0]))
        cols = slice(left, min(left + part.shape[2], self.size[1]))
        self._image[:, rows, cols] = part[:, : rows.stop - top, : cols.stop - left]
        self._valid[rows, cols] = mask[: rows.stop - top, : cols.stop - left]

    def read(self) -> tuple[ndarray, ndarray]:
        """(image (C, h, w), valid (h, w) bool)."""
        return np.asarray(self._image), np.asarray(self._valid).astype(bool)


def _open(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    if path.exists():
        with suppress(ValueError):
            existing: np.memmap = np.lib.format.open_memmap(path, mode="r+")
            if existing.shape == shape and existing.dtype == dtype:
                return existing
    partial = path.with_name(f".{path.name}.partial")
    try:
        np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        with partial.open("r+b") as file:
            # a disk that is full when a mapped page is first written ends the process without a word
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free or repair the disk and run the same command "
            f"again: it goes on"
        ) from error
    made: np.memmap = np.lib.format.open_memmap(path, mode="r+")
    return made
