import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.errors import SceneError, StoreError
from hiresseg.geometry import Window
from hiresseg.scenes import Pages, open_scene
from hiresseg.testing import ArrayScene

ROOM = 1 << 30


def noise(shape, high=250, dtype=np.uint8):
    return np.random.default_rng(3).integers(0, high, shape).astype(dtype)


def tile_rows(height, width, tile=512, stride=448):
    """What a stage reads: rows of tiles, that reach over the edges."""
    return [Window(top, -8, tile, width + 100) for top in range(0, height, stride)]


def read_all(pages, windows):
    for window in windows:
        pages.expect(window)
    return [pages.read(window) for window in windows]


@pytest.mark.parametrize(
    "profile",
    [
        {"tiled": True, "blockxsize": 512, "blockysize": 512},
        {"tiled": True, "blockxsize": 128, "blockysize": 256},
        {"tiled": True, "blockxsize": 2048, "blockysize": 1536},
        {"blockysize": 3},
        {"blockysize": 700},
        {"blockysize": 1800},
        {"interleave": "band", "tiled": True, "blockxsize": 256, "blockysize": 256},
    ],
    ids=lambda profile: "-".join(str(value) for value in profile.values()),
)
def test_no_pixel_of_a_file_is_decoded_twice(make_raster, profile):
    pixels = noise((2, 1800, 1300))
    scene = open_scene(make_raster(pixels, compress="deflate", zlevel=1, **profile))
    pages = Pages(scene, 0, memory_bytes=ROOM, scratch=None)
    windows = tile_rows(1800, 1300)
    for window, (got, valid) in zip(windows, read_all(pages, windows), strict=True):
        assert valid is None
        np.testing.assert_array_equal(got, pixels[:, window.top : window.bottom])
    assert scene.bytes_decoded == pixels.nbytes


def test_no_pixel_is_decoded_twice_at_a_coarse_level(make_raster):
    pixels = noise((1, 1700, 1500))
    scene = open_scene(make_raster(pixels, compress="lzw", blockysize=6))
    pages = Pages(scene, 2, memory_bytes=ROOM, scratch=None)
    windows = tile_rows(*scene.size_at(2), tile=128, stride=112)
    whole, _ = scene.read(Window(0, 0, *scene.size_at(2)), 2)
    before = scene.bytes_decoded
    for window, (got, _) in zip(windows, read_all(pages, windows), strict=True):
        np.testing.assert_array_equal(got, whole[:, window.top : window.bottom])
    assert scene.bytes_decoded - before == pixels.nbytes


@st.composite
def cases(draw):
    height, width = draw(st.integers(1, 1400)), draw(st.integers(1, 1400))
    window = st.builds(
        Window, st.integers(-50, height), st.integers(-50, width), st.integers(0, 800), st.integers(0, 800)
    )
    announced = draw(st.lists(window, max_size=8))
    also = draw(st.lists(window, max_size=3))
    return height, width, announced, also


@settings(max_examples=25, deadline=None)
@given(
    case=cases(),
    unit_px=st.sampled_from([16, 100, 513, 4000]),
    memory_bytes=st.sampled_from([0, 1 << 20, ROOM]),
    spills=st.booleans(),
    gaps=st.sampled_from([None, 0.5, 0.0]),
)
def test_the_answer_never_depends_on_memory(tmp_path_factory, case, unit_px, memory_bytes, spills, gaps):
    height, width, announced, also = case
    pixels = noise((2, height, width), dtype=np.uint16)
    valid = None if gaps is None else np.random.default_rng(1).random((height, width)) < gaps
    scene = ArrayScene(pixels, valid, unit_px=unit_px)
    scratch = tmp_path_factory.mktemp("scratch") if spills else None
    pages = Pages(scene, 0, memory_bytes=memory_bytes, scratch=scratch)
    extent = Window(0, 0, height, width)
    for window in announced:
        pages.expect(window)
    for window in [*also, *announced]:
        inside = window.intersect(extent)
        want, want_valid = scene.read(inside) if inside.num_pixels else (pixels[:, :0, :0], None)
        got, got_valid = pages.read(window)
        assert got.shape == (2, inside.height, inside.width)
        if inside.num_pixels:
            np.testing.assert_array_equal(got, want)
            assert (got_valid is None) == (want_valid is None)
            np.testing.assert_array_equal(got_valid, want_valid)
    kept = pages.peak_bytes - pages.group_bytes
    assert kept <= memory_bytes
    assert not pages._expected.any()
    assert not pages._kept
    assert pages._shelf._kept_bytes == 0
    pages.close()
    assert scratch is None or not list(scratch.iterdir())


def test_beyond_memory_pages_go_to_the_scratch_file_and_come_back(tmp_path):
    pixels = noise((3, 1500, 1500))
    scene = ArrayScene(pixels, unit_px=512)
    pages = Pages(scene, 0, memory_bytes=2 << 20, scratch=tmp_path / "new")
    windows = tile_rows(1500, 1500)
    for window, (got, _) in zip(windows, read_all(pages, windows), strict=True):
        np.testing.assert_array_equal(got, pixels[:, window.top : window.bottom])
    assert scene.bytes_decoded == pixels.nbytes
    assert pages.bytes_spilled > 0
    assert pages.peak_bytes <= (2 << 20) + pages.group_bytes
    # every slot was given back
    scratch = pages._shelf._scratch
    assert len(scratch._free) == scratch._num_slots > 0


def test_without_scratch_it_is_decoded_again(tmp_path):
    scene = ArrayScene(noise((3, 1500, 1500)), unit_px=512)
    pages = Pages(scene, 0, memory_bytes=0, scratch=None)
    read_all(pages, tile_rows(1500, 1500))
    assert scene.bytes_decoded > 3 * 1500 * 1500
    assert pages.bytes_spilled == 0


