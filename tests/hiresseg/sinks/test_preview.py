import errno

import numpy as np
import pytest
from PIL import Image

from hiresseg.errors import StoreError
from hiresseg.sinks import FILL, ClassMeaning, write_preview
from hiresseg.sinks.legend import fit_legend, list_entries, measure_text, shorten_text
from hiresseg.sinks.overlay import draw_checker, is_painted, paint_labels, stretch_bands


@pytest.fixture
def meaning(named_class):
    return ClassMeaning((named_class("background", (9, 9, 9)), named_class("building", (250, 50, 0))))


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def has_color(pixels, color):
    return bool((np.abs(pixels.astype(int) - color).max(axis=-1) <= 1).any())


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 5000), (3000, 1), (40, 60), (700, 500), (1700, 1700), (700, 2100)]
)
def test_the_page_stays_within_its_long_side(folder, meaning, shape):
    image = np.linspace(0, 65535, shape[0] * shape[1]).reshape(1, *shape).astype(np.uint16)
    path = folder / "preview.png"
    write_preview(path, image, np.ones(shape, np.uint8), meaning, title="long " * 80)
    assert max(read(path).shape) <= 1600
    assert [entry.name for entry in folder.iterdir()] == ["preview.png"]


@pytest.mark.parametrize("size", [1, 255])
def test_many_classes_fit_too(folder, named_class, size):
    names = ClassMeaning(
        tuple(named_class(f"class number {i} " * (1 + i % 3), (i, 99, 9)) for i in range(size))
    )
    for shape in ((30, 20), (20, 30), (600, 800)):
        labels = (np.arange(shape[0] * shape[1]) % size).reshape(shape).astype(np.uint8)
        write_preview(folder / "preview.png", np.zeros((3, *shape), np.float32), labels, names, title="")
        assert max(read(folder / "preview.png").shape) <= 1600


def test_classes_are_painted_over_the_image_and_the_background_is_not(folder, meaning):
    image = np.zeros((1, 100, 100), np.uint8)
    image[:, :, 50:] = 200
    labels = np.zeros((100, 100), np.uint8)
    labels[50:] = 1
    labels[:10, :10] = FILL
    path = folder / "preview.png"
    write_preview(path, image, labels, meaning, title="")
    pixels = read(path)
    for color in [(0, 0, 0), (255, 255, 255), (112, 22, 0), (253, 163, 140), (250, 50, 0), (224, 224, 224)]:
        assert has_color(pixels, color), color
    write_preview(path, image, np.zeros((100, 100), np.uint8), meaning, title="")
    assert not has_color(read(path), (112, 22, 0))


def test_pixels_that_mean_nothing_are_no_data(folder, meaning):
    image = np.ones((3, 64, 64), np.float32) * np.linspace(0, 1, 64, dtype=np.float32)
    image[1, :32, :32] = np.nan
    valid = np.ones((64, 64), bool)
    valid[32:, 32:] = False
    labels = np.ones((64, 64), np.uint8)
    by_validity, by_label = folder / "a.png", folder / "b.png"
    write_preview(by_validity, image, labels, meaning, title="same", valid=valid)
    labels[:32, :32] = labels[32:, 32:] = FILL
    write_preview(by_label, image, labels, meaning, title="same", valid=valid)
    assert has_color(read(by_validity), draw_checker(8, 8)[0, 0])
    assert by_validity.read_bytes() == by_label.read_bytes()


