"""Two records of a run, compared field by field."""

from __future__ import annotations

import json

import pytest

from hiresseg.errors import RecipeError
from hiresseg.records import compare_records, refuse_other_record


def test_of_two_lists_the_entries_that_differ_are_named():
    ours, theirs = ({"files": [{"name": "a"}, {"name": "b", "bytes": size}]} for size in (1, 2))
    assert compare_records(ours, theirs) == ["files.1.bytes: 2 there, 1 now"]


def test_records_are_compared_field_by_field(tmp_path):
    ours = {"model": {"name": "a", "digest": "1"}, "scene": {"size": [1, 2]}, "tile": 3}
    theirs = {"model": {"name": "a", "digest": "2"}, "scene": {"size": [1, 2]}, "trim": 4}
    assert compare_records(ours, theirs) == [
        "model.digest: '2' there, '1' now",
        "tile: None there, 3 now",
        "trim: 4 there, None now",
    ]
    refuse_other_record(tmp_path, ours, json.loads(json.dumps(ours)))
    with pytest.raises(RecipeError, match=r"(?s)model.digest.*tile.*trim.*--overwrite"):
        refuse_other_record(tmp_path, ours, theirs)
