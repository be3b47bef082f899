"""What the engine relies on in every scene."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hiresseg.errors import SceneError
from hiresseg.geometry import Window
from hiresseg.scenes.scene import Pixels, Scene, Valid

LEVELS = (0, 1, 2, 4)


class SceneContract:
    """Tests that a new kind of scene inherits; its class gives `make_scene`, and `pickles` if it does not."""

    pickles = True
    """Whether the scene pickles as its address; one that lives in memory has none."""

    def make_scene(self, folder: Path) -> Scene:
        """A scene of 40 to 600 pixels each way, best with some pixels that are not valid."""
        raise NotImplementedError

    def test_describes_itself(self, tmp_path: Path) -> None:
        """Sizes, bands and names agree."""
        scene = self.make_scene(tmp_path)
        assert scene.size_at(0) == (scene.height, scene.width)
        assert len(scene.band_names) == scene.num_bands >= 1
        pixels, valid = scene.read(Window(0, 0, scene.height, scene.width))
        assert pixels.shape == (scene.num_bands, scene.height, scene.width)
        assert pixels.dtype == scene.dtype
        assert scene.has_gaps or valid is None

    def test_halves_from_level_to_level(self, tmp_path: Path) -> None:
        """A level's size is that of level 0 divided by a power of two, rounded up."""
        scene = self.make_scene(tmp_path)
        for level in LEVELS:
            size = -(-scene.height // 2**level), -(-scene.width // 2**level)
            assert scene.size_at(level) == size
            unit = scene.decode_unit(level)
            assert all(1 <= edge <= full for edge, full in zip(unit, size, strict=True))
            assert 0 <= scene.stored_level(level) <= level

    def test_does_not_depend_on_the_window(self, tmp_path: Path) -> None:
        """A level read in pieces is the level read at once, to the bit."""
        scene = self.make_scene(tmp_path)
        for level in LEVELS:
            whole, valid = _read_all(scene, level)
            for window in _odd_windows(*scene.size_at(level)):
                rows, cols = window.slices_in(Window(0, 0, *scene.size_at(level)))
                part, part_valid = scene.read(window, level)
                np.testing.assert_array_equal(part, whole[:, rows, cols])
                np.testing.assert_array_equal(
                    _as_array(part, part_valid), _as_array(whole, valid)[rows, cols]
                )

    def test_is_zero_and_finite_where_not_valid(self, tmp_path: Path) -> None:
        """Nothing lies beneath a mask, and no NaN comes out."""
        scene = self.make_scene(tmp_path)
        for level in LEVELS:
            pixels, valid = _read_all(scene, level)
            assert np.isfinite(pixels).all()
            assert valid is None or not pixels[:, ~valid].any()
            assert valid is None or not valid.all()

    def test_gives_arrays_to_keep(self, tmp_path: Path) -> None:
        """What a caller writes into an answer does not show in the next."""
        scene = self.make_scene(tmp_path)
        first, _ = _read_all(scene, 0)
        before = first.copy()
        first += 1
        np.testing.assert_array_equal(_read_all(scene, 0)[0], before)

    def test_refuses_what_lies_outside(self, tmp_path: Path) -> None:
        """A window over the edge is an error, not padding."""
        scene = self.make_scene(tmp_path)
        for window in (Window(-1, 0, 2, 2), Window(0, 0, scene.height + 1, 1), Window(0, scene.width, 1, 1)):
            with pytest.raises(SceneError, match="not inside level 0"):
                scene.read(window)

    def test_reads_nothing_of_an_empty_window(self, tmp_path: Path) -> None:
        """An empty window inside the level gives empty arrays."""
        scene = self.make_scene(tmp_path)
        assert scene.read(Window(3, 2, 0, 5))[0].shape == (scene.num_bands, 0, 5)

    def test_counts_what_it_decodes(self, tmp_path: Path) -> None:
        """At least the pixels that were given back, and more with every read."""
        scene = self.make_scene(tmp_path)
        pixels, _ = _read_all(scene, 0)
        once = scene.bytes_decoded
        assert once >= pixels.nbytes
        _read_all(scene, 0)
        assert scene.bytes_decoded > once

    def test_serves_threads(self, tmp_path: Path) -> None:
        """Eight threads get what one gets."""
        scene = self.make_scene(tmp_path)
        whole, _ = _read_all(scene, 0)
        windows = _odd_windows(scene.height, scene.width) * 6
        with ThreadPoolExecutor(8) as pool:
            for window, (part, _) in zip(windows, pool.map(scene.read, windows), strict=True):
                rows, cols = window.slices_in(Window(0, 0, scene.height, scene.width))
                np.testing.assert_array_equal(part, whole[:, rows, cols])

    def test_has_a_fingerprint(self, tmp_path: Path) -> None:
        """JSON, and the same each time."""
        scene = self.make_scene(tmp_path)
        assert json.loads(json.dumps(scene.fingerprint())) == scene.fingerprint()

    def test_pickles_as_its_address(self, tmp_path: Path) -> None:
        """A few hundred bytes, that open the same scene again, after a read too."""
        if not self.pickles:
            pytest.skip("this scene has no address")
        scene = self.make_scene(tmp_path)
        whole, _ = _read_all(scene, 0)
        sent = pickle.dumps(scene)
        again = pickle.loads(sent)  # noqa: S301 - our own bytes
        assert len(sent) < 1000
        assert (again.uri, again.georef, again.band_names) == (scene.uri, scene.georef, scene.band_names)
        np.testing.assert_array_equal(_read_all(again, 0)[0], whole)
        again.close()

    def test_reads_again_after_close(self, tmp_path: Path) -> None:
        """Closing lets go of files, not of the scene."""
        scene = self.make_scene(tmp_path)
        whole, _ = _read_all(scene, 0)
        scene.close()
        scene.close()
        np.testing.assert_array_equal(_read_all(scene, 0)[0], whole)


def _read_all(scene: Scene, level: int) -> tuple[Pixels, Valid]:
    return scene.read(Window(0, 0, *scene.size_at(level)), level)


def _as_array(pixels: Pixels, valid: Valid) -> np.ndarray:
    return np.ones(pixels.shape[1:], np.bool_) if valid is None else valid


def _odd_windows(height: int, width: int) -> list[Window]:
    cuts = [sorted({0, 1, edge // 3, edge // 2 + 1, edge}) for edge in (height, width)]
    rows, cols = (list(pairwise(cut)) for cut in cuts)
    return [Window(top, left, bottom - top, right - left) for top, bottom in rows for left, right in cols]
