"""The files of a model folder: found, confined to it, bounded in size, and digested."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from hiresseg.errors import ModelError
from hiresseg.models.checks import parse_object
from hiresseg.models.config import ModelConfig, parse_config
from hiresseg.models.smp import config_of_pretrained, is_pretrained

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
OVERRIDES_FILE = "hiresseg.json"
MAX_JSON_BYTES = 1 << 20

_BUNDLED = Path(__file__).parent / "bundled"
_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"})
_PICKLE_REMEDY = (
    "opening such a file can run any code; where you trust it, open it yourself and write a model folder "
    "with hiresseg.models.save_model or with the network's own save_pretrained"
)


def bundled_names() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    if not _BUNDLED.is_dir():
        return ()
    return tuple(sorted(folder.name for folder in _BUNDLED.iterdir() if (folder / CONFIG_FILE).is_file()))


def find_folder(name_or_folder: str | Path) -> Path:
    """The folder of a model; a text that names a bundled model means that one, "./name" a folder.

    Raises:
        ModelError: if there is no such model, or it is a file, or a folder that holds pickles only.
    """
    names = bundled_names()
    if isinstance(name_or_folder, str) and name_or_folder in names:
        return _BUNDLED / name_or_folder
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
    if folder.suffix.lower() in _PICKLES:
        raise ModelError(f"{folder} is not taken as a model: {_PICKLE_REMEDY}")
    if is_file:
        raise ModelError(f"{folder} is a file; name the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    bundled = ", ".join(names) or "none"
    raise ModelError(
        f"{str(name_or_folder)!r:.200} is neither a folder nor a bundled model; bundled are: {bundled}"
    )


def read_config(folder: Path) -> ModelConfig:
    """What the folder's JSON files say, checked, without its digest.

    Raises:
        ModelError: if a file is missing, too large, not inside the folder, or not as it should be.
    """
    name = f"{folder.name}/{CONFIG_FILE}"
    document = _read_object(folder, CONFIG_FILE)
    overrides = _read_object(folder, OVERRIDES_FILE) if _stands(folder / OVERRIDES_FILE) else {}
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


def digest_folder(folder: Path) -> str:
    """SHA-256, in hexadecimal digits, over the names, sizes and bytes of the files that make up the model.

    Raises:
        ModelError: if one of them is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, OVERRIDES_FILE, WEIGHTS_FILE):
        if name == OVERRIDES_FILE and not _stands(folder / name):
            continue
        path = _inside(folder, name)
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


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


def _refuse_pickles(folder: Path) -> None:
    names = sorted(entry.name for entry in folder.iterdir())
    pickles = [name for name in names if Path(name).suffix.lower() in _PICKLES]
    if pickles and WEIGHTS_FILE not in names:
        raise ModelError(f"{folder} has no {WEIGHTS_FILE}, only {', '.join(pickles[:3])}: {_PICKLE_REMEDY}")
