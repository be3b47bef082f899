"""config.json of a model folder, read and written; knows nothing of torch.

::

    {"format": "hiresseg-model", "version": 1, "name": "roads",
     "bands": ["red", "green", "blue"],
     "classes": [{"name": "background", "color": [0, 0, 0]}, {"name": "road", "color": [230, 60, 40]}],
     "activation": "sigmoid", "mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4],
     "stages": [{"level": 0, "tile_px": 512, "overlap_px": 64, "trim_px": 8,
                 "network": {"library": "smp", "name": "DeepLabV3Plus",
                             "arguments": {"encoder_name": "resnet18", "in_channels": 3, "classes": 1}}}]}

Optional are `dtypes`, `pixel_size_m`, `refine_above`, `licence`, `description` and `scores`, and `trim_px` of
a stage. Stages go from coarse to fine, and the last one works at level 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from hiresseg.errors import ModelError
from hiresseg.geometry import TileGrid
from hiresseg.models.checks import (
    check_choice,
    check_integer,
    check_list,
    check_number,
    check_object,
    check_text,
)
from hiresseg.models.spec import Activation, ClassInfo, ModelSpec, StageSpec

FORMAT = "hiresseg-model"
VERSION = 1
DTYPES = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
)
LIBRARIES = ("smp", "hiresseg", "onnx", "torch.export", "transformers")
FILE_SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "torch.export": ".pt2"}
"""Libraries whose networks are files of the folder, graph and weights in one, and how those end."""

_MAX_ARGUMENTS = 64

DEFAULT_STAGE: Mapping[str, object] = {"level": 0, "tile_px": 512, "overlap_px": 64, "trim_px": 8}

STAGE_KEYS = frozenset({"level", "tile_px", "overlap_px"})
OPTIONAL_STAGE_KEYS = frozenset({"trim_px"})
_SPEC_KEYS = frozenset({"name", "bands", "classes", "activation", "mean", "std", "stages"})
_OPTIONAL_KEYS = frozenset({"dtypes", "pixel_size_m", "refine_above", "licence", "description", "scores"})
SPEC_KEYS = _SPEC_KEYS | _OPTIONAL_KEYS
"""Keys of config.json that describe the model, all but `format` and `version`."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """How to build one network: a name from a fixed table, and JSON values to call it with."""

    library: str
    """`smp` (segmentation-models-pytorch), `hiresseg`, `transformers`; of a file `onnx`, `torch.export`."""
    name: str
    """Class in that library, for instance `DeepLabV3Plus`, or name of the file."""
    arguments: Mapping[str, object] = field(default_factory=dict)
    """Keyword arguments."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that a model folder says besides its weights."""

    spec: ModelSpec
    networks: tuple[NetworkConfig, ...]
    """One per stage of the spec."""
    key_prefixes: tuple[str, ...]
    """Per stage, what its keys in model.safetensors begin with."""


def parse_config(document: Mapping[str, object], name: str) -> ModelConfig:
    """Check a whole config.json, and give it types.

    Args:
        document: the parsed JSON object.
        name: how messages call the file.

    Raises:
        ModelError: naming the first entry that is missing, unknown, of a wrong type or out of range.
    """
    fields = check_object(dict(document), name, _SPEC_KEYS | {"format", "version"}, _OPTIONAL_KEYS)
    check_choice(fields["format"], f"{name}: format", (FORMAT,))
    check_integer(fields["version"], f"{name}: version", VERSION, VERSION)
    entries = check_list(fields["stages"], f"{name}: stages", 1, 8)
    stages = tuple(_stage(entry, f"{name}: stages[{i}]") for i, entry in enumerate(entries))
    spec = _spec(fields, name, tuple(stage for stage, _ in stages))
    return ModelConfig(
        spec, tuple(network for _, network in stages), tuple(f"{i}." for i in range(len(stages)))
    )


