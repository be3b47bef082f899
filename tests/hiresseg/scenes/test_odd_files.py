"""Hundreds of files that broke other readers: each is read as GDAL reads it or refused, and none hangs.

`odd_files.json` keeps what became of each; `python tests/hiresseg/scenes/test_odd_files.py FOLDER` prints it.
"""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.scenes import open_scene
from hiresseg_pipelines.timings import peak_memory_bytes

WINDOW_PX = 300
MEMORY_BYTES = 6 << 30
"""Address space, of which most is never touched."""
RESIDENT_BYTES = 700 << 20
SECONDS = 50
KEPT = Path(__file__).with_name("odd_files.json")


def test_odd_real_files_end_as_they_did(shared_data):
    done = subprocess.run(
        [sys.executable, __file__, str(shared_data / "robust")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    found, kept = json.loads(done.stdout.splitlines()[-1]), json.loads(KEPT.read_text())
    assert found["peak_bytes"] < RESIDENT_BYTES
    assert found["files"].keys() == kept["files"].keys()
    if found["gdal"] == kept["gdal"]:
        assert found["files"] == kept["files"]
    # other versions may round or refuse otherwise, but not much
    assert sum(outcome.startswith("read") for outcome in found["files"].values()) > 350


def outcome_of(path: Path) -> str:
    """What becomes of a file, in one line; an error that is no SceneError ends this process."""
    try:
        scene = open_scene(path)
        window = Window(0, 0, min(WINDOW_PX, scene.height), min(WINDOW_PX, scene.width))
        pixels, valid = scene.read(window)
        scene.fingerprint()
        scene.close()
    except SceneError as error:
        if str(path) not in str(error):
            raise AssertionError(f"{error} does not name {path}") from error
        return "refused: " + _without_place(str(error), path)
    # a VRT that resamples answers as it is asked
    is_comparable = path.suffix != ".vrt" or max(scene.height, scene.width) <= WINDOW_PX
    if is_comparable and not scene._header.palette and scene._header.orientation.is_upright:
        _compare(path, scene, pixels, valid)
    digest = hashlib.blake2b(pixels.tobytes() + (b"" if valid is None else valid.tobytes()), digest_size=6)
    size = f"{scene.num_bands} x {scene.height} x {scene.width} {scene.dtype}"
    return f"read {size} {digest.hexdigest()}"


def _compare(path, scene, pixels, valid):
    at = rasterio.windows.Window(0, 0, pixels.shape[2], pixels.shape[1])
    with rasterio.open(path) as dataset:
        want = dataset.read(scene._header.bands, window=at)
        assert scene.georef.transform in (None, dataset.transform)
        crs = dataset.crs or dataset.gcps[1]
    assert not crs or CRS.from_wkt(scene.georef.crs_wkt) == crs
    where = np.ones(want.shape[1:], bool) if valid is None else valid
    np.testing.assert_array_equal(pixels[:, where], want[:, where])


def _without_place(message, path):
    """The words of hiresseg: no folders, and nothing that GDAL says, which changes with its version."""
    message = message.replace(str(path), path.name).replace(str(path.parent.parent), "..")
    return re.sub(r" \(.*\)", "", message.replace(str(path.parent), "."))


def main(folder: Path) -> None:
    """Print a JSON object of all outcomes, after the names of files as they are begun."""
    warnings.simplefilter("ignore")
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        print(path, flush=True)  # noqa: T201
        files[str(path.relative_to(folder))] = outcome_of(path)
    peak = peak_memory_bytes()
    print(json.dumps({"gdal": rasterio.__gdal_version__, "peak_bytes": peak, "files": files}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
