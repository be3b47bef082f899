"""Cutting against its twin, path by path, by name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg_kernels import reference
from hiresseg_kernels.checks import BANDS
from hiresseg_kernels.cpu import cut_tiles_cpu
from hiresseg_kernels.cut import cut_tiles_triton

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

CORNERS = torch.tensor([[0, 0], [-5, -7], [14, 17], [100, 0], [3, -100], [-3, 20], [2**40, -(2**40)]])
SCALE, SHIFT = torch.tensor([1 / 3, 1e-6, 50.0]), torch.tensor([0.1, 0.0, -1.0])


@pytest.fixture(params=["numba", "triton"])
def cut(request, device):
    """Both paths, on whatever device they run; the answer comes back to the CPU."""
    if request.param == "numba" and device != "cpu":
        pytest.skip("the CPU path has no GPU")

    def run(band, valid, corners, tile_px, scale, shift, out):
        if request.param == "numba":
            cut_tiles_cpu(band, valid, corners, tile_px, scale, shift, out)
        else:
            place = out.to(device)
            inputs = (band, valid, corners, tile_px, scale, shift)
            cut_tiles_triton(
                *(x.to(device) if isinstance(x, torch.Tensor) else x for x in inputs), place, block=(16, 32)
            )
            out.copy_(place)

    return run


def make_band(dtype: torch.dtype) -> torch.Tensor:
    torch.manual_seed(0)
    band = torch.randint(0, 120, (3, 20, 26)).to(dtype)
    if dtype.is_floating_point:
        band[0, 3, 3], band[1, 4, 4], band[2, 5, 5] = float("nan"), float("inf"), float("-inf")
    if dtype == torch.float64:
        band[0, 6, 6] = 1e300
    return band


def nan_tiles(count: int, tile_px: int, dtype=torch.float32, layout=torch.contiguous_format) -> torch.Tensor:
    return torch.full((count, 3, tile_px, tile_px), float("nan"), dtype=dtype).contiguous(
        memory_format=layout
    )


@pytest.mark.parametrize("dtype", BANDS, ids=str)
def test_every_sample_type(cut, dtype):
    if dtype in {torch.uint16, torch.uint32}:
        extreme = {torch.uint16: 65535, torch.uint32: 2**32 - 1}[dtype]
    else:
        extreme = 127
    band = make_band(dtype)
    band[0, 0, 0] = extreme
    valid = torch.rand(20, 26) > 0.1
    valid[0, 0] = True
    got, want = nan_tiles(len(CORNERS), 9), nan_tiles(len(CORNERS), 9)
    cut(band, valid, CORNERS, 9, SCALE, SHIFT, got)
    reference.cut_tiles(band, valid, CORNERS, 9, SCALE, SHIFT, want)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    assert got[0, 0, 0, 0] > extreme / 4
    assert (got[3:5] == 0).all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_output(cut, dtype, layout):
    band = make_band(torch.float32)
    got, want = nan_tiles(len(CORNERS), 12, dtype, layout), nan_tiles(len(CORNERS), 12, dtype)
    cut(band, None, CORNERS, 12, SCALE, SHIFT, got)
    reference.cut_tiles(band, None, CORNERS, 12, SCALE, SHIFT, want)
    # a fused multiply-add may differ in the last bit of the float32 before it is rounded
    torch.testing.assert_close(got, want, rtol=1e-2 if dtype != torch.float32 else 1e-6, atol=1e-6)
    assert got.is_contiguous(memory_format=layout)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    tile_px=st.integers(1, 24),
    corners=st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), min_size=1, max_size=4),
    channels=st.integers(1, 4),
    interleaved=st.booleans(),
    masked=st.booleans(),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_cpu_matches_the_definition(size, tile_px, corners, channels, interleaved, masked, layout):
    # interleaved pixels, as some readers give them, and a mask with gaps between its columns
    band = torch.randint(0, 255, (*size, channels), dtype=torch.uint8).permute(2, 0, 1)
    band = band if interleaved else band.contiguous()
    valid = (torch.rand(size[0], 2 * size[1]) > 0.3)[:, ::2] if masked else None
    scale, shift = torch.rand(channels), torch.rand(channels)
    got = torch.full((len(corners), channels, tile_px, tile_px), float("nan")).contiguous(
        memory_format=layout
    )
    want = got.clone()
    cut_tiles_cpu(band, valid, torch.tensor(corners), tile_px, scale, shift, got)
    reference.cut_tiles(band, valid, torch.tensor(corners), tile_px, scale, shift, want)
    assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_cpu_rounds_as_torch_does(dtype):
    patterns = torch.arange(-(2**31), 2**31, 262139, dtype=torch.int64).to(torch.int32).view(torch.float32)
    edges = [
        65504,
        65519.99,
        65520,
        65536,
        2.0**-14,
        2.0**-14 - 2.0**-26,
        2.0**-24,
        2.0**-25,
        2.0**-25 * 1.001,
        3.0**-25,
        1 + 2.0**-11,
    ]
    numbers = torch.cat([patterns, torch.tensor(edges), -torch.tensor(edges)])
    numbers = torch.where(numbers.isfinite(), numbers, 0.0)
    edge = int(len(numbers) ** 0.5)
    band = numbers[-edge * edge :].view(1, edge, edge)
    out = torch.full((1, 1, edge, edge), float("nan"), dtype=dtype)
    cut_tiles_cpu(band, None, torch.zeros(1, 2, dtype=torch.int64), edge, torch.ones(1), torch.zeros(1), out)
    assert torch.equal(out[0], band.to(dtype))


def test_a_result_that_overflows_is_not_hidden(cut):
    # only samples that are not finite are blanked; a wrong scale has to show
    band = torch.full((3, 4, 4), 1e30)
    out = nan_tiles(1, 4)
    cut(
        band,
        None,
        torch.zeros(1, 2, dtype=torch.int64),
        4,
        torch.tensor([1.0, 1e30, 0.0]),
        torch.zeros(3),
        out,
    )
    assert (out[0, 0] == 1e30).all()
    assert torch.isinf(out[0, 1]).all()
    assert (out[0, 2] == 0).all()


def test_offsets_beyond_two_to_the_31(cut):
    far = torch.empty(5 * 2**30 + 64, dtype=torch.uint8)
    band = far.as_strided((3, 4, 4), (2**31 + 7, 8, 1))
    band.copy_(torch.arange(48).view(3, 4, 4))
    got, want = nan_tiles(1, 4), nan_tiles(1, 4)
    cut(band, None, torch.zeros(1, 2, dtype=torch.int64), 4, SCALE, SHIFT, got)
    reference.cut_tiles(band.clone(), None, torch.zeros(1, 2, dtype=torch.int64), 4, SCALE, SHIFT, want)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", [reference.cut_tiles, cut_tiles_cpu, cut_tiles_triton])
def test_refusals(path):
    # the shape checker of the test run would answer first
    path = getattr(path, "__wrapped__", path)
    corners = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"band must be uint8, .* got int64: convert it first"):
        path(torch.zeros(3, 4, 4, dtype=torch.int64), None, corners, 4, SCALE, SHIFT, nan_tiles(1, 4))
    with pytest.raises(ValueError, match=r"scale must have shape \(3,\), got \(2,\)"):
        path(torch.zeros(3, 4, 4), None, corners, 4, SCALE[:2], SHIFT, nan_tiles(1, 4))
    with pytest.raises(ValueError, match=r"out must have shape \(1, 3, 5, 5\)"):
        path(torch.zeros(3, 4, 4), None, corners, 5, SCALE, SHIFT, nan_tiles(1, 4))
