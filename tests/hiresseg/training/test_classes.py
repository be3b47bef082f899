from __future__ import annotations

import numpy as np
import pytest

from hiresseg.errors import RecipeError
from hiresseg.training.classes import (
    UNKNOWN,
    LabelClass,
    classes_of_values,
    index_table,
    read_classes,
    to_indices,
)


def write(tmp_path, text):
    path = tmp_path / "classes.txt"
    path.write_text(text)
    return path


def test_values_names_and_colours(tmp_path):
    path = write(tmp_path, "0 background #000000\n\n255 axon body #E63C28\n7, road\n")
    assert read_classes(path) == (
        LabelClass(0, "background", (0, 0, 0)),
        LabelClass(255, "axon body", (230, 60, 40)),
        LabelClass(7, "road", (0, 128, 0)),
    )


def test_names_alone_are_numbered(tmp_path):
    classes = read_classes(write(tmp_path, "ground\nroof #010203\n"))
    assert [(c.value, c.name) for c in classes] == [(0, "ground"), (1, "roof")]
    assert classes[1].color == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 ground\nroof\n", "some classes have a value and some have none"),
        ("ground\n", "2 to 254 classes"),
        ("0 ground\n0 roof\n", "the value 0 stands there more than once"),
        ("ground\nground\n", "the name ground stands there more than once"),
        ("0 ground\n70000 roof\n", "between 0 and 65535"),
        ("0 ground\n1 #ff0000\n", "is no class"),
        ("0 ground\n1\n", "is no class"),
    ],
)
def test_a_list_with_a_slip_is_refused(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message):
        read_classes(write(tmp_path, text))


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        read_classes(tmp_path / "none.txt")


def test_values_become_indices():
    classes = (LabelClass(0, "a", (0, 0, 0)), LabelClass(7, "b", (0, 0, 0)))
    values = np.array([[0, 7, 255, 9, -1, 70000]], np.int32)
    assert to_indices(values, index_table(classes)).tolist() == [[0, 1, 255, UNKNOWN, UNKNOWN, UNKNOWN]]
    # who names 255 means it
    white = index_table((*classes, LabelClass(255, "c", (0, 0, 0))))
    assert to_indices(np.array([255, 7], np.uint8), white).tolist() == [2, 1]


def test_values_that_nobody_named_become_classes():
    found = classes_of_values([255, 3, 0])
    assert [(c.value, c.name) for c in found] == [(0, "background"), (3, "class_3")]
