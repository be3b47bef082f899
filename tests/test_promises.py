"""The sentences of the README, one test each."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

import hiresseg
from hiresseg.forward import ForwardSetting
from hiresseg.geometry import Window
from hiresseg.models import StageSpec, load_model
from hiresseg.stages import (
    Source,
    make_stages,
    open_work,
    segment_block,
    stage_arrays,
    stage_layouts,
    stream,
)
from hiresseg.store import RunStore
from hiresseg.testing import ArrayScene, constant, convolution, make_model

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SIZE = 1000, 1100
ONE = (StageSpec(0, 256, 16, 2),)
TWO = (StageSpec(1, 64, 16, 2), StageSpec(0, 256, 16, 2))


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def patchy_scene() -> ArrayScene:
    """Regions, noise, and a place without data."""
    generator = np.random.default_rng(0)
    coarse = generator.normal(0, 2, (3, 25, 28))
    pixels = np.kron(coarse, np.ones((1, 40, 40)))[:, : SIZE[0], : SIZE[1]] + generator.normal(
        0, 0.5, (3, *SIZE)
    )
    valid = np.ones(SIZE, bool)
    valid[400:700, 100:500] = False
    return ArrayScene(pixels.astype(np.float32), valid)


class SmallNet(torch.nn.Module):
    """A real network: strides, normalisation, upsampling, all in single precision."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, images, prior):
        features = torch.relu(self.norm(self.down(images)))
        logits = torch.nn.functional.interpolate(self.head(features), scale_factor=2.0, mode="bilinear")
        return logits if prior is None else logits + prior


def cascade_of_nets():
    return make_model(SmallNet().eval(), SmallNet().eval(), stages=TWO, num_logits=3, refine_above=0.9)


def paint(answers):
    labels, confidence = np.full(SIZE, 99, np.uint8), np.full(SIZE, 99, np.uint8)
    for answer in answers:
        part = answer.window.slices_in(Window(0, 0, *SIZE))
        labels[part], confidence[part] = answer.labels, answer.confidence
    return labels, confidence


def test_neither_blocks_nor_workers_change_the_answer():
    scene, model = patchy_scene(), cascade_of_nets()
    pictures = [
        paint(
            stream(scene, model, confidence=True, setting=ForwardSetting(workers=workers), block_px=block_px)
        )
        for workers, block_px in ((1, 480), (2, 480), (2, 960), (1, 1440))
    ]
    assert len(np.unique(pictures[0][0])) == 4
    for labels, confidence in pictures[1:]:
        np.testing.assert_array_equal(labels, pictures[0][0])
        np.testing.assert_array_equal(confidence, pictures[0][1])


