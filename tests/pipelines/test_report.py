from pathlib import Path

from hiresseg_pipelines.report import describe_result


def test_what_the_mask_could_not_keep_is_said_in_the_end():
    report = {
        "classes": [{"name": "building", "pixels": 5, "share": 1.0, "area_m2": None}],
        "seconds": {"export": 2.0},
        "outputs": {"labels.tif": {"losses": ("its names", "its height")}, "preview.png": {"bytes": 5}},
    }
    lines = describe_result(report, Path("run")).splitlines()
    assert lines[-2:] == ["  labels.tif: its names", "  labels.tif: its height"]
    report["outputs"]["labels.tif"]["losses"] = ()
    assert describe_result(report, Path("run")).splitlines() == lines[:-2]
