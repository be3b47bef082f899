"""Networks that are easy to foresee, and what the engine relies on in every network."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from hiresseg.models.spec import Activation, ClassInfo, Model, ModelSpec, Segmenter, StageSpec

Answer = Callable[[Tensor, Tensor | None], Tensor]


class FakeSegmenter:
    """A network whose answer is a plain function, and that remembers what it was shown.

    Args:
        answer: from (images, prior) to logits.
    """

    def __init__(self, answer: Answer) -> None:
        self.images: list[Tensor] = []
        self.priors: list[Tensor | None] = []
        self._answer = answer
        self._showing = threading.Lock()

    @property
    def num_forwards(self) -> int:
        """Times that it was called."""
        return len(self.images)

    def __call__(
        self, images: Float[Tensor, "N C t t"], prior: Float[Tensor, "N K t t"] | None
    ) -> Float[Tensor, "..."]:
        """The answer, kept beside the question."""
        with self._showing:
            self.images.append(images.clone())
            self.priors.append(None if prior is None else prior.clone())
        return self._answer(images, prior)


def constant(*logits: float) -> FakeSegmenter:
    """Answers every pixel with the same logits, one per channel."""
    values = torch.tensor(logits)[None, :, None, None]
    return FakeSegmenter(
        lambda images, _: values.expand(len(images), -1, *images.shape[2:]).to(images.device).clone()
    )


def convolution(
    num_bands: int, num_logits: int, *, kernel_px: int = 1, seed: int = 0, prior_gain: float = 0.0
) -> FakeSegmenter:
    """Answers with one seeded convolution, to which it adds the prior times `prior_gain`."""
    shape = num_logits, num_bands, kernel_px, kernel_px
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    # logits of about 2: neither all alike nor all sure
    weights *= 2 / (num_bands * kernel_px * kernel_px) ** 0.5

    def answer(images: Tensor, prior: Tensor | None) -> Tensor:
        # in float64, so that no blocking of a matrix product can depend on the batch
        logits = torch.nn.functional.conv2d(
            images.double().contiguous(), weights.double(), padding=kernel_px // 2
        ).float()
        return logits if prior is None or not prior_gain else logits + prior_gain * prior

    return FakeSegmenter(answer)


def make_model(
    *segmenters: Segmenter,
    stages: tuple[StageSpec, ...],
    num_logits: int,
    num_bands: int = 3,
    activation: Activation = "softmax",
    refine_above: float = 0.5,
) -> Model:
    """A model of fakes, for scenes of any sample type, that takes pixels as they are."""
    num_classes = num_logits + (activation == "sigmoid")
    spec = ModelSpec(
        name="fake",
        bands=tuple(f"band {n + 1}" for n in range(num_bands)),
        classes=tuple(ClassInfo(f"class {n}", (n % 256, 0, 0)) for n in range(num_classes)),
        activation=activation,
        mean=(0.0,) * num_bands,
        std=(1.0,) * num_bands,
        stages=stages,
        dtypes=("uint8", "uint16", "int16", "float32"),
        refine_above=refine_above,
    )
    return Model(spec, segmenters)


class SegmenterContract:
    """What the engine relies on in every model; sub-class it in a test and give `make_model`."""

    tolerance = 1e-4
    """How far a logit may depend on the other tiles of a batch."""

    def make_model(self) -> Model:
        """The model under test, on the CPU."""
        raise NotImplementedError

    def test_answers_a_logit_per_channel_and_pixel(self) -> None:
        """Every stage answers (N, C, t, t) with finite (N, K, t, t)."""
        model = self.make_model()
        for index, images, prior in self._questions(model):
            logits = _ask(model, index, images, prior)
            assert logits.shape == (len(images), model.spec.num_logits, *images.shape[2:])
            assert logits.is_floating_point()
            assert logits.isfinite().all()

    def test_leaves_its_input_alone(self) -> None:
        """The engine uses its buffers again."""
        model = self.make_model()
        for index, images, prior in self._questions(model):
            before = images.clone(), None if prior is None else prior.clone()
            _ask(model, index, images, prior)
            assert torch.equal(images, before[0])
            assert prior is None or (before[1] is not None and torch.equal(prior, before[1]))

    def test_gives_the_same_answer_twice(self) -> None:
        """A run that goes on ends in the same bytes."""
        model = self.make_model()
        for index, images, prior in self._questions(model):
            assert torch.equal(_ask(model, index, images, prior), _ask(model, index, images, prior))

    def test_looks_at_each_tile_alone(self) -> None:
        """The answer to a tile does not depend on its companions in a batch."""
        model = self.make_model()
        for index, images, prior in self._questions(model):
            both = _ask(model, index, images, prior)
            swapped = _ask(model, index, images.flip(0), None if prior is None else prior.flip(0))
            torch.testing.assert_close(both, swapped.flip(0), rtol=0, atol=self.tolerance)

    def _questions(self, model: Model) -> list[tuple[int, Tensor, Tensor | None]]:
        generator = torch.Generator().manual_seed(0)
        questions: list[tuple[int, Tensor, Tensor | None]] = []
        for index, stage in enumerate(model.spec.stages):
            edges = stage.tile_px, stage.tile_px
            images = torch.randn((2, len(model.spec.bands), *edges), generator=generator)
            prior = torch.rand((2, model.spec.num_logits, *edges), generator=generator) if index else None
            questions.append((index, images, prior))
        return questions


def _ask(model: Model, stage: int, images: Tensor, prior: Tensor | None) -> Tensor:
    with torch.inference_mode():
        return model.segmenters[stage](images, prior).clone()
