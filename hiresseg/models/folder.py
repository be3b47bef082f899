"""The files of a model folder: found, confined to it, bounded in size, and digested."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
from pathlib import Path

from hiresseg.errors import ModelError
from hiresseg.models.checks import parse_object
from hiresseg.models.config import FILE_SUFFIXES, ModelConfig, parse_config, parse_short_config
from hiresseg.models.hub import fetch_model, is_on_hub
from hiresseg.models.huggingface import config_of_huggingface, is_huggingface
from hiresseg.models.smp import config_of_pretrained, is_pretrained

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
OVERRIDES_FILE = "hiresseg.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
DATA_SUFFIX = ".data"
"""What torch.onnx.export adds to the name of an ONNX file for the file of its weights."""
MAX_JSON_BYTES = 1 << 20

TEMPLATE = """\
{
  "bands": ["red", "green", "blue"],
  "classes": [{"name": "background", "color": [0, 0, 0]}, {"name": "building", "color": [230, 60, 40]}],
  "activation": "softmax",
  "mean": [123.7, 116.3, 103.5],
  "std": [58.4, 57.1, 57.4],
  "dtypes": ["uint8"],
  "pixel_size_m": [0.1, 0.5],
  "stages": [{"tile_px": 512, "overlap_px": 64, "trim_px": 8}]
}"""
"""The config.json that an exported network needs beside it, for a person to fill in."""

_BUNDLED = Path(__file__).parent / "bundled"
_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"})
_PICKLE_REMEDY = (
    "opening such a file can run any code; where you trust it, import its tensors with hiresseg "
    "import-model, or write a model folder with hiresseg.models.save_model"
)
_TORCHSCRIPT_REMEDY = """it is TorchScript, which PyTorch has given up; make an ONNX file of it:
  python -c "import torch; torch.onnx.export(torch.jit.load('{file}').eval(), \
(torch.zeros(1, 3, 512, 512),), '{stem}.onnx', dynamo=False, input_names=['images'], \
dynamic_axes={{'images': {{0: 'n'}}}})"
with its number of bands and its tile in the place of 3 and 512; or, where you have its code, in Python:
  torch.export.save(torch.export.export(network.eval(), (torch.zeros(1, 3, 512, 512),)), '{stem}.pt2')"""


def bundled_names() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    if not _BUNDLED.is_dir():
        return ()
    return tuple(sorted(folder.name for folder in _BUNDLED.iterdir() if (folder / CONFIG_FILE).is_file()))


def find_model(name_or_path: str | Path) -> tuple[Path, str | None]:
    """The folder of a model, and the name of the exported network in it where that file was named itself.

    A text that names a bundled model means that one, "./name" a folder, "hf://owner/name" one on the Hub.

    Raises:
        ModelError: if there is no such model, or it is a file of another kind, or a folder that holds pickles
            only.
    """
    if isinstance(name_or_path, str) and name_or_path in bundled_names():
        return _BUNDLED / name_or_path, None
    if isinstance(name_or_path, str) and is_on_hub(name_or_path):
        return _find_folder(fetch_model(name_or_path)), None
    path = Path(name_or_path)
    if path.suffix.lower() in FILE_SUFFIXES.values() and os.path.isfile(path):  # noqa: PTH113 - it never raises
        refuse_torchscript(path)
        return path.parent.resolve(), path.name
    return _find_folder(name_or_path), None


def is_function_name(name: object) -> bool:
    """Whether a name is a text of the form `module:function`, which Python code is found by."""
    return isinstance(name, str) and bool(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name))


def _find_folder(name_or_folder: str | Path) -> Path:
    folder = Path(name_or_folder)
    try:
        if folder.is_dir():
            _refuse_pickles(folder)
            return folder.resolve()
        is_file = folder.exists()
    except OSError as error:
        raise ModelError(
            f"{str(folder)!r:.200} cannot be looked at ({error.strerror}); check the path"
        ) from error
    if is_file:
        refuse_torchscript(folder)
    if folder.suffix.lower() in _PICKLES:
        raise ModelError(f"{folder} is not taken as a model: {_PICKLE_REMEDY}")
    if is_file:
        raise ModelError(f"{folder} is a file; name the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    bundled = ", ".join(bundled_names()) or "none"
    raise ModelError(
        f"{str(name_or_folder)!r:.200} is neither a folder nor a bundled model; bundled are: {bundled}"
    )


def read_config(folder: Path, file_name: str | None = None) -> ModelConfig:
    """What the folder's JSON files say, checked, without its digest.

    Args:
        folder: the model's.
        file_name: the exported network in it that was named itself: then a short config.json will do.

    Raises:
        ModelError: if a file is missing, too large, not inside the folder, or not as it should be.
    """
    name = f"{folder.name}/{CONFIG_FILE}"
    if file_name is not None:
        return _read_file_config(folder, file_name, name)
    document = _read_object(folder, CONFIG_FILE)
    overrides = _read_object(folder, OVERRIDES_FILE) if _stands(folder / OVERRIDES_FILE) else {}
    if is_huggingface(document):
        preprocessor = _read_object(folder, PREPROCESSOR_FILE) if _stands(folder / PREPROCESSOR_FILE) else {}
        return config_of_huggingface(document, preprocessor, overrides, folder.name)
    if is_pretrained(document):
        return config_of_pretrained(document, overrides, folder.name)
    if overrides:
        raise ModelError(
            f"{folder / OVERRIDES_FILE} goes with save_pretrained folders; put its entries into {CONFIG_FILE}"
        )
    return parse_config(document, name)


def weights_file(folder: Path) -> Path:
    """Path of the folder's weights, checked to be a regular file inside it.

    Raises:
        ModelError: if it is not.
    """
    return _inside(folder, WEIGHTS_FILE)


def network_file(folder: Path, file_name: str) -> Path:
    """Path of an exported network, checked to be a regular file inside the folder.

    Raises:
        ModelError: if it is not.
    """
    return _inside(folder, file_name)


def model_files(folder: Path, config: ModelConfig) -> tuple[str, ...]:
    """Names of the files that make up the model, in a fixed order."""
    names = [CONFIG_FILE]
    if _stands(folder / OVERRIDES_FILE):
        names.append(OVERRIDES_FILE)
    is_prepared = any(network.library == "transformers" for network in config.networks)
    if is_prepared and _stands(folder / PREPROCESSOR_FILE):
        names.append(PREPROCESSOR_FILE)
    if any(network.library not in FILE_SUFFIXES for network in config.networks):
        names.append(WEIGHTS_FILE)
    for network in config.networks:
        if network.library in FILE_SUFFIXES:
            names.append(network.name)
            if _stands(folder / (network.name + DATA_SUFFIX)):
                names.append(network.name + DATA_SUFFIX)
    return tuple(dict.fromkeys(names))


def digest_folder(folder: Path, config: ModelConfig) -> str:
    """SHA-256, in hexadecimal digits, over the names, sizes and bytes of the files that make up the model.

    Raises:
        ModelError: if one of them is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for name in model_files(folder, config):
        path = _inside(folder, name)
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def _read_file_config(folder: Path, file_name: str, name: str) -> ModelConfig:
    if not _stands(folder / CONFIG_FILE):
        raise ModelError(
            f"{folder / file_name} needs a {CONFIG_FILE} beside it, for what the file does not say; fill in "
            f"this one and save it as {folder / CONFIG_FILE}:\n{TEMPLATE}"
        )
    document = _read_object(folder, CONFIG_FILE)
    if "format" not in document:
        suffix = Path(file_name).suffix.lower()
        library = next(library for library, ending in FILE_SUFFIXES.items() if ending == suffix)
        short = {"name": Path(file_name).stem, **document}
        return parse_short_config(short, name, {"library": library, "name": file_name})
    config = parse_config(document, name)
    named = [network.name for network in config.networks]
    if file_name not in named:
        raise ModelError(
            f"{name} describes {', '.join(named)} and not {file_name}; name the folder, or give {file_name} "
            f"a folder and a {CONFIG_FILE} of its own"
        )
    return config


