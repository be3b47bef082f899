from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning

MakeRaster = Callable[..., Path]

# Triton decides when it is imported whether it compiles or interprets, and libraries import it early
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = (Path(__file__).resolve().parents[1] / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip("the shared folder of real data is not on this machine")
    return folder


def write_raster(path, pixels, *, mask=None, overviews=(), beside=False, **profile):
    """A GeoTIFF of `pixels` (bands, rows, columns); mask and overviews inside, or `beside` it."""
    shape = {"count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not beside, TIFF_USE_OVR=beside):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        colors = profile.pop("colorinterp", None)
        with rasterio.open(path, "w", driver="GTiff", dtype=pixels.dtype, **shape, **profile) as dataset:
            if colors:
                dataset.colorinterp = colors
            dataset.write(pixels)
            if mask is not None:
                dataset.write_mask(mask)
        if overviews:
            with rasterio.open(path, "r+", driver="GTiff") as dataset:
                dataset.build_overviews(list(overviews), Resampling.average)
    return path


@pytest.fixture
def make_raster(tmp_path: Path) -> MakeRaster:
    """Writes small GeoTIFFs: `make_raster(pixels, name="scene.tif", **options of write_raster and GDAL)`."""

    def make(pixels: np.ndarray, *, name: str = "scene.tif", **options) -> Path:
        return write_raster(tmp_path / name, pixels, **options)

    return make


@pytest.fixture
def make_picture(tmp_path: Path) -> MakeRaster:
    """Writes small PNG, JPEG and JPEG 2000 files: `make_picture(pixels, driver, name=..., **options)`."""

    def make(pixels: np.ndarray, driver: str, *, name: str | None = None, **options) -> Path:
        lossless = {"JP2OpenJPEG": {"QUALITY": 100, "REVERSIBLE": "YES"}, "JPEG": {"QUALITY": 95}}
        path = tmp_path / (name or {"PNG": "a.png", "JPEG": "a.jpg", "JP2OpenJPEG": "a.jp2"}[driver])
        shape = {"count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
        options = {**shape, **lossless.get(driver, {}), **options}
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(path, "w", driver=driver, dtype=pixels.dtype, **options) as dataset,
        ):
            dataset.write(pixels)
        return path

    return make