def parse_short_config(
    document: Mapping[str, object], name: str, network: Mapping[str, object]
) -> ModelConfig:
    """Check a configuration of one stage that leaves out format, version, network and what stays as it is.

    Args:
        document: any keys of a config.json that describe a model; its one stage may be left out, or any of
            its entries.
        name: how messages call the file.
        network: the network of that stage.

    Raises:
        ModelError: as `parse_config`.
    """
    given = check_object(dict(document), name, _SPEC_KEYS - {"stages"}, _OPTIONAL_KEYS | {"stages"})
    (entry,) = check_list(given.get("stages", [{}]), f"{name}: stages", 1, 1)
    stage = check_object(entry, f"{name}: stages[0]", frozenset(), STAGE_KEYS | OPTIONAL_STAGE_KEYS)
    stages = [{**DEFAULT_STAGE, **stage, "network": dict(network)}]
    return parse_config({**given, "format": FORMAT, "version": VERSION, "stages": stages}, name)


def spec_document(spec: ModelSpec, networks: tuple[NetworkConfig, ...]) -> dict[str, object]:
    """The JSON object from which `parse_config` makes the same; the digest is not part of it."""
    document: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "name": spec.name,
        "description": spec.description,
        "licence": spec.licence,
        "bands": list(spec.bands),
        "classes": [{"name": c.name, "color": list(c.color)} for c in spec.classes],
        "activation": spec.activation,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "dtypes": list(spec.dtypes),
        "refine_above": spec.refine_above,
        "scores": dict(spec.scores),
        "stages": [
            {
                "level": stage.level,
                "tile_px": stage.tile_px,
                "overlap_px": stage.overlap_px,
                "trim_px": stage.trim_px,
                "network": {"library": net.library, "name": net.name, "arguments": dict(net.arguments)},
            }
            for stage, net in zip(spec.stages, networks, strict=True)
        ],
    }
    if spec.pixel_size_m is not None:
        document["pixel_size_m"] = list(spec.pixel_size_m)
    return document


def _spec(fields: dict[str, object], name: str, stages: tuple[StageSpec, ...]) -> ModelSpec:
    bands = _names(fields["bands"], f"{name}: bands", 1024)
    activation = cast(
        "Activation", check_choice(fields["activation"], f"{name}: activation", ("softmax", "sigmoid"))
    )
    spec = ModelSpec(
        name=check_text(fields["name"], f"{name}: name"),
        bands=bands,
        classes=_classes(fields["classes"], f"{name}: classes"),
        activation=activation,
        mean=_numbers(fields["mean"], f"{name}: mean", len(bands)),
        std=_numbers(fields["std"], f"{name}: std", len(bands)),
        stages=stages,
        dtypes=_dtypes(fields.get("dtypes", ["uint8"]), f"{name}: dtypes"),
        pixel_size_m=_pixel_size(fields.get("pixel_size_m"), f"{name}: pixel_size_m"),
        refine_above=check_number(fields.get("refine_above", 0.5), f"{name}: refine_above", 0.0, 1.0),
        licence=check_text(fields.get("licence", "not stated"), f"{name}: licence", 1024),
        description=_description(fields.get("description", ""), f"{name}: description"),
        scores=_scores(fields.get("scores", {}), f"{name}: scores"),
    )
    if min(spec.std) <= 0:
        raise ModelError(f"{name}: std must be positive for every band, got {list(spec.std)}")
    if spec.num_logits < 1:
        raise ModelError(
            f"{name}: with sigmoid the first class is the background, so that at least 2 are needed, got 1"
        )
    _check_order(stages, name)
    return spec


def _check_order(stages: tuple[StageSpec, ...], name: str) -> None:
    levels = [stage.level for stage in stages]
    if levels != sorted(levels, reverse=True):
        raise ModelError(
            f"{name}: stages must go from coarse to fine, got levels {levels}; order them downwards"
        )
    if levels[-1] != 0:
        raise ModelError(
            f"{name}: the last stage must work at level 0, got levels {levels}; the mask is full size"
        )