def test_the_same_input_gives_the_same_bytes(folder, meaning, patches):
    image = np.stack([patches, patches // 2, 255 - patches])
    labels = (patches % 2).astype(np.uint8)
    for name in ("a.png", "b.png"):
        write_preview(folder / name, image, labels, meaning, title="twice")
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_percentiles_of_valid_pixels_span_the_greys(dtype):
    image = np.zeros((1, 10, 101), dtype)
    image[0, :] = np.arange(101)
    valid = np.ones((10, 101), bool)
    image[0, 0], valid[0] = 120, False
    grey = stretch_bands(image, valid)
    assert grey.shape == (10, 101, 3)
    assert grey[1, :3, 0].tolist() == [0, 0, 0]
    assert grey[1, 50].tolist() == [127, 127, 127]
    assert grey[1, 98:, 2].tolist() == [255, 255, 255]


def test_a_band_of_one_value_is_mid_grey():
    assert (stretch_bands(np.full((3, 4, 4), 7, np.uint16), np.ones((4, 4), bool)) == 127).all()
    assert (stretch_bands(np.full((1, 4, 4), np.nan), np.zeros((4, 4), bool)) == 127).all()


def test_edges_lie_inside_what_is_painted(meaning):
    labels = np.zeros((9, 9), np.uint8)
    labels[2:7, 2:7] = 1
    painted = paint_labels(np.full((9, 9, 3), 100, np.uint8), labels, meaning)
    assert (painted[labels == 0] == 100).all()
    inner = painted[3:6, 3:6].reshape(-1, 3)
    assert (inner == inner[0]).all()
    assert (painted[2, 2:7] < inner[0]).all(axis=-1).sum() == 5
    thick = paint_labels(np.full((9, 9, 3), 100, np.uint8), labels, meaning, edge_px=2)
    assert (thick[3:6, 3:6].reshape(-1, 3) == inner[0]).all(axis=-1).sum() == 1


@pytest.mark.parametrize(
    ("name", "color", "painted"),
    [
        ("background", (9, 9, 9), False),
        (" Background", (1, 2, 3), False),
        ("x", (0, 0, 0), False),
        ("x", (0, 0, 1), True),
    ],
)
def test_only_a_first_class_of_no_interest_is_left_unpainted(named_class, name, color, painted):
    entry = named_class(name, color)
    assert is_painted(ClassMeaning((entry, entry)), 0) is painted
    assert is_painted(ClassMeaning((entry, entry)), 1)


def test_shares_are_of_what_has_an_answer(land):
    labels = np.repeat(np.array([0, 1, 3, FILL], np.uint8), [700, 299, 1, 1000]).reshape(40, 50)
    assert [(entry.name, entry.share) for entry in list_entries(labels, land)] == [
        ("background", "70.0 %"),
        ("building", "29.9 %"),
        ('roads & <tracks> "paved"', "0 %"),
        ("forêt", "0.1 %"),
        ("no data", "50.0 %"),
    ]
    labels = np.zeros((100, 100), np.uint8)
    labels[0, 0] = 1
    assert [entry.share for entry in list_entries(labels, land)][1] == "< 0.1 %"


def test_a_legend_uses_the_width_it_has(land):
    entries = list_entries(np.zeros((4, 4), np.uint8), land)
    assert fit_legend(entries, 1).columns == 1
    assert fit_legend(entries, 5000).lines == 1
    for width in range(300, 1600, 100):
        legend = fit_legend(entries, width)
        assert legend.size_px[1] <= width or legend.columns == 1


@pytest.mark.parametrize("text", ["", "short", "a rather long name " * 20, "two\nlines\tand a tab"])
def test_text_is_cut_to_its_room(text):
    short = shorten_text(text, 18, 200)
    assert measure_text(short, 18) <= 200
    assert "\n" not in short
    assert short == " ".join(text.split()) or short.endswith("...")


@pytest.mark.parametrize("bands", [0, 2, 4])
def test_other_numbers_of_bands_are_refused(folder, meaning, bands):
    with pytest.raises(ValueError, match=f"one or three bands, got {bands}"):
        write_preview(
            folder / "a.png", np.zeros((bands, 4, 4)), np.zeros((4, 4), np.uint8), meaning, title=""
        )
    assert list(folder.iterdir()) == []


def test_labels_of_no_class_are_refused(folder, meaning):
    with pytest.raises(ValueError, match="labels hold 2, but there are only 2 classes"):
        write_preview(folder / "a.png", np.zeros((1, 4, 4)), np.full((4, 4), 2, np.uint8), meaning, title="")


def test_a_failing_write_leaves_nothing(folder, meaning, monkeypatch):
    def save(self, path, **options):
        path.write_bytes(b"\x89PNG")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(StoreError, match=r"a\.png cannot be written: .*No space left"):
        write_preview(folder / "a.png", np.zeros((1, 4, 4)), np.zeros((4, 4), np.uint8), meaning, title="")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("color", [(0, 0, 256), (-1, 0, 0)])
def test_colours_that_are_none_are_refused(named_class, color):
    with pytest.raises(ValueError, match=r"color of class 1 \(b\)"):
        ClassMeaning((named_class("a", (0, 0, 0)), named_class("b", color)))


@pytest.mark.parametrize("size", [0, 256])
def test_the_number_of_classes_is_bounded(named_class, size):
    with pytest.raises(ValueError, match=f"1 to 255 classes, got {size}"):
        ClassMeaning(tuple(named_class("a", (0, 0, 0)) for _ in range(size)))
