from __future__ import annotations

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from hiresseg.geometry import Window
from hiresseg.training.crops import CropRule, Strip, halve, read_strip


def blobs(height=96, width=128):
    """Labels with an unknown corner, an image that shows them, a prior that tells them."""
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = (((rows // 24 + cols // 24) % 2) & (rows > 20)).to(torch.uint8)
    shown = 40 + 200 * labels
    labels[80:, 100:] = 255
    image = torch.stack([shown, 255 - shown, torch.full_like(shown, 100)])
    return Strip(image, labels, shown[None])


@given(
    seed=st.integers(0, 10_000),
    pixel_px=st.sampled_from([1.0, 2.0, 3.3]),
    native=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=10, deadline=None)
def test_image_label_and_prior_of_a_view_stay_together(seed, pixel_px, native):
    rule = CropRule(32, pixel_px, native_share=native)
    crops = blobs().draw(rule, 3, default_rng(seed))
    known = crops.labels != 255
    assert torch.equal(known, crops.valid[:, 0] == 1)
    assert (crops.images.permute(0, 2, 3, 1)[~known] == 0).all()
    shown, true = crops.images[:, 0][known], crops.labels[known] == 1
    # where two colours meet the mean may round to either side
    clear = (shown - 140).abs() > 4
    assert torch.equal(shown[clear] > 140, true[clear])
    torch.testing.assert_close(crops.priors[:, 0][known] * 255, shown, rtol=0, atol=1e-3)
    torch.testing.assert_close(crops.images[:, 2][known], torch.full_like(shown, 100), rtol=0, atol=0.01)


def test_the_same_generator_gives_the_same_views():
    strip, rule = blobs(), CropRule(32)
    first, second = (strip.draw(rule, 4, default_rng(7)) for _ in range(2))
    other = strip.draw(rule, 4, default_rng(8))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert not torch.equal(first.images, other.images)


def test_views_are_turned_and_mirrored_every_way():
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    # brighter to the right, and less so downwards: each of the eight ways has other gradients
    image[0] = (torch.arange(64) * 3)[None] + torch.arange(64)[:, None]
    strip = Strip(image, torch.zeros(64, 64, dtype=torch.uint8))
    views = strip.draw(CropRule(8, zoom=(1.0, 1.0), cutout_share=0.0), 200, default_rng(0)).images[:, 0]
    down = (views[:, 5, 3] - views[:, 3, 3]) / 2
    right = (views[:, 3, 5] - views[:, 3, 3]) / 2
    found = {
        (round(a), round(b))
        for a, b in zip(down.tolist(), right.tolist(), strict=True)
        if max(abs(a - round(a)), abs(b - round(b))) < 0.2
    }
    assert {(a, b) for a, b in found if {abs(a), abs(b)} == {1, 3}} == {
        (p * a, q * b) for a, b in ((1, 3), (3, 1)) for p in (1, -1) for q in (1, -1)
    }


def test_views_at_coarse_pixels_are_means_and_no_speckle():
    image = (torch.arange(128)[None] + torch.arange(128)[:, None]) % 2 * 255
    strip = Strip(image.to(torch.uint8).expand(3, -1, -1), torch.zeros(128, 128, dtype=torch.uint8))
    rule = CropRule(16, 4.0, zoom=(0.8, 1.5), cutout_share=0.0)
    crops = strip.draw(rule, 8, default_rng(0))
    seen = crops.images[:, 0][crops.valid[:, 0] == 1]
    assert seen.numel() > 500
    assert (seen - 127.5).abs().max() < 2


def test_blanked_rectangles_are_unknown():
    strip = Strip(torch.full((3, 128, 128), 90, dtype=torch.uint8), torch.zeros(128, 128, dtype=torch.uint8))
    unknown = {
        share: (strip.draw(CropRule(24, cutout_share=share), 20, default_rng(0)).labels == 255).sum().item()
        for share in (0.0, 1.0)
    }
    assert unknown[1.0] > unknown[0.0] + 200


def test_halving_leaves_out_an_odd_edge():
    plane = torch.tensor([[[0, 4, 9], [8, 12, 9], [9, 9, 9]]], dtype=torch.uint8)
    assert halve(plane).tolist() == [[[6]]]


def write_raster(path, array):
    count, height, width = array.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": array.dtype}
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32645", transform=rasterio.Affine(2, 0, 7, 0, -2, 9)
    ) as out:
        out.write(array)


def test_a_window_of_a_raster_pair(tmp_path):
    image = default_rng(0).integers(0, 255, (3, 20, 30), dtype=np.uint8)
    write_raster(tmp_path / "image.tif", image)
    write_raster(tmp_path / "labels.tif", image[:1] % 2)
    pixels, labels = read_strip(
        str(tmp_path / "image.tif"), str(tmp_path / "labels.tif"), Window(3, 5, 10, 20)
    )
    assert np.array_equal(pixels.numpy(), image[:, 3:13, 5:25])
    assert np.array_equal(labels.numpy(), image[0, 3:13, 5:25] % 2)


def test_rasters_that_do_not_belong_together_are_refused(tmp_path):
    write_raster(tmp_path / "image.tif", np.zeros((3, 20, 30), np.uint8))
    write_raster(tmp_path / "labels.tif", np.zeros((1, 20, 31), np.uint8))
    with pytest.raises(ValueError, match=r"one size.*labels\.tif"):
        read_strip(str(tmp_path / "image.tif"), str(tmp_path / "labels.tif"), Window(0, 0, 4, 4))