def _read_object(folder: Path, name: str) -> dict[str, object]:
    with _inside(folder, name).open("rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise ModelError(
            f"{folder / name} is larger than {MAX_JSON_BYTES} bytes; keep to what the form of {name} asks for"
        )
    return parse_object(data, f"{folder.name}/{name}")


def _stands(path: Path) -> bool:
    # a dangling link counts: it is there, and is refused as what it is
    return path.is_symlink() or path.exists()


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    try:
        target = path.resolve(strict=True)
        is_regular = stat.S_ISREG(target.stat().st_mode)
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"{folder} has no readable {name} ({error}); put {CONFIG_FILE} and {WEIGHTS_FILE} there"
        ) from error
    if not target.is_relative_to(folder.resolve()):
        raise ModelError(f"{path} is a link that leaves its folder, to {target}; put a copy there (cp -L)")
    # a pipe or a device would block or never end
    if not is_regular:
        raise ModelError(f"{path} is not a regular file; put {name} itself there")
    if not os.access(target, os.R_OK):
        raise ModelError(f"{path} may not be read; change its permissions")
    return target


def refuse_torchscript(path: Path) -> None:
    """Refuse a file that torch.jit.save wrote.

    Raises:
        ModelError: with the command that makes an ONNX file of it.
    """
    try:
        # isfile never raises, is_zipfile does where the end of an archive is damaged
        if not os.path.isfile(path) or not zipfile.is_zipfile(path):  # noqa: PTH113
            return
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        # whoever reads it next says what is wrong with it
        return
    parts = {name.partition("/")[2] for name in names}
    if "constants.pkl" in parts and any(part.startswith("code/") for part in parts):
        raise ModelError(
            f"{path} is not taken as a model: " + _TORCHSCRIPT_REMEDY.format(file=path, stem=path.stem)
        )


def _refuse_pickles(folder: Path) -> None:
    names = sorted(entry.name for entry in folder.iterdir())
    pickles = [name for name in names if Path(name).suffix.lower() in _PICKLES]
    if pickles and WEIGHTS_FILE not in names:
        raise ModelError(f"{folder} has no {WEIGHTS_FILE}, only {', '.join(pickles[:3])}: {_PICKLE_REMEDY}")
