from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from hiresseg.models import ClassInfo, ModelSpec, NetworkConfig, StageSpec, save_model
from hiresseg.models.cascade import CoarseNet, RefineNet

CLASSES = (ClassInfo("ground", (40, 90, 50)), ClassInfo("thing", (230, 60, 40)))
BANDS = ("red", "green", "blue")


@dataclass(frozen=True)
class Typed:
    """What a typed command gave back."""

    code: int
    out: str
    err: str


def save_toy_model(
    folder: Path, *, scale: float = 1.0, seed: int = 3, pixel_size_m: tuple[float, float] | None = None
) -> Path:
    """A real network of a few hundred weights, tiles of 256 px; a huge `scale` of its weights makes NaN."""
    torch.manual_seed(seed)
    network = CoarseNet(widths=(2, 4)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(scale)
    spec = ModelSpec(
        name=folder.name,
        bands=BANDS,
        classes=CLASSES,
        activation="sigmoid",
        mean=(120.0, 110.0, 100.0),
        std=(50.0, 50.0, 50.0),
        stages=(StageSpec(0, 256, 32, 8),),
        pixel_size_m=pixel_size_m,
        licence="Apache-2.0",
        scores={"val_iou": 0.25},
    )
    save_model(folder, spec, [network], [NetworkConfig("hiresseg", "CoarseNet", {"widths": [2, 4]})])
    return folder


def write_scene(
    path: Path, height: int, width: int, *, bands: int = 3, dtype: str = "uint8", seed: int = 0
) -> Path:
    """Shapes and noise in a tiled GeoTIFF with a place on the map."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (bands, -(-height // 32), -(-width // 32)))
    pixels = np.kron(coarse, np.ones((32, 32), int))[:, :height, :width] + rng.integers(
        0, 50, (bands, height, width)
    )
    profile = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": dtype}
    place = {"crs": "EPSG:32645", "transform": Affine(0.5, 0.0, 300_000.0, 0.0, -0.5, 3_000_000.0)}
    layout = {
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "photometric": "minisblack",
    }
    with rasterio.open(path, "w", **profile, **place, **layout) as dataset:
        dataset.write(pixels.astype(dtype))
    return path


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="session")
def toy_cascade(tmp_path_factory) -> Path:
    """Two stages: at half size everywhere, and at full size where the first is torn."""
    torch.manual_seed(5)
    networks = [CoarseNet(widths=(2, 4)).eval(), RefineNet(widths=(2, 4)).eval()]
    with torch.no_grad():
        # sure of the first class but for a few pixels, so that some tiles are torn and others are not
        networks[0].head.bias.sub_(0.172).mul_(20)
        networks[0].head.weight.mul_(20)
    configs = [NetworkConfig("hiresseg", type(network).__name__, {"widths": [2, 4]}) for network in networks]
    stages = StageSpec(1, 256, 32, 8), StageSpec(0, 256, 32, 8)
    numbers = {"mean": (120.0, 110.0, 100.0), "std": (50.0, 50.0, 50.0), "refine_above": 1.0}
    spec = ModelSpec("steps", BANDS, CLASSES, "sigmoid", stages=stages, **numbers)
    folder = tmp_path_factory.mktemp("models") / "steps"
    save_model(folder, spec, networks, configs)
    return folder


@pytest.fixture(scope="session")
def toy_scene(tmp_path_factory) -> Path:
    """3 x 4 blocks of 448 px, the last ones cut; 6 x 8 tiles."""
    return write_scene(tmp_path_factory.mktemp("scenes") / "scene.tif", 1300, 1700)


@pytest.fixture
def hiresseg(monkeypatch, capfd) -> Iterator[Callable[..., Typed]]:
    """Types a command in this process."""
    from hiresseg_pipelines.cli import main

    def type_command(*words: object) -> Typed:
        monkeypatch.setattr("sys.argv", ["hiresseg", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return Typed(code, out, err)

    threads = torch.get_num_threads()
    yield type_command
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def typed_in_fork() -> Iterator[Callable[..., Typed]]:
    """Types a command in a process of its own, which faults can strike: see fork_server.py."""
    script = Path(__file__).with_name("fork_server.py")
    command = [sys.executable, "-W", "ignore", str(script)]
    # the server must import what the tests import, installed or not
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as server:
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline() == "ready\n"

        def type_command(*words: object, faults: Sequence[dict] = ()) -> Typed:
            request = {"words": [str(word) for word in words], "faults": list(faults)}
            print(json.dumps(request), file=server.stdin, flush=True)
            return Typed(**json.loads(server.stdout.readline()))

        yield type_command
        server.stdin.close()


@pytest.fixture(scope="session")
def finished(typed_in_fork, toy_scene, toy_model, tmp_path_factory) -> Path:
    """The folder of an undisturbed run with confidence, two workers."""
    out = tmp_path_factory.mktemp("finished") / "out"
    typed = typed_in_fork("run", toy_scene, "-m", toy_model, "-o", out, "--confidence", "--workers", 2)
    assert typed.code == 0, typed
    return out


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def result_bytes(folder: Path) -> dict[str, bytes]:
    """Everything that must not depend on what happened on the way: outputs, and the run's shards."""
    names = [folder / "labels.tif", folder / "confidence.tif", folder / "preview.png"]
    shards = sorted(path for path in (folder / "run.zarr").rglob("c/**/*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in [*names, *shards]}