def test_no_scratch_file_while_there_is_room(tmp_path):
    pages = Pages(ArrayScene(noise((1, 900, 900))), 0, memory_bytes=ROOM, scratch=tmp_path / "scratch")
    read_all(pages, tile_rows(900, 900))
    assert not (tmp_path / "scratch").exists()


def test_a_scratch_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    pages = Pages(ArrayScene(noise((1, 900, 900))), 0, memory_bytes=0, scratch=tmp_path / "file")
    with pytest.raises(StoreError, match="file: pixels cannot be put aside"):
        read_all(pages, tile_rows(900, 900))


def test_a_page_without_a_valid_pixel_takes_no_memory():
    scene = ArrayScene(noise((4, 2000, 2000)), np.zeros((2000, 2000), bool), unit_px=512)
    pages = Pages(scene, 0, memory_bytes=0, scratch=None)
    answers = read_all(pages, tile_rows(2000, 2000))
    assert all(not valid.any() and not got.any() for got, valid in answers)
    assert scene.bytes_decoded == 4 * 2000 * 2000


def test_a_read_that_was_not_announced_keeps_nothing():
    scene = ArrayScene(noise((1, 700, 700)), unit_px=700)
    pages = Pages(scene, 0, memory_bytes=ROOM, scratch=None)
    for _ in range(3):
        pages.read(Window(0, 0, 10, 10))
    assert scene.bytes_decoded == 3 * 700 * 700
    assert not pages._kept


def test_every_page_is_shown_once_as_it_is_decoded():
    pixels = noise((2, 1300, 900))
    pages = Pages(ArrayScene(pixels, unit_px=256), 0, memory_bytes=ROOM, scratch=None)
    seen = np.zeros((1300, 900), int)

    def look(window, part, valid):
        assert valid is None
        rows, cols = window.slices_in(Window(0, 0, 1300, 900))
        np.testing.assert_array_equal(part, pixels[:, rows, cols])
        seen[rows, cols] += 1

    pages.on_decode = look
    read_all(pages, tile_rows(1300, 900))
    assert (seen == 1).all()


class SlowScene(ArrayScene):
    """Decodes only when told to, and remembers how often it was asked."""

    def __init__(self, pixels, error=None):
        super().__init__(pixels, unit_px=1000)
        self.may_go, self.asked, self.error = threading.Event(), [], error

    def read(self, window, level=0):
        self.asked.append(window)
        assert self.may_go.wait(20)
        if self.error:
            raise self.error
        return super().read(window, level)


@pytest.mark.parametrize("is_announced", [True, False])
def test_threads_that_want_the_same_decode_it_once(is_announced):
    pixels = noise((1, 800, 800))
    scene = SlowScene(pixels)
    pages = Pages(scene, 0, memory_bytes=ROOM, scratch=None)
    windows = [Window(at, at, 300, 300) for at in range(0, 400, 50)]
    for window in windows if is_announced else ():
        pages.expect(window)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(pages.read, window) for window in windows]
        while pages._decoding == {} or not all(f.running() for f in answers):
            threading.Event().wait(0.01)
        threading.Event().wait(0.1)
        scene.may_go.set()
        for window, answer in zip(windows, answers, strict=True):
            np.testing.assert_array_equal(
                answer.result()[0], pixels[:, window.top : window.bottom, window.left : window.right]
            )
    assert len(scene.asked) == 1
    assert not pages._kept


def test_an_error_wakes_all_who_wait_and_the_next_read_tries_again():
    scene = SlowScene(noise((1, 800, 800)), SceneError("row 3 is damaged"))
    pages = Pages(scene, 0, memory_bytes=ROOM, scratch=None)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(pages.read, Window(0, 0, 99, 99)) for _ in range(4)]
        threading.Event().wait(0.1)
        scene.may_go.set()
        for answer in answers:
            with pytest.raises(SceneError, match="row 3 is damaged"):
                answer.result(20)
    scene.error = None
    assert pages.read(Window(0, 0, 99, 99))[0].shape == (1, 99, 99)


def test_many_threads_share_a_small_cache(tmp_path):
    pixels = noise((2, 1400, 1400), dtype=np.uint16)
    scene = ArrayScene(pixels, np.random.default_rng(0).random((1400, 1400)) < 0.9, unit_px=256)
    pages = Pages(scene, 0, memory_bytes=1 << 20, scratch=tmp_path)
    windows = [Window(t, x, 300, 300) for t in range(0, 1400, 175) for x in range(0, 1400, 175)]
    for window in windows:
        pages.expect(window)
    want = scene.read(Window(0, 0, 1400, 1400))[0]
    before = scene.bytes_decoded
    with ThreadPoolExecutor(8) as pool:
        for window, (got, _) in zip(windows, pool.map(pages.read, windows), strict=True):
            np.testing.assert_array_equal(
                got, want[:, window.top : window.bottom, window.left : window.right]
            )
    assert scene.bytes_decoded - before == pixels.nbytes
    assert not pages._kept
    assert pages.bytes_spilled > 0


def test_close_forgets(tmp_path):
    scene = ArrayScene(noise((1, 900, 900)))
    pages = Pages(scene, 0, memory_bytes=0, scratch=tmp_path)
    window = Window(0, 0, 600, 600)
    pages.expect(window)
    pages.expect(window)
    first, _ = pages.read(window)
    pages.close()
    np.testing.assert_array_equal(pages.read(window)[0], first)
    assert not pages._kept
