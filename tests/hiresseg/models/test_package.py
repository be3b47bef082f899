"""Model folders: what is loaded is what was saved, and nothing else gets in.

One long file, because all of it tells lies about the same folder with the same few helpers.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hiresseg import models
from hiresseg.errors import ModelError, ResourceError
from hiresseg.models import config as config_module
from hiresseg.models import folder as folder_module
from hiresseg.models.cascade import CoarseNet, RefineNet

CONFIGS = (
    models.NetworkConfig("hiresseg", "CoarseNet", {"widths": [4, 6], "dropout": 0.0}),
    models.NetworkConfig("hiresseg", "RefineNet", {"widths": [4, 6], "dropout": 0.0}),
)
SPEC = models.ModelSpec(
    name="two looks",
    bands=("red", "green", "blue"),
    classes=(models.ClassInfo("background", (0, 0, 0)), models.ClassInfo("building", (230, 60, 40))),
    activation="sigmoid",
    mean=(100.0, 110.5, 120.25),
    std=(50.0, 51.0, 52.0),
    stages=(models.StageSpec(2, 64, 16, 4), models.StageSpec(0, 128, 16, 2)),
    dtypes=("uint8", "uint16"),
    pixel_size_m=(0.1, 0.3),
    refine_above=0.25,
    licence="CC-BY-4.0",
    description="line one\nline two",
    scores={"val_iou": 0.5},
)


def networks(seed=0):
    torch.manual_seed(seed)
    nets = CoarseNet((4, 6), 0.0), RefineNet((4, 6), 0.0)
    for net in nets:
        # running statistics that differ from their initial values, and so would be missed
        for name, value in net.named_buffers():
            if name.endswith(("mean", "var")):
                value.uniform_(0.5, 2)
    return tuple(net.eval() for net in nets)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine") / "model"
    models.save_model(folder, SPEC, networks(), CONFIGS)
    return folder


@pytest.fixture
def folder(pristine, tmp_path):
    copied = tmp_path / "model"
    copied.mkdir()
    for file in pristine.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return copied


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# ---- what goes in comes out


def test_a_saved_cascade_comes_back(pristine):
    model = models.load_model(pristine)
    coarse, refine = networks()
    images, prior = torch.randn(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.segmenters[0](images, None), coarse(images))
        assert torch.equal(model.segmenters[1](images, prior), refine(images, prior))
    assert replace(model.spec, digest="") == SPEC
    assert len(model.spec.digest) == 64


def test_describing_equals_loading(pristine):
    assert models.describe_model(str(pristine)) == models.load_model(pristine).spec


def test_networks_are_ready_to_segment(pristine):
    for segmenter in models.load_model(pristine).segmenters:
        assert not segmenter.training
        assert {p.dtype for p in segmenter.parameters()} == {torch.float32}
        assert not any(p.requires_grad for p in segmenter.parameters())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_stored_and_loaded_as_single(tmp_path, dtype):
    models.save_model(tmp_path, SPEC, networks(), CONFIGS, dtype=dtype)
    stored = load_file(tmp_path / "model.safetensors")
    assert {v.dtype for v in stored.values()} == {getattr(torch, dtype), torch.int64}
    loaded = models.load_model(tmp_path).segmenters[0].state_dict()
    for key, value in networks()[0].state_dict().items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key], value.to(stored["0." + key].dtype).to(value.dtype))


def test_loading_leaves_the_random_numbers_alone(pristine):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    models.load_model(pristine)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_the_digest_sees_every_file(folder, name):
    before = models.describe_model(folder).digest
    (folder / "CARD.md").write_text("not part of the model")
    assert models.describe_model(folder).digest == before
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    assert models.describe_model(folder).digest != before


def test_describing_imports_neither_torch_nor_smp(pristine):
    code = (
        "import sys; from hiresseg import models; "
        "print(models.describe_model(sys.argv[1]).name, models.bundled_models() is not None, "
        "[m for m in ('torch', 'segmentation_models_pytorch') if m in sys.modules])"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    result = subprocess.run(
        [sys.executable, "-c", code, str(pristine)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path},
    )
    assert result.stdout.strip() == "two looks True []"


# ---- names


def test_a_bundled_model_goes_by_its_name(pristine, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "_BUNDLED", pristine.parent)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert models.bundled_models() == ("model",)
    assert models.describe_model("model").name == "two looks"
    with pytest.raises(ModelError, match=r"no readable config\.json"):
        models.describe_model("./model")
    with pytest.raises(
        ModelError, match=r"'modle' is neither a folder nor a bundled model; bundled are: model"
    ):
        models.load_model("modle")


@pytest.mark.parametrize("name", ["", "../bundled/cascade/x", "x" * 5000, "a\0b", "\ud800"])
def test_odd_names_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        models.describe_model(name)


def test_every_bundled_model_is_sound():
    for name in models.bundled_models():
        spec = models.describe_model(name)
        assert spec.licence != "not stated"
        assert models.load_model(name).spec == spec


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_named(pristine, device):
    with pytest.raises(ResourceError, match=device):
        models.load_model(pristine, device=device)


# ---- config.json


def change(path, value):
    def apply(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        document[last] = value

    return apply


def drop(*path):
    def apply(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        del document[last]

    return apply


REFUSED = [
    (drop("mean"), "lacks mean"),
    (change(["epochs"], 3), "unknown keys.*epochs"),
    (change(["format"], "other"), "format must be one of hiresseg-model"),
    (change(["version"], 2), "version must be a whole number from 1 to 1, got 2"),
    (change(["version"], True), "version must be a whole number"),
    (change(["name"], ""), "name must be a text"),
    (change(["name"], "a\x1b[31m"), "name must be a text"),
    (change(["bands"], []), "bands must be a list of 1 to"),
    (change(["bands"], ["red", "red", "blue"]), "more than one red"),
    (change(["bands"], "rgb"), "bands must be a list"),
    (change(["classes"], [{"name": "x", "color": [0, 0, 0]}]), "at least 2 are needed"),
    (
        change(["classes"], [{"name": f"c{i}", "color": [0, 0, 0]} for i in range(255)]),
        "1 to 254 entries, got 255",
    ),
    (change(["classes", 1, "name"], "background"), "more than one background"),
    (change(["classes", 1, "color"], [0, 0, 256]), r"classes\[1\].color.*0 to 255, got 256"),
    (change(["classes", 1, "color"], [0, 0]), "3 entries, got 2"),
    (change(["classes", 1, "color"], [0, 0, 0.5]), "whole number"),
    (change(["classes", 1, "colour"], [0, 0, 0]), "unknown keys.*colour"),
    (change(["activation"], "tanh"), "softmax, sigmoid, got 'tanh'"),
    (change(["activation"], ["sigmoid"]), "softmax, sigmoid"),
    (change(["mean"], [1, 2]), "mean must be a list of 3 entries, got 2"),
    (change(["mean", 0], None), r"mean\[0\] must be a finite number, got None"),
    (change(["mean", 0], 10**400), r"mean\[0\] must be a finite number"),
    (change(["std", 2], 0), "std must be positive"),
    (change(["std", 2], True), "finite number, got True"),
    (change(["dtypes"], ["complex64"]), "complex64"),
    (change(["pixel_size_m"], [0.3, 0.1]), "smallest and the largest"),
    (change(["refine_above"], 1.5), "from 0 to 1, got 1.5"),
    (change(["licence"], 5), "licence must be a text"),
    (change(["description"], "\ud800"), "description must be a text"),
    (change(["scores"], {"iou": "high"}), "scores.iou must be a finite number"),
    (change(["scores"], [1]), "scores must be a JSON object"),
    (change(["stages"], []), "stages must be a list of 1 to 8"),
    (change(["stages", 0, "level"], -1), r"stages\[0\].level"),
    (change(["stages", 1, "level"], 1), "last stage must work at level 0"),
    (change(["stages", 1, "level"], 3), "coarse to fine, got levels \\[2, 3\\]"),
    (change(["stages", 0, "tile_px"], 10**9), "16 to 16384"),
    (change(["stages", 0, "tile_px"], 72), "multiple of 16"),
    (change(["stages", 0, "overlap_px"], 48), "half a tile"),
    (change(["stages", 0, "trim_px"], 9), "trim_px must be a whole number from 0 to 8, got 9"),
    (drop("stages", 0, "network"), "lacks network"),
    (
        change(["stages", 0, "network", "library"], "os"),
        "smp, hiresseg, onnx, torch.export, transformers, got 'os'",
    ),
    (change(["stages", 0, "network", "arguments"], [1]), "arguments must be a JSON object"),
]


@pytest.mark.parametrize(("apply", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_wrong_entry_is_named(folder, apply, message):
    document = json.loads((folder / "config.json").read_text())
    apply(document)
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match=message):
        models.describe_model(folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[1]", "JSON object, got \\[1\\]"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": 1, "a": 2}', "'a' stands there twice"),
        ('{"a": "ü"}'.encode("latin-1"), "not valid JSON"),
        (b"[" * 500_000, "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b" " * (1 << 20) + b"{}", "larger than 1048576 bytes"),
        (b"{}", "lacks activation, bands"),
        (pickle.dumps({"a": 1}), "not valid JSON"),
    ],
)
def test_a_file_that_is_no_configuration(folder, data, message):
    (folder / "config.json").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        models.load_model(folder)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(value, prefix=()):
    yield prefix
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from paths(child, (*prefix, key))


@given(data=st.data(), value=VALUES)
@settings(max_examples=60, deadline=None)
def test_any_other_value_anywhere_is_taken_or_refused(data, value):
    document = config_module.spec_document(SPEC, CONFIGS)
    path = data.draw(st.sampled_from([p for p in paths(document) if p]))
    document = copy.deepcopy(document)
    change(path, value)(document)
    try:
        parsed = config_module.parse_config(document, "config.json")
    except ModelError as error:
        assert "config.json" in str(error)  # noqa: PT017
    else:
        # what was taken says the same again
        assert (
            config_module.parse_config(config_module.spec_document(parsed.spec, parsed.networks), "")
            == parsed
        )


# ---- networks and weights that do not fit


def refused(folder, message):
    with pytest.raises(ModelError, match=message):
        models.load_model(folder)


def set_network(folder, stage, **network):
    document = json.loads((folder / "config.json").read_text())
    document["stages"][stage]["network"].update(network)
    edit(folder, stages=document["stages"])


def test_a_network_that_is_not_in_the_table(folder):
    set_network(folder, 0, name="system")
    known = "CoarseNet, ContinuousRefiner, FCN, PointwiseNet, RefineNet"
    refused(folder, rf"stages\[0\].network.name must be one of {known}, got 'system'")


def test_arguments_that_the_network_does_not_take(folder):
    set_network(folder, 0, arguments={"depth": 3})
    refused(folder, "CoarseNet cannot be built from .*depth")


def test_sizes_that_no_memory_holds_are_refused_before_they_are_allocated(folder):
    # hundreds of terabytes, were they allocated
    set_network(folder, 0, arguments={"widths": [10**6, 10**6], "dropout": 0.0})
    refused(folder, "of another shape: 0.stem.0.weight .* instead of \\(1000000, 3, 3, 3\\)")


def test_a_tile_that_the_network_does_not_take(folder):
    document = json.loads((folder / "config.json").read_text())
    # an odd number of pixels cannot be halved and doubled
    document["stages"][1].update(tile_px=129, overlap_px=17)
    edit(folder, stages=document["stages"])
    refused(folder, r"stages\[1\].*129")


def test_logits_of_another_shape_are_told_with_both(folder):
    edit(folder, classes=[{"name": n, "color": [0, 0, 0]} for n in "abc"])
    refused(
        folder, r"stages\[0\] gives logits of shape \(1, 1, 64, 64\), classes and tile need \(1, 2, 64, 64\)"
    )


def test_weights_that_are_missing_unexpected_or_of_another_shape_are_listed(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["0.surplus"] = torch.zeros(1)
    del state["1.head.bias"]
    state["0.head.weight"] = torch.zeros(2, 2)
    save_file(state, path)
    refused(
        folder, r"1 missing: 1.head.bias; 1 unexpected: 0.surplus; 1 of another shape: 0.head.weight \(2, 2\)"
    )


def test_long_lists_of_keys_are_cut(folder):
    save_file({}, folder / "model.safetensors")
    refused(folder, r"missing: [^,]+, [^,]+, [^,]+ and \d+ more")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(folder, value):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["1.head.bias"][1] = value
    save_file(state, path)
    refused(folder, "1.head.bias holds NaN or infinity")


def test_whole_numbers_in_the_place_of_weights(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["1.head.bias"] = state["1.head.bias"].to(torch.int32)
    save_file(state, path)
    refused(folder, "1.head.bias is stored as I32, the network has torch.float32")


def lying_header(data, change_header):
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    change_header(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


@pytest.mark.parametrize(
    "lie",
    [
        lambda data: data[:-1],
        lambda data: data[:6],
        lambda data: b"",
        lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: struct.pack("<Q", len(data) * 2) + data[8:],
        lambda data: lying_header(data, lambda h: h["0.head.weight"].update(shape=[10**12])),
        lambda data: lying_header(data, lambda h: h["0.head.weight"].update(data_offsets=[0, 10**12])),
        lambda data: lying_header(
            data, lambda h: h["0.head.weight"].update(data_offsets=h["0.head.bias"]["data_offsets"])
        ),
        lambda data: lying_header(data, lambda h: h["0.head.weight"].update(dtype="PICKLE")),
        lambda data: data[:8] + b"[" * (len(data) - 8),
    ],
)
def test_a_lying_safetensors_file(folder, lie):
    path = folder / "model.safetensors"
    path.write_bytes(lie(path.read_bytes()))
    refused(folder, r"model\.safetensors")


@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_flipped_in_the_header_are_survived(folder, data):
    path = folder / "model.safetensors"
    sound = path.read_bytes()
    damaged = bytearray(sound)
    (size,) = struct.unpack("<Q", sound[:8])
    damaged[data.draw(st.integers(0, 8 + size - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    try:
        models.load_model(folder)
    except ModelError as error:
        assert "safetensors" in str(error) or "weight" in str(error)  # noqa: PT017
    finally:
        path.write_bytes(sound)


def test_an_oversized_header_is_refused_before_it_is_read(folder):
    path = folder / "model.safetensors"
    entries = ", ".join(
        f'"{i:x}": {{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}' for i in range(2**18)
    )
    # sound by the letter of the format, and hundreds of megabytes once it is parsed
    text = f"{{{entries}}}".encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with safe_open(path, framework="pt") as file:
        assert len(file.keys()) == 2**18
    refused(folder, rf"header claims {len(text)} bytes of at most 16777216")


def test_weights_that_no_memory_holds_are_refused_before_they_are_allocated(folder):
    # a folder that agrees with itself: the file is as large as it says, and takes no disk
    widths = [60_000, 60_000]
    with torch.device("meta"):
        stages = CoarseNet(tuple(widths), 0.0).state_dict(), RefineNet((4, 6), 0.0).state_dict()
    header, end = {}, 0
    for stage, state in enumerate(stages):
        for key, value in state.items():
            size = value.numel() * value.element_size()
            dtype = "I64" if value.dtype == torch.int64 else "F32"
            header[f"{stage}.{key}"] = {
                "dtype": dtype, "shape": list(value.shape), "data_offsets": [end, end + size],
            }  # fmt: skip
            end += size
    text = json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + end)
    set_network(folder, 0, arguments={"widths": widths, "dropout": 0.0})
    with pytest.raises(ResourceError, match=r"take 2199\.\d GiB, and \d+\.\d GiB of memory are free"):
        models.load_model(folder)


def test_a_list_of_layers_without_end_is_refused_before_they_are_built(folder):
    set_network(folder, 0, arguments={"widths": [1] * 300_000, "dropout": 0.0})
    refused(folder, r"stages\[0\]\.network\.arguments may have 64 entries, got 300000")
    set_network(folder, 0, arguments={"widths": [[[1] * 65]]})
    refused(folder, "may have 64 entries, got 65")


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe"])
@pytest.mark.parametrize("name", ["net.onnx", "net.onnx.data"])
def test_something_else_in_the_place_of_an_exported_network(folder, kind, name):
    document = json.loads((folder / "config.json").read_text())
    stage = {**document["stages"][1], "network": {"library": "onnx", "name": "net.onnx"}}
    edit(folder, stages=[stage])
    if name != "net.onnx":
        (folder / "net.onnx").write_bytes(b"")
    if kind == "folder":
        (folder / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / name)
    # without data beside it, an empty file is what is wrong
    refused(folder, r"net\.onnx")


# ---- paths and pickles


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "hiresseg.json"])
def test_a_link_that_leaves_the_folder(folder, tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    refused(folder, f"{name} is a link that leaves its folder")


def test_a_dangling_or_circular_link(folder):
    (folder / "hiresseg.json").symlink_to("hiresseg.json")
    refused(folder, r"no readable hiresseg\.json")


def test_a_link_that_stays_inside_and_a_linked_folder_are_fine(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "blob")
    (folder / "model.safetensors").symlink_to("blob")
    (tmp_path / "link").symlink_to(folder)
    assert models.load_model(tmp_path / "link").spec.name == "two looks"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe"])
def test_something_else_in_the_place_of_a_file(folder, name, kind):
    (folder / name).unlink()
    if kind == "folder":
        (folder / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / name)
    refused(folder, name)


def test_overrides_beside_our_own_configuration(folder):
    (folder / "hiresseg.json").write_text('{"name": "other"}')
    refused(folder, r"hiresseg\.json goes with save_pretrained folders")


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "last.ckpt", "pytorch_model.bin", "m.pkl"])
def test_pickles_are_never_opened(folder, tmp_path, name):
    touched = tmp_path / "touched"
    bait = tmp_path / name
    torch.save(Canary(touched), bait)
    torch.load(bait, weights_only=False)
    # the bait works, and so the test can fail
    assert touched.exists()
    touched.unlink()
    refused(bait, "can run any code; where you trust it")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(bait.read_bytes())
    refused(folder, f"has no model.safetensors, only {name}")
    (folder / "model.safetensors").write_bytes(bait.read_bytes())
    refused(folder, "no sound safetensors file")
    assert not touched.exists()


def test_a_single_file_is_no_folder(folder):
    refused(folder / "model.safetensors", "is a file; name the folder")


# ---- saving


def test_a_model_that_would_not_load_is_not_saved(tmp_path):
    target = tmp_path / "model"
    coarse, refine = networks()
    with pytest.raises(ModelError, match="1 networks and 2 configurations for 2 stages"):
        models.save_model(target, SPEC, [coarse], CONFIGS)
    with pytest.raises(ModelError, match="of the network do not fit"):
        models.save_model(target, SPEC, [refine, coarse], CONFIGS)
    with pytest.raises(ModelError, match="std must be positive"):
        models.save_model(target, replace(SPEC, std=(1.0, 0.0, 1.0)), [coarse, refine], CONFIGS)
    with pytest.raises(ModelError, match=r"scores\.iou must be a finite number"):
        models.save_model(target, replace(SPEC, scores={"iou": float("nan")}), [coarse, refine], CONFIGS)
    configs = [models.NetworkConfig("hiresseg", "CoarseNet", {"widths": {1, 2}}), CONFIGS[1]]
    with pytest.raises(ModelError, match="cannot hold this model"):
        models.save_model(target, SPEC, [coarse, refine], configs)
    assert not target.exists()


def test_a_weight_that_half_precision_cannot_hold(tmp_path):
    coarse, refine = networks()
    with torch.no_grad():
        coarse.head.bias.fill_(1e6)
    with pytest.raises(
        ModelError, match=r"0\.head\.bias is not finite as torch\.float16; save with dtype='float32'"
    ):
        models.save_model(tmp_path, SPEC, [coarse, refine], CONFIGS, dtype="float16")
    models.save_model(tmp_path, SPEC, [coarse, refine], CONFIGS)


def test_saving_again_replaces_and_leaves_nothing_else(folder):
    models.save_model(folder, replace(SPEC, name="again"), networks(seed=1), CONFIGS)
    assert models.load_model(folder).spec.name == "again"
    assert sorted(entry.name for entry in folder.iterdir()) == ["config.json", "model.safetensors"]
