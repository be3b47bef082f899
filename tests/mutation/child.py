"""Opens damaged files, one after the other: `python child.py FOLDER KIND FIRST LAST`.

FOLDER holds one whole file or model folder per kind. Before each case its number is printed, after it what
became of it; any error that is not hiresseg's own ends the process, which is what the test looks for.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

from mutations import mutate, rng_of

from hiresseg.errors import HiressegError, ModelError, SceneError

ADDRESS_BYTES = 8 << 30
"""Most of it never touched: what is, is measured at the end."""


def look_at_scene(path: Path) -> str:
    """Read all of a scene, at every level that it stores."""
    from hiresseg.geometry import Window
    from hiresseg.scenes import open_scene

    scene = open_scene(path)
    try:
        if scene.height * scene.width > 1 << 24:
            # a header may claim what it likes as long as no one believes it
            scene.read(Window(0, 0, min(512, scene.height), min(512, scene.width)))
            return "opened, and too large to be read whole"
        for level in range(3):
            pixels, valid = scene.read(Window(0, 0, *scene.size_at(level)), level)
            assert pixels.shape == (scene.num_bands, *scene.size_at(level)), pixels.shape
            assert valid is None or valid.shape == pixels.shape[1:]
        scene.fingerprint()
    finally:
        scene.close()
    return "opened"


def look_at_model(path: Path) -> str:
    """Load a model and look at one tile with it."""
    import torch

    from hiresseg.forward import ForwardSetting, run_segmenter
    from hiresseg.models import load_model

    model = load_model(str(path))
    spec = model.spec
    tile_px = spec.stages[-1].tile_px
    if tile_px <= 512:
        images = torch.zeros(1, len(spec.bands), tile_px, tile_px)
        run_segmenter(model.segmenters[-1], images, None, ForwardSetting(), spec.num_logits)
    return "opened"


def run_case(folder: Path, kind: str, number: int) -> str:
    """Damage one file of the kind, and look at it."""
    rng = rng_of(kind, number)
    with tempfile.TemporaryDirectory(dir=folder, prefix="case-") as scratch:
        whole = folder / kind
        # a model is damaged in one of its files
        files = [whole] if whole.is_file() else sorted(path for path in whole.iterdir() if path.is_file())
        victim = files[int(rng.integers(len(files)))]
        way, damaged = mutate(victim.read_bytes(), rng)
        place = Path(scratch) / kind
        if whole.is_file():
            place.write_bytes(damaged)
            look, own = look_at_scene, SceneError
        else:
            shutil.copytree(whole, place)
            (place / victim.name).write_bytes(damaged)
            look, own = look_at_model, ModelError
            models = [path for path in place.iterdir() if path.suffix in {".onnx", ".pt2"}]
            place = models[0] if models else place
        try:
            outcome = look(place)
        except own as error:
            # of a model, the folder's name and that of the file in it
            if kind not in str(error):
                raise AssertionError(f"{error} does not name {place}") from error
            outcome = "refused"
        except HiressegError as error:
            raise AssertionError(f"{type(error).__name__} instead of {own.__name__}: {error}") from error
    return f"{outcome} | {victim.name} {way}"


def main(folder: Path, kind: str, first: int, last: int) -> None:
    """Print a line before and after each case."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    for number in range(first, last):
        print(f"case {number}", flush=True)  # noqa: T201
        print(f"done {number} | {run_case(folder, kind, number)}", flush=True)  # noqa: T201
    from hiresseg_pipelines.timings import peak_memory_bytes

    print(f"peak {peak_memory_bytes()}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
