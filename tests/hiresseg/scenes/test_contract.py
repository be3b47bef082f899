"""Every kind of scene keeps the promises that the engine relies on."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling

from hiresseg.scenes import open_scene
from hiresseg.testing import ArrayScene, SceneContract


def write(path: Path, pixels, *, mask=None, colorinterp=None, overviews=(), **profile) -> Path:
    shape = {"count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
    profile |= shape | {"transform": rasterio.Affine(2, 0, 100, 0, -2, 900), "crs": "EPSG:32633"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", dtype=pixels.dtype, **profile) as dataset,
    ):
        if colorinterp:
            dataset.colorinterp = colorinterp
        dataset.write(pixels)
        if mask is not None:
            dataset.write_mask(mask)
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews(overviews, Resampling.average)
    return path


def noise(shape, low, high, dtype):
    return np.random.default_rng(7).integers(low, high, shape).astype(dtype)


class TestTiledWithMaskAndOverviews(SceneContract):
    def make_scene(self, folder):
        mask = noise((333, 290), 0, 3, bool)
        mask[:130] = False
        tiles = {"tiled": True, "blockxsize": 64, "blockysize": 32, "compress": "deflate"}
        pixels = noise((3, 333, 290), 1, 255, np.uint8)
        return open_scene(write(folder / "a.tif", pixels, mask=mask, overviews=[2, 4], **tiles))


class TestStripedWithNodata(SceneContract):
    def make_scene(self, folder):
        pixels = noise((2, 201, 77), -3, 9000, np.int16)
        return open_scene(write(folder / "a.tif", pixels, nodata=-3, compress="lzw", blockysize=7))


class TestPlanarFloatWithNan(SceneContract):
    def make_scene(self, folder):
        pixels = noise((4, 128, 100), 0, 50, np.float32)
        pixels[pixels == 7] = np.nan
        path = write(folder / "a.tif", pixels, interleave="band", tiled=True, blockxsize=16, blockysize=16)
        return open_scene(path, bands=[3, 1])


class TestAlpha(SceneContract):
    def make_scene(self, folder):
        pixels = noise((4, 90, 140), 0, 255, np.uint8)
        pixels[3] = np.where(pixels[3] > 128, 255, 0)
        colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        return open_scene(write(folder / "a.tif", pixels, colorinterp=colors, photometric="rgb"))


class TestArrayScene(SceneContract):
    pickles = False

    def make_scene(self, folder):
        return ArrayScene(noise((3, 150, 170), 0, 60000, np.uint16), noise((150, 170), 0, 2, bool))
