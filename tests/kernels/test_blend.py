"""The blend against its twin, path by path, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hiresseg_kernels import reference
from hiresseg_kernels.blend import blend_tiles_triton
from hiresseg_kernels.cpu import blend_tiles_cpu

# the interpreter is numpy, which says so when infinities meet
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")


@dataclass(frozen=True, slots=True)
class Case:
    """What one call of the blend is given."""

    sources: tuple[torch.Tensor, ...]
    present: torch.Tensor
    row_weights: torch.Tensor
    col_weights: torch.Tensor
    prior: torch.Tensor | None = None
    valid: torch.Tensor | None = None
    activation: str = "softmax"


@dataclass(frozen=True, slots=True)
class Answer:
    labels: torch.Tensor
    confidence: torch.Tensor | None
    probabilities: torch.Tensor | None


def make_case(count, classes, tile, overlap, *, dtype=torch.float32, seed=0, present=None, **changes) -> Case:
    torch.manual_seed(seed)
    shapes = (tile, tile), (overlap, tile), (tile, overlap), (overlap, overlap)
    sources = tuple((3 * torch.randn(count, classes, *shape)).to(dtype) for shape in shapes)
    weights = torch.ones(2, count, tile - overlap)
    # a ramp with pixels of weight 0 and 1 at its ends, and no ramp in every third cell
    weights[:, :, :overlap] = torch.linspace(-0.3, 1.3, overlap).clamp(0, 1)
    weights[:, 2::3, :overlap] = 1.0
    if present is None:
        present = torch.randint(0, 2, (count, 4), dtype=torch.uint8)
        present[0] = 1
    for source, exists in zip(sources, present.T, strict=True):
        source[exists == 0] = float("nan")
    return Case(sources, present, *weights, **changes)


def with_prior(case: Case) -> Case:
    shape = case.sources[0].shape[:2] + (case.row_weights.shape[1],) * 2
    return replace(case, prior=torch.rand(shape), valid=torch.rand(shape[0], *shape[2:]) > 0.2)


def run(blend, case: Case, *, confidence=True, probabilities=torch.float32, device="cpu", **launch) -> Answer:
    put = lambda tensor: None if tensor is None else tensor.to(device)
    size = case.row_weights.shape[1]
    count, classes = case.sources[0].shape[:2]
    answer = Answer(
        torch.empty(count, size, size, dtype=torch.uint8, device=device),
        torch.empty(count, size, size, dtype=torch.uint8, device=device) if confidence else None,
        torch.empty(count, classes, size, size, dtype=probabilities, device=device)
        if probabilities
        else None,
    )
    blend(
        *(put(source) for source in case.sources), put(case.present),
        put(case.row_weights), put(case.col_weights),
        prior=put(case.prior), valid=put(case.valid), activation=case.activation,
        labels=answer.labels, confidence=answer.confidence, probabilities=answer.probabilities, **launch,
    )  # fmt: skip
    return Answer(
        answer.labels.cpu(),
        *(part if part is None else part.cpu() for part in (answer.confidence, answer.probabilities)),
    )


def assert_same(got: Answer, want: Answer, case: Case) -> None:
    """Equal labels, but where float32 cannot tell; everything else within rounding."""
    differ = got.labels != want.labels
    if differ.any():
        exact = want.probabilities.double()
        if case.activation == "sigmoid":
            exact = torch.cat([torch.full_like(exact[:, :1], 0.5), exact], dim=1)
        first, second = exact.topk(2, dim=1).values.unbind(1) if exact.shape[1] > 1 else (exact[:, 0], 0)
        assert ((first - second)[differ] < 1e-5).all()
        assert differ.double().mean() < 0.01
        assert ((got.labels == 255) == (want.labels == 255)).all()
    if got.confidence is not None:
        assert (got.confidence.int() - want.confidence.int()).abs().max() <= 1
        assert ((got.confidence == 255) == (got.labels == 255)).all()
    if got.probabilities is not None:
        slack = 1 if got.probabilities.dtype == torch.uint8 else 2e-6
        assert torch.isfinite(got.probabilities.double()).all()
        assert (got.probabilities.double() - want.probabilities.double()).abs().max() <= slack


def check(blend, case: Case, **options) -> Answer:
    got = run(blend, case, **options)
    options = {name: value for name, value in options.items() if name == "probabilities"}
    assert_same(got, run(reference.blend_tiles, case, **options), case)
    return got


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 5),
    classes=st.sampled_from([1, 2, 3, 4, 5, 6, 7, 19, 64]),
    stride=st.integers(1, 40),
    share=st.floats(0, 1),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    activation=st.sampled_from(["softmax", "sigmoid"]),
    prior=st.booleans(),
    quantised=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_cpu_matches_the_definition(count, classes, stride, share, dtype, activation, prior, quantised, seed):
    overlap = int(share * stride)
    case = make_case(count, classes, stride + overlap, overlap, dtype=dtype, seed=seed, activation=activation)
    case = with_prior(case) if prior else case
    got = check(blend_tiles_cpu, case, probabilities=torch.uint8 if quantised else torch.float32)
    labels_alone = run(blend_tiles_cpu, case, confidence=False, probabilities=None)
    assert torch.equal(labels_alone.labels, got.labels)


def test_cpu_patches_and_stretches():
    # wide enough for more than one patch in every rectangle, and with rows that do not fill the last
    case = make_case(2, 3, 301, 60, present=torch.ones(2, 4, dtype=torch.uint8))
    check(blend_tiles_cpu, case)
    check(blend_tiles_cpu, with_prior(replace(case, activation="sigmoid")))


@pytest.mark.parametrize(
    ("classes", "dtype", "activation", "prior"),
    [
        (1, torch.float32, "softmax", False),
        (1, torch.float16, "sigmoid", True),
        (2, torch.bfloat16, "softmax", True),
        (3, torch.float32, "sigmoid", False),
        (5, torch.float16, "softmax", False),
        (5, torch.float32, "softmax", True),
        (7, torch.bfloat16, "sigmoid", True),
    ],
)
def test_triton_matches_the_definition(device, classes, dtype, activation, prior):
    case = make_case(3, classes, 37, 11, dtype=dtype, activation=activation)
    case = with_prior(case) if prior else case
    got = check(
        blend_tiles_triton,
        case,
        device=device,
        block=(16, 32),
        probabilities=torch.uint8 if prior else torch.float32,
    )
    labels_alone = run(
        blend_tiles_triton, case, device=device, block=(16, 32), confidence=False, probabilities=None
    )
    assert torch.equal(labels_alone.labels, got.labels)


def test_triton_many_classes(device):
    # one program, since the interpreter pays by the program and the plane
    case = make_case(1, 19, 24, 8, present=torch.ones(1, 4, dtype=torch.uint8))
    case.row_weights[:, :8] = case.col_weights[:, :8] = torch.linspace(-0.3, 1.3, 8).clamp(0, 1)
    check(blend_tiles_triton, case, device=device, block=(16, 16))


@pytest.mark.parametrize("block", [(4, 8), (64, 64)])
def test_triton_blocks_do_not_change_the_answer(device, block):
    case = make_case(1, 3, 23, 7, present=torch.ones(1, 4, dtype=torch.uint8))
    check(blend_tiles_triton, case, device=device, block=block)


@pytest.fixture(params=["numba", "triton"])
def blend(request, device):
    """Both paths, on whatever device they run."""
    if request.param == "numba":
        if device != "cpu":
            pytest.skip("the CPU path has no GPU")
        return lambda case, **options: run(blend_tiles_cpu, case, **options)
    return lambda case, **options: run(blend_tiles_triton, case, device=device, block=(32, 32), **options)


def all_present(count: int) -> torch.Tensor:
    return torch.ones(count, 4, dtype=torch.uint8)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_no_overlap(blend, activation):
    case = make_case(3, 5, 17, 0, present=all_present(3), activation=activation)
    got = blend(case)
    assert_same(got, run(reference.blend_tiles, case), case)
    greatest, first = case.sources[0].max(dim=1)
    want = first if activation == "softmax" else torch.where(greatest < 0, 0, first + 1)
    assert torch.equal(got.labels.long(), want)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_nan_and_infinities(blend, dtype, activation):
    case = make_case(2, 3, 24, 8, dtype=dtype, present=all_present(2), activation=activation)
    odd = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0, 5e-8, 6e4]).to(dtype)
    for source in case.sources:
        places = torch.rand(source.shape) < 0.15
        source[places] = odd[torch.randint(0, len(odd), (int(places.sum()),))]
    got = blend(case)
    assert (got.labels == 255).any()
    assert (got.labels != 255).any()
    assert_same(got, run(reference.blend_tiles, case), case)


def test_one_infinite_logit_is_certain(blend):
    case = make_case(1, 3, 4, 0, present=all_present(1))
    case.sources[0][:] = 0.0
    case.sources[0][0, 2] = float("inf")
    got = blend(case)
    assert (got.labels == 2).all()
    assert (got.confidence == 254).all()
    assert torch.allclose(got.probabilities[0, :, 0, 0], torch.tensor([0.0, 0.0, 1.0]))


def test_ties_go_to_the_first_class(blend):
    case = make_case(1, 6, 12, 4, present=all_present(1))
    for source in case.sources:
        source[:] = 1.0
        source[:, 3:5] = 2.0
    assert (blend(case).labels == 3).all()


def test_sources_of_weight_zero_are_not_read(blend):
    case = make_case(2, 3, 24, 8, present=all_present(2))
    clean = blend(case)
    for weights, axis, source in ((case.row_weights, 2, 1), (case.col_weights, 3, 2)):
        never = (weights[1, :8] == 1).nonzero().flatten()
        case.sources[source][1].index_fill_(axis - 1, never, float("nan"))
    again = blend(case)
    assert torch.equal(clean.labels, again.labels)
    assert torch.equal(clean.probabilities, again.probabilities)
    assert (again.labels != 255).all()


def test_weights_beyond_the_overlap_do_not_count(blend):
    case = make_case(1, 3, 20, 6, present=all_present(1))
    want = blend(case)
    case.row_weights[:, 6:] = float("nan")
    case.col_weights[:, 6:] = 0.25
    assert torch.equal(blend(case).labels, want.labels)


def test_nothing_present_has_no_answer(blend):
    case = make_case(2, 3, 16, 4, present=torch.zeros(2, 4, dtype=torch.uint8))
    got = blend(case)
    assert (got.labels == 255).all()
    assert (got.confidence == 255).all()
    assert (got.probabilities == 0).all()


def test_the_prior_answers_for_absent_tiles(blend):
    case = make_case(1, 3, 16, 4, present=torch.zeros(1, 4, dtype=torch.uint8))
    case = replace(case, prior=torch.rand(1, 3, 12, 12))
    got = blend(case)
    assert torch.equal(got.labels.long(), case.prior.argmax(dim=1))
    assert torch.allclose(got.probabilities, case.prior)


def test_a_prior_that_is_not_needed_is_not_read(blend):
    case = make_case(1, 3, 16, 4, present=all_present(1))
    want = blend(case)
    got = blend(replace(case, prior=torch.full((1, 3, 12, 12), float("nan"))))
    assert torch.equal(got.labels, want.labels)
    assert (got.labels != 255).all()


def test_a_constant_map_stays_constant(blend):
    case = make_case(2, 4, 32, 16, present=all_present(2))
    for source in case.sources:
        source[:] = torch.tensor([0.1, -1.0, 2.0, 0.3])[None, :, None, None]
    got = blend(case)
    assert got.probabilities[0, 0].max() - got.probabilities[0, 0].min() < 1e-6
    assert (got.confidence == got.confidence[0, 0, 0]).all()


def test_views_of_one_batch(blend):
    # as an engine passes them: neighbours in one batch, answers into windows of a larger image, channels last
    torch.manual_seed(1)
    tiles = torch.randn(5, 3, 24, 24).contiguous(memory_format=torch.channels_last)
    sources = tiles[1:], tiles[:-1, :, -8:], tiles[:-1, :, :, -8:], tiles[:-1, :, -8:, -8:]
    case = make_case(4, 3, 24, 8, present=all_present(4))
    case = replace(case, sources=sources)
    dense = replace(case, sources=tuple(source.contiguous() for source in sources))
    assert torch.equal(blend(case).labels, blend(dense).labels)
    assert_same(blend(case), run(reference.blend_tiles, case), case)


@pytest.mark.parametrize("path", [blend_tiles_cpu, blend_tiles_triton])
def test_answers_into_strided_views(path, device):
    if path is blend_tiles_cpu and device != "cpu":
        pytest.skip("the CPU path has no GPU")
    case = with_prior(make_case(4, 3, 24, 8, present=all_present(4)))
    want = run(reference.blend_tiles, case)
    canvas = torch.full((16, 64), 9, dtype=torch.uint8, device=device)
    sideways = torch.full((64, 16), 9, dtype=torch.uint8, device=device)
    planes = torch.full((16, 64, 3), 9.0, device=device)
    cells = lambda image: image.unflatten(1, (4, 16)).movedim(1, 0)
    views = Answer(cells(canvas), cells(sideways.T), planes.unflatten(1, (4, 16)).permute(1, 3, 0, 2))
    inputs = (*case.sources, case.present, case.row_weights, case.col_weights)
    path(
        *(part.to(device) for part in inputs), prior=case.prior.to(device), valid=case.valid.to(device),
        labels=views.labels, confidence=views.confidence, probabilities=views.probabilities,
    )  # fmt: skip
    got = Answer(views.labels.cpu(), views.confidence.cpu(), views.probabilities.cpu())
    assert_same(got, want, case)


def test_offsets_beyond_two_to_the_31(blend):
    # planes and cells 2 ** 32 bytes and more apart: only the touched pages ever become real
    far = torch.empty(5 * 2**30 + 64, dtype=torch.float16)
    own = far.as_strided((2, 2, 6, 6), (2**31 + 2**30, 2**31, 6, 1))
    case = make_case(2, 2, 6, 2, dtype=torch.float16, present=all_present(2))
    near = case.sources[0].clone()
    own.copy_(near)
    got = blend(replace(case, sources=(own, *case.sources[1:])))
    assert_same(got, run(reference.blend_tiles, case), case)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation": "tanh"}, "activation must be 'softmax' or 'sigmoid', got 'tanh'"),
        ({"row_weights": torch.ones(2, 5)}, r"row_weights must have shape \(2, 12\), got \(2, 5\)"),
        ({"present": torch.ones(2, 4)}, "present must be uint8, got float32"),
        ({"col_weights": torch.ones(2, 12, dtype=torch.float64)}, "col_weights must be float32, got float64"),
    ],
)
@pytest.mark.parametrize("path", [reference.blend_tiles, blend_tiles_cpu, blend_tiles_triton])
def test_refusals(path, change, words, monkeypatch):
    case = replace(make_case(2, 3, 16, 4), **change)
    # the shape checker of the test run would answer first
    path = getattr(path, "__wrapped__", path)
    with pytest.raises(ValueError, match=words):
        path(
            *case.sources, case.present, case.row_weights, case.col_weights, activation=case.activation,
            labels=torch.empty(2, 12, 12, dtype=torch.uint8),
        )  # fmt: skip


@pytest.mark.parametrize(("classes", "activation"), [(256, "softmax"), (255, "sigmoid")])
def test_labels_above_254_are_refused(classes, activation):
    case = make_case(1, classes, 2, 0, activation=activation)
    with pytest.raises(ValueError, match="labels must lie between 0 and 254"):
        run(blend_tiles_cpu, case)
