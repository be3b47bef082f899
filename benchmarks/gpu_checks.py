"""Every Triton kernel against the twin that defines it, called by name, on a given device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hiresseg_kernels import reference
from hiresseg_kernels.blend import blend_tiles_triton
from hiresseg_kernels.checks import BANDS, NO_ANSWER
from hiresseg_kernels.cut import cut_tiles_triton
from hiresseg_kernels.pool import pool_tiles_triton

TIE = 1e-5
CLASSES = (1, 2, 3, 5, 19)
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_ODD = (float("nan"), float("inf"), float("-inf"), 0.0, 5e-8, 6e4)


@dataclass(frozen=True, slots=True)
class BlendCase:
    """What one call of the blend is given; all on the CPU."""

    name: str
    sources: tuple[Tensor, ...]
    present: Tensor
    row_weights: Tensor
    col_weights: Tensor
    prior: Tensor | None = None
    valid: Tensor | None = None
    activation: str = "softmax"


@dataclass(frozen=True, slots=True)
class Finding:
    """What came out of a case."""

    op: str
    case: str
    complaint: str
    """Empty if it is right."""


def check_all(device: str, *, small: bool) -> list[Finding]:
    """All cases of all ops.

    Args:
        device: where the kernels run; their twins run on the CPU, where a tie goes to the first class.
        small: shapes that an interpreter can bear.
    """
    findings = [Finding("blend", case.name, check_blend(case, device)) for case in blend_cases(small=small)]
    findings.append(Finding("blend", "offsets beyond 2**31", check_far_offsets(device)))
    findings += check_cuts(device, tile_px=9 if small else 129)
    findings += check_pools(device, size_px=40 if small else 3001)
    return findings


def blend_cases(*, small: bool) -> Iterator[BlendCase]:
    """Odd sizes, all types, few and many classes, absent tiles, infinities, both activations, priors."""
    tile_px, overlap_px = (15, 4) if small else (203, 50)
    for classes in CLASSES[:3] if small else CLASSES:
        for dtype in FLOATS[:1] if small else FLOATS:
            case = _blend_case(f"K={classes} {_short(dtype)}", (3, classes, tile_px, overlap_px), dtype)
            yield case
            yield _with_prior(replace(case, name=f"{case.name} sigmoid, prior, gaps", activation="sigmoid"))
            if classes in {3, 19}:
                yield _with_prior(replace(case, name=f"{case.name} softmax, prior, gaps"))
    for dtype in FLOATS:
        case = _blend_case(f"K=3 {_short(dtype)} NaN and infinities", (2, 3, tile_px, overlap_px), dtype)
        odd = torch.tensor(_ODD).to(dtype)
        for source in case.sources:
            places = torch.rand(source.shape) < 0.15
            source[places] = odd[torch.randint(0, len(odd), (int(places.sum()),))]
        yield case
    yield _blend_case("no overlap", (2, 5, tile_px, 0), torch.float32)
    yield _blend_case("half overlap", (2, 5, 2 * overlap_px, overlap_px), torch.float16)
    tiles = torch.randn(4, 3, tile_px, tile_px).contiguous(memory_format=torch.channels_last)
    last = slice(-overlap_px, None)
    views = tiles[1:], tiles[:-1, :, last], tiles[:-1, :, :, last], tiles[:-1, :, last, last]
    yield replace(
        _blend_case("views of one batch, channels last", (3, 3, tile_px, overlap_px), torch.float32),
        sources=views,
        present=torch.ones(3, 4, dtype=torch.uint8),
    )


def check_blend(case: BlendCase, device: str) -> str:
    """Compare labels, confidence and probabilities; what is wrong, or nothing."""
    got, want = _blend(blend_tiles_triton, case, device), _blend(reference.blend_tiles, case, "cpu")
    differs = got[0] != want[0]
    exact = want[2].double()
    if case.activation == "sigmoid":
        exact = torch.cat([torch.full_like(exact[:, :1], 0.5), exact], dim=1)
    if differs.any() and exact.shape[1] > 1:
        first, second = exact.topk(2, dim=1).values.unbind(1)
        differs &= first - second >= TIE
    if differs.any():
        return f"{int(differs.sum())} labels differ where it is no tie"
    if ((got[0] == NO_ANSWER) != (want[0] == NO_ANSWER)).any():
        return "pixels without an answer differ"
    if (got[1].int() - want[1].int()).abs().max() > 1:
        return "confidences differ by more than a step"
    far = (got[2].double() - want[2].double()).abs().max().item()
    return "" if far <= 4e-6 else f"probabilities differ by {far:.1e}"


def check_far_offsets(device: str) -> str:
    """Planes and tiles 4 GiB and more apart, of which only a few pages are touched."""
    far = torch.empty(5 * 2**30 + 64, dtype=torch.float16, device=device)
    case = _blend_case("far", (2, 2, 6, 2), torch.float16)
    case = replace(case, present=torch.ones(2, 4, dtype=torch.uint8))
    own = far.as_strided((2, 2, 6, 6), (2**31 + 2**30, 2**31, 6, 1))
    own.copy_(case.sources[0])
    on_device = replace(case, sources=(own, *(source.to(device) for source in case.sources[1:])))
    got, want = _blend(blend_tiles_triton, on_device, device), _blend(reference.blend_tiles, case, "cpu")
    return "" if torch.equal(got[0], want[0]) else "labels differ"


def check_cuts(device: str, tile_px: int) -> list[Finding]:
    """Every sample type into every float, in both layouts, with corners outside and pixels without data."""
    torch.manual_seed(0)
    corners = torch.tensor([[0, 0], [-5, -7], [14, 17], [9999, 0], [3, -9999], [2**40, -(2**40)]])
    scale, shift = torch.tensor([1 / 3, 1e-6, 50.0]), torch.tensor([0.1, 0.0, -1.0])
    findings = []
    for dtype in BANDS:
        band = torch.randint(0, 120, (3, tile_px + 9, 2 * tile_px)).to(dtype)
        if dtype.is_floating_point:
            band[0, 3, 3], band[1, 4, 4], band[2, 5, 5] = _ODD[:3]
        valid = torch.rand(band.shape[1:]) > 0.1
        for kind in FLOATS:
            for layout in (torch.contiguous_format, torch.channels_last):
                shape = len(corners), 3, tile_px, tile_px
                want = torch.full(shape, torch.nan, dtype=kind).contiguous(memory_format=layout)
                got = want.clone().to(device)
                reference.cut_tiles(band, valid, corners, tile_px, scale, shift, want)
                inputs = (band, valid, corners, scale, shift)
                at = [tensor.to(device) for tensor in inputs]
                cut_tiles_triton(at[0], at[1], at[2], tile_px, at[3], at[4], got)
                steps = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[kind]
                is_same = torch.allclose(got.cpu().float(), want.float(), rtol=steps, atol=steps)
                last = layout == torch.channels_last
                name = f"{_short(dtype)} to {_short(kind)}, channels {'last' if last else 'first'}"
                findings.append(Finding("cut", name, "" if is_same else "tiles differ"))
    return findings


def check_pools(device: str, size_px: int) -> list[Finding]:
    """Footprints that overlap, are clipped, or hold nothing."""
    torch.manual_seed(0)
    findings = []
    for name, values in (
        ("rows", torch.randint(0, 256, (size_px, size_px + 5), dtype=torch.uint8)),
        ("turned", torch.randint(0, 256, (size_px + 5, size_px), dtype=torch.uint8).T),
    ):
        starts = torch.arange(-3, size_px + 10, max(7, size_px // 9))
        spans = torch.stack([starts, starts + size_px // 7], dim=1)
        spans[1, 1] = spans[1, 0]
        got = pool_tiles_triton(*(tensor.to(device) for tensor in (values, spans, spans))).cpu()
        is_same = torch.equal(got, reference.pool_tiles(values, spans, spans))
        findings.append(Finding("pool", name, "" if is_same else "maxima differ"))
    return findings


def _blend(op, case: BlendCase, device: str) -> tuple[Tensor, Tensor, Tensor]:
    count, classes = case.sources[0].shape[:2]
    size = case.row_weights.shape[1]
    labels, confidence = (
        torch.full((count, size, size), 77, dtype=torch.uint8, device=device) for _ in range(2)
    )
    probabilities = torch.full((count, classes, size, size), torch.nan, device=device)
    put = lambda tensor: None if tensor is None else tensor.to(device)
    op(
        *(put(source) for source in case.sources),
        *(put(tensor) for tensor in (case.present, case.row_weights, case.col_weights)),
        prior=put(case.prior), valid=put(case.valid), activation=case.activation,
        labels=labels, confidence=confidence, probabilities=probabilities,
    )  # fmt: skip
    return labels.cpu(), confidence.cpu(), probabilities.cpu()


def _blend_case(name: str, shape: tuple[int, int, int, int], dtype: torch.dtype) -> BlendCase:
    count, classes, tile_px, overlap_px = shape
    torch.manual_seed(0)
    sizes = (tile_px, tile_px), (overlap_px, tile_px), (tile_px, overlap_px), (overlap_px, overlap_px)
    sources = tuple((3 * torch.randn(count, classes, *size)).to(dtype) for size in sizes)
    weights = torch.ones(2, count, tile_px - overlap_px)
    # weights of 0 and of 1 at the ends of the ramp, and a cell without one
    weights[:, :, :overlap_px] = torch.linspace(-0.3, 1.3, overlap_px).clamp(0, 1)
    weights[:, 2::3, :overlap_px] = 1.0
    present = torch.randint(0, 2, (count, 4), dtype=torch.uint8)
    present[0] = 1
    for source, exists in zip(sources, present.T, strict=True):
        source[exists == 0] = torch.nan
    return BlendCase(name, sources, present, *weights)


def _with_prior(case: BlendCase) -> BlendCase:
    count, classes = case.sources[0].shape[:2]
    size = case.row_weights.shape[1]
    return replace(
        case, prior=torch.rand(count, classes, size, size), valid=torch.rand(count, size, size) > 0.2
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
