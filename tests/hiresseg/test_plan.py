"""What a run will take, against counting by hand and against a run."""

from __future__ import annotations

import numpy as np
import pytest

from hiresseg.errors import ResourceError
from hiresseg.forward import Calibration, ForwardSetting
from hiresseg.models import StageSpec
from hiresseg.plan import plan_run
from hiresseg.stages import make_stages, stream
from hiresseg.testing import ArrayScene, constant, make_model

SETTING = ForwardSetting(workers=2)


def plan_of(scene, model, *, confidence=False, setting=SETTING, tile_seconds=0.5):
    stages = make_stages(model.spec, scene, setting.workers)
    calibration = Calibration(setting, (tile_seconds,) * len(stages), ())
    return plan_run(scene, stages, calibration, num_logits=model.spec.num_logits, confidence=confidence)


def scene_of(height, width):
    return ArrayScene(np.broadcast_to(np.uint8(1), (3, height, width)))


def test_counts_what_a_run_does():
    network = constant(0.0, 1.0)
    model = make_model(network, stages=(StageSpec(0, 256, 16),), num_logits=2)
    scene = scene_of(700, 1000)
    plan = plan_of(scene, model)
    answers = list(stream(scene, model, setting=SETTING))
    (stage,) = plan.stages
    assert stage.tiles == network.num_forwards == 3 * 5
    assert stage.blocks == len(answers)
    assert stage.read_bytes == plan.scene_bytes == scene.bytes_decoded == 3 * 700 * 1000
    assert stage.seconds == plan.seconds == 7.5


def test_adds_up_the_stages_of_a_cascade():
    model = make_model(
        constant(0.0, 1.0),
        constant(0.0, 1.0),
        stages=(StageSpec(2, 32, 16), StageSpec(0, 64, 16)),
        num_logits=2,
    )
    plan = plan_of(scene_of(1000, 401), model)
    coarse, fine = plan.stages
    assert (coarse.height, coarse.width, coarse.level) == (250, 101, 2)
    assert coarse.tiles == 15 * 6
    assert fine.tiles == 21 * 9
    assert plan.seconds == 0.5 * (90 + 189)
    # labels and probabilities of the first stage are on disk, beside the answer
    alone = plan_of(
        scene_of(1000, 401), make_model(constant(0.0, 1.0), stages=(StageSpec(0, 64, 16),), num_logits=2)
    )
    assert plan.disk_bytes - alone.disk_bytes == 3 * 250 * 101


def test_memory_does_not_grow_with_the_scene():
    model = make_model(constant(0.0, 1.0), stages=(StageSpec(0, 256, 32),), num_logits=2)
    small, large = (plan_of(scene_of(edge, edge), model) for edge in (20_000, 60_000))
    differing = {name for name in small.memory if small.memory[name] != large.memory[name]}
    # this process may have grown, and the writer of the final file holds a row of its tiles
    assert differing <= {"imports, model, and a forward in each worker", "writing the GeoTIFF"}
    assert large.memory["writing the GeoTIFF"] - small.memory["writing the GeoTIFF"] < 64 << 20


def test_every_worker_and_every_answer_takes_memory():
    model = make_model(constant(0.0, 1.0), stages=(StageSpec(0, 256, 32),), num_logits=2)
    scene = scene_of(30_000, 30_000)

    def blocks_bytes(plan):
        return next(size for name, size in plan.memory.items() if name.startswith("blocks under way"))

    one, two = (blocks_bytes(plan_of(scene, model, setting=ForwardSetting(workers=n))) for n in (1, 2))
    assert two == 2 * one
    assert blocks_bytes(plan_of(scene, model, confidence=True)) > two


def test_what_does_not_fit_is_refused_with_the_sum():
    model = make_model(constant(0.0, 1.0), stages=(StageSpec(0, 256, 32),), num_logits=2)
    plan = plan_of(scene_of(1000, 1000), model)
    plan.check_memory(None)
    plan.check_memory(plan.memory_bytes)
    with pytest.raises(ResourceError) as refused:
        plan.check_memory(plan.memory_bytes - 1)
    message = str(refused.value)
    assert f"needs {plan.memory_bytes / 2**20:,.0f} MiB" in message
    assert all(name in message for name in plan.memory)
    assert "--workers" in message