class Process:
    """What one process does of a run in a folder, block after block, until it is killed."""

    def __init__(self, folder: Path) -> None:
        self.scene = patchy_scene()
        fine = convolution(3, 3, kernel_px=3, prior_gain=2.0)
        self.model = make_model(convolution(3, 3), fine, stages=TWO, num_logits=3, refine_above=0.9)
        self.stages = make_stages(self.model.spec, self.scene, 2, 480)
        self.store = RunStore(folder)
        layouts = stage_layouts(self.stages, 3, confidence=True)
        self.store.resume(layouts) if self.store.exists() else self.store.create({}, layouts)

    def run(self, blocks_to_live: int) -> bool:
        """Whether the run was finished within so many blocks."""
        mean, std = self.model.spec.mean, self.model.spec.std
        setting = ForwardSetting()
        source = Source(self.scene, self.model, setting, mean, std, self.store.scratch, with_confidence=True)
        for stage in self.stages:
            finished = self.store.finished_blocks()
            pending = [b for b in stage.blocks() if (stage.index, b.row, b.col) not in finished]
            if not pending:
                continue
            work = open_work(source, self.stages, stage.index, self.store, pending)
            for block in pending:
                if not blocks_to_live:
                    return False
                answer = segment_block(work, block)
                self.store.finish_block(stage.index, block, stage_arrays(stage, answer), {})
                blocks_to_live -= 1
            work.close()
        return True

    def files(self) -> dict[str, bytes]:
        """All shards, by name."""
        group = self.store.group
        return {str(p.relative_to(group)): p.read_bytes() for p in group.rglob("c/**/*") if p.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    process = Process(tmp_path_factory.mktemp("undisturbed"))
    assert process.run(1000)
    return process.files()


@pytest.mark.parametrize("blocks_to_live", [0, 1, 2, 5, 9])
def test_a_run_killed_after_any_block_goes_on_to_the_same_bytes(tmp_path, undisturbed, blocks_to_live):
    assert not Process(tmp_path).run(blocks_to_live)
    process = Process(tmp_path)
    # again and again, each time a little further
    assert not process.run(1)
    assert Process(tmp_path).run(1000)
    assert process.files() == undisturbed
    assert {name.split("/")[0] for name in undisturbed} == {"labels", "confidence", "stages"}


def test_a_run_that_lost_a_shard_goes_on_to_the_same_bytes(tmp_path, undisturbed):
    process = Process(tmp_path)
    process.run(1000)
    damaged = process.store.arrays["labels"].shard_path(1, 1)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert Process(tmp_path).run(1)
    assert process.files() == undisturbed


@pytest.mark.parametrize("size", [(1, 1), (256, 256), (257, 255), (480, 1000)], ids=str)
def test_a_constant_model_gives_a_constant_map(size):
    model = make_model(constant(0.1, 0.4, 0.2), stages=ONE, num_logits=3)
    answers = list(stream(ArrayScene(np.ones((3, *size), np.uint8)), model, confidence=True))
    assert {label for answer in answers for label in np.unique(answer.labels)} == {1}
    assert len({sure for answer in answers for sure in np.unique(answer.confidence)}) == 1


def test_the_same_stage_twice_is_a_cascade_that_looks_everywhere():
    scene = patchy_scene()
    twice = make_model(
        convolution(3, 3, seed=5), convolution(3, 3), stages=(ONE[0], ONE[0]), num_logits=3, refine_above=0.0
    )
    once = make_model(convolution(3, 3), stages=ONE, num_logits=3)
    labels = [paint(stream(scene, model, confidence=True))[0] for model in (once, twice)]
    np.testing.assert_array_equal(*labels)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The README's first command as it stands there, but for the folder that it writes to."""
    command = code_blocks("bash")[0].split("&&")[-1]
    program, *arguments = shlex.split(command)
    assert Path(program).name == "hiresseg"
    folder = tmp_path_factory.mktemp("first") / "out"
    typed = shlex.join([sys.executable, "-m", "hiresseg_pipelines.cli", *arguments, "-o", str(folder)])
    # through a shell that stays: Linux counts the memory of whoever starts a program into that program's
    # peak, and these tests take more than a run
    done = subprocess.run(
        ["/bin/sh", "-c", f"{typed}; exit $?"],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_first_command_writes_what_the_readme_lists(first_run):
    listed = set(re.findall(r"^\| `([\w.]+)` \|", README, re.MULTILINE)) - {"confidence.tif"}
    assert listed >= {"labels.tif", "preview.png", "report.json", "run.zarr"}
    assert {path.name for path in first_run.iterdir() if not path.name.startswith(".")} == listed


def test_the_mask_lies_where_the_scene_lies(first_run):
    with (
        rasterio.open(ROOT / "examples/banepa.tif") as scene,
        rasterio.open(first_run / "labels.tif") as mask,
    ):
        assert mask.shape == scene.shape
        assert mask.transform == scene.transform
        assert mask.crs == scene.crs
        assert mask.nodata == 255


def test_memory_stays_under_what_the_plan_said(first_run):
    memory = json.loads((first_run / "report.json").read_text())["memory"]
    assert memory["peak_bytes"] <= memory["planned_bytes"] == sum(memory["planned"].values())


def test_the_readmes_windows_are_the_mask(first_run, monkeypatch):
    (code,) = [block for block in code_blocks("python") if "hiresseg.stream" in block]
    monkeypatch.chdir(ROOT)
    answers, real = [], hiresseg.stream

    def keep(*arguments, **options):
        for answer in real(*arguments, **options):
            answers.append(answer)
            yield answer

    monkeypatch.setattr("hiresseg.stages.stream", keep)
    with redirect_stdout(io.StringIO()) as said:
        exec(compile(code, "README.md", "exec"), {})
    assert said.getvalue().count("Window(") == len(answers)
    with rasterio.open(first_run / "labels.tif") as dataset:
        mask = dataset.read(1)
    labels = np.full(mask.shape, 99, np.uint8)
    for answer in answers:
        labels[answer.window.slices_in(Window(0, 0, *mask.shape))] = answer.labels
    # the run chose its threads and layout by measuring: the last bits of a logit may differ
    assert (labels != mask).mean() < 1e-4


def test_what_save_pretrained_writes_is_a_model(tmp_path, monkeypatch):
    (code,) = [block for block in code_blocks("python") if "save_pretrained" in block]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    model = load_model(tmp_path / "my-model")
    assert len(model.spec.classes) == 4
    assert sum(len(part) for part in code_blocks("bash") if "--model my-model" in part) > 0
