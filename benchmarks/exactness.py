"""Counts that must be exact: forwards, constants, labels against a float64 blend, bytes whatever the blocks.

Run: `python benchmarks/exactness.py [--height 1130 --width 1370]`

1. forwards run = tiles of the lattice, for every size of scene, block and number of workers;
2. a network that answers the same everywhere gives that answer at every pixel, corners included;
3. labels equal those of a blend in float64 over whole arrays (`hiresseg.testing.segment_whole`), but where
   the two best classes are within 1e-5;
4. labels are the same bytes whatever the size of the blocks, their order, and the number of workers.

2 is exact to the last bit of an 8-bit probability; 3 and 4 use the small U-Net of `toy_models.py`, untrained.
The last line is one JSON object; ends with 1 if a count is not what it must be.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from toy_models import make_model

from hiresseg.forward import ForwardSetting, place_model
from hiresseg.geometry import TileGrid
from hiresseg.models import Model, StageSpec, load_model
from hiresseg.stages import Source, make_stages, open_work, segment_block, stream
from hiresseg.store import RunStore
from hiresseg.testing import ArrayScene, constant, convolution, segment_whole
from hiresseg.testing import make_model as make_fake

TIE = 1e-5
SIZES = ((1, 1), (64, 512), (512, 513), (577, 1000), (1130, 1370))
CONSTANT = (0.3, 2.0, -1.0, 0.1, 1.9)


def draw_scene(height: int, width: int, seed: int = 0) -> ArrayScene:
    """Coarse shapes and noise, so that labels have boundaries."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (3, -(-height // 24), -(-width // 24)))
    shapes = np.kron(coarse, np.ones((24, 24), np.int64))[:, :height, :width]
    return ArrayScene(np.clip(shapes + rng.integers(-20, 21, shapes.shape), 0, 255).astype(np.uint8))


def collect(scene: ArrayScene, model: Model, setting: ForwardSetting, block_px: int | None) -> np.ndarray:
    """Labels of all windows of a stream, put together; a pixel that comes twice or never is an error."""
    labels = np.zeros((scene.height, scene.width), np.uint8)
    seen = np.zeros(labels.shape, np.uint8)
    for answer in stream(scene, model, setting=setting, block_px=block_px):
        at = np.s_[answer.window.top : answer.window.bottom, answer.window.left : answer.window.right]
        labels[at] = answer.labels
        seen[at] += 1
    assert (seen == 1).all()
    return labels


def count_forwards() -> int:
    """Cases in which more or fewer forwards were run than there are tiles."""
    wrong = 0
    for height, width in SIZES:
        for block_px, workers in ((448, 1), (448, 3), (None, 2)):
            network = convolution(3, 5)
            model = make_fake(network, stages=(StageSpec(0, 512, 64, 16),), num_logits=5)
            collect(draw_scene(height, width), model, ForwardSetting(workers=workers), block_px)
            grid = TileGrid(512, 64, height, width)
            tiles = grid.rows * grid.cols
            wrong += network.num_forwards != tiles
            print(
                f"{height} x {width}, blocks of {block_px or 'any'} px, {workers} workers: "
                f"{network.num_forwards} forwards, {tiles} tiles"
            )
    return wrong


def count_inconstant() -> int:
    """Pixels whose probabilities differ from those of the constant answer."""
    wrong = 0
    expected = np.floor(255 * torch.tensor(CONSTANT).double().softmax(0).numpy() + 0.5).astype(np.uint8)
    for height, width in SIZES:
        model = make_fake(constant(*CONSTANT), stages=(StageSpec(0, 512, 64, 16),), num_logits=len(CONSTANT))
        setting = ForwardSetting(workers=2)
        differing = sum(
            int(
                (
                    (answer.probabilities != expected[:, None, None]).any(axis=0)
                    | (answer.labels != int(np.argmax(CONSTANT)))
                ).sum()
            )
            for answer in stream(draw_scene(height, width), model, setting=setting, probabilities=True)
        )
        wrong += differing
        print(f"constant answer, {height} x {width}: {differing} of {height * width} pixels differ")
    return wrong


def compare_definition(scene: ArrayScene, model: Model) -> dict[str, int]:
    """Labels against the definition: pixels that differ at a tie, and elsewhere."""
    # one layout for both, since the layout of a network decides its last bits
    setting = ForwardSetting(workers=2, channels_last=False)
    labels = collect(scene, model, setting, None)
    place_model(model, setting)
    with torch.inference_mode():
        exact = segment_whole(scene, model)
    second, first = np.sort(exact, axis=0)[-2:]
    differs = labels != exact.argmax(axis=0)
    found = {
        "differ_at_ties": int((differs & (first - second < TIE)).sum()),
        "differ_elsewhere": int((differs & (first - second >= TIE)).sum()),
    }
    print(f"against float64, {labels.size} pixels: {found}; boundaries {count_boundaries(labels)}")
    return found


def count_boundaries(labels: np.ndarray) -> int:
    """Pixels with another class on their right: nothing is shown by a mask of one class."""
    return int((labels[:, 1:] != labels[:, :-1]).sum())


def in_order(scene: ArrayScene, model: Model, block_px: int, order: Iterable[int]) -> np.ndarray:
    """Labels with the blocks computed in a given order."""
    setting = ForwardSetting(workers=1)
    place_model(model, setting)
    labels = np.zeros((scene.height, scene.width), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        source = Source(scene, model, setting, model.spec.mean, model.spec.std, Path(folder))
        stages = make_stages(model.spec, scene, 1, block_px)
        blocks = stages[0].blocks()
        work = open_work(source, stages, 0, RunStore(Path(folder)), blocks)
        for index in order:
            answer = segment_block(work, blocks[index % len(blocks)])
            window = answer.window
            labels[window.top : window.bottom, window.left : window.right] = answer.labels
        work.close()
    return labels


def count_variants(scene: ArrayScene, model: Model) -> int:
    """Ways of cutting and ordering blocks that give other bytes than the first."""
    grid = TileGrid(512, 64, scene.height, scene.width)
    count = len(grid.blocks(448))
    shuffled = np.random.default_rng(0).permutation(count).tolist()
    variants = {
        f"blocks of {block_px} px, {workers} workers": collect(
            scene, model, ForwardSetting(workers=workers), block_px
        )
        for block_px, workers in ((448, 1), (896, 1), (448, 2), (4096, 3))
    }
    variants["blocks of 448 px, last first"] = in_order(scene, model, 448, reversed(range(count)))
    variants["blocks of 448 px, shuffled"] = in_order(scene, model, 448, shuffled)
    first, *_ = variants.values()
    differing = 0
    for name, labels in variants.items():
        differing += not np.array_equal(labels, first)
        print(f"{name}: {int((labels != first).sum())} pixels differ from the first")
    return differing


def main() -> None:
    """Print all counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=1130)
    parser.add_argument("--width", type=int, default=1370)
    arguments = parser.parse_args()
    scene = draw_scene(arguments.height, arguments.width)
    with tempfile.TemporaryDirectory() as folder:
        make_model("unet", Path(folder) / "unet")
        model = load_model(Path(folder) / "unet")
    found = {
        "cases_with_other_forwards": count_forwards(),
        "pixels_not_constant": count_inconstant(),
        **compare_definition(scene, model),
        "variants_with_other_bytes": count_variants(scene, model),
    }
    print(json.dumps(found))
    raise SystemExit(any(value for name, value in found.items() if name != "differ_at_ties"))


if __name__ == "__main__":
    main()