def _stage(entry: object, name: str) -> tuple[StageSpec, NetworkConfig]:
    fields = check_object(entry, name, STAGE_KEYS | {"network"}, OPTIONAL_STAGE_KEYS)
    tile_px = check_integer(fields["tile_px"], f"{name}.tile_px", 16, 16384)
    overlap_px = check_integer(fields["overlap_px"], f"{name}.overlap_px", 0, tile_px)
    stage = StageSpec(
        level=check_integer(fields["level"], f"{name}.level", 0, 8),
        tile_px=tile_px,
        overlap_px=overlap_px,
        trim_px=check_integer(fields.get("trim_px", 0), f"{name}.trim_px", 0, overlap_px // 2),
    )
    try:
        # the lattice itself knows its rules; the size of the scene does not matter to them
        TileGrid(tile_px, overlap_px, height=1, width=1)
    except ValueError as error:
        raise ModelError(f"{name}: {error}") from error
    return stage, _network(fields["network"], f"{name}.network")


def _network(value: object, name: str) -> NetworkConfig:
    fields = check_object(value, name, frozenset({"library", "name"}), frozenset({"arguments"}))
    arguments = fields.get("arguments", {})
    if not isinstance(arguments, dict):
        raise ModelError(f"{name}.arguments must be a JSON object, got {arguments!r:.80}")
    _check_arguments(arguments, f"{name}.arguments")
    library = check_choice(fields["library"], f"{name}.library", LIBRARIES)
    network = NetworkConfig(library, check_text(fields["name"], f"{name}.name"), arguments)
    if library in FILE_SUFFIXES:
        _check_file_name(network, name)
    return network


def _check_arguments(value: object, name: str) -> None:
    # each entry may become a layer, which costs time and memory even where its weights have none
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if len(inner) > _MAX_ARGUMENTS:
        raise ModelError(f"{name} may have {_MAX_ARGUMENTS} entries, got {len(inner)}; no network needs more")
    for entry in inner:
        _check_arguments(entry, name)


def _check_file_name(network: NetworkConfig, name: str) -> None:
    suffix = FILE_SUFFIXES[network.library]
    is_plain = not set(network.name) & {"/", "\\", ":"} and not network.name.startswith(".")
    if not is_plain or not network.name.lower().endswith(suffix):
        raise ModelError(
            f"{name}.name must be the name of a {suffix} file in this folder, got {network.name!r}"
        )
    if network.arguments:
        raise ModelError(f"{name}.arguments must be empty, a file has none; got {network.arguments!r:.80}")


def _classes(value: object, name: str) -> tuple[ClassInfo, ...]:
    entries = check_list(value, name, 1, 254)
    classes = tuple(_class(entry, f"{name}[{i}]") for i, entry in enumerate(entries))
    _check_unique([c.name for c in classes], name)
    return classes


def _class(value: object, name: str) -> ClassInfo:
    fields = check_object(value, name, frozenset({"name", "color"}), frozenset())
    color = check_list(fields["color"], f"{name}.color", 3, 3)
    red, green, blue = (check_integer(part, f"{name}.color", 0, 255) for part in color)
    return ClassInfo(check_text(fields["name"], f"{name}.name"), (red, green, blue))


def _names(value: object, name: str, high: int) -> tuple[str, ...]:
    names = tuple(
        check_text(entry, f"{name}[{i}]") for i, entry in enumerate(check_list(value, name, 1, high))
    )
    _check_unique(names, name)
    return names


def _check_unique(names: tuple[str, ...] | list[str], name: str) -> None:
    twice = sorted({entry for entry in names if names.count(entry) > 1})
    if twice:
        raise ModelError(f"{name}: each name may stand there once, got more than one {', '.join(twice[:3])}")


def _numbers(value: object, name: str, count: int) -> tuple[float, ...]:
    return tuple(
        check_number(entry, f"{name}[{i}]") for i, entry in enumerate(check_list(value, name, count, count))
    )


def _dtypes(value: object, name: str) -> tuple[str, ...]:
    entries = check_list(value, name, 1, len(DTYPES))
    return tuple(check_choice(entry, f"{name}[{i}]", DTYPES) for i, entry in enumerate(entries))


def _pixel_size(value: object, name: str) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = (check_number(entry, name) for entry in check_list(value, name, 2, 2))
    if not 0 < low <= high:
        raise ModelError(
            f"{name} must be the smallest and the largest size, both positive, got [{low:g}, {high:g}]"
        )
    return low, high


def _description(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > 65536 or not value.replace("\n", "").isprintable():
        raise ModelError(f"{name} must be a text of at most 65536 printable characters, got {value!r:.80}")
    return value


def _scores(value: object, name: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ModelError(f"{name} must be a JSON object of numbers, got {value!r:.80}")
    return {
        check_text(key, f"{name}: name"): check_number(score, f"{name}.{key:.80}")
        for key, score in value.items()
    }
