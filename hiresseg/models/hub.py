"""Models on the Hugging Face Hub: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION`, fetched and pushed.

Only the files that a model folder may be read from are fetched, and nothing in them can run code. Who may
read or write where is known to huggingface_hub, which keeps the log-in.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from hiresseg.errors import ModelError

PREFIX = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?")
_FETCHED = (
    "config.json",
    "model.safetensors",
    "hiresseg.json",
    "preprocessor_config.json",
    "*.onnx",
    "*.onnx.data",
    "README.md",
)
_PUSHED = (*_FETCHED, "recipe.toml", "data.json", "curves.png", "CARD.md", "LICENSE*")


def is_on_hub(name: object) -> bool:
    """Whether a model is named by an address on the Hub."""
    return isinstance(name, str) and name.startswith(PREFIX)


def fetch_model(address: str) -> Path:
    """A folder with the files of a model on the Hub; what is there already is not fetched again.

    Args:
        address: `hf://OWNER/NAME` or `hf://OWNER/NAME@REVISION`. Without a revision the newest is taken, or
            what was fetched before where the Hub cannot be reached.

    Raises:
        ModelError: if there is no such model, or it cannot be fetched.
    """
    repo, revision = _parse(address)
    from huggingface_hub import constants, snapshot_download

    # real files: the Hub's own cache has links, and a model folder may not point outside itself
    folder = Path(constants.HF_HUB_CACHE) / "hiresseg" / f"{repo.replace('/', '--')}@{revision or 'main'}"
    try:
        snapshot_download(repo, revision=revision, local_dir=folder, allow_patterns=list(_FETCHED))
    except (OSError, ValueError, _transport_error()) as error:
        raise ModelError(
            f"{address} cannot be fetched ({type(error).__name__}: {str(error)[:300]}); check the name, the "
            "connection, and for a private model `hf auth login`"
        ) from error
    return folder


def push_model(folder: Path, address: str, *, private: bool = True) -> str:
    """Uploads a model folder; its repository is made if there is none.

    Args:
        folder: the model's; checked before anything is sent.
        address: `hf://OWNER/NAME`, or with `@BRANCH`.
        private: whether a repository that is made is for its owner alone.

    Returns:
        Where it can be looked at.

    Raises:
        ModelError: if the folder is no model, or cannot be uploaded.
    """
    from hiresseg.models import describe_model

    repo, revision = _parse(address)
    describe_model(folder)
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            revision=revision,
            folder_path=folder,
            allow_patterns=list(_PUSHED),
            commit_message=f"{folder.resolve().name}, by hiresseg",
        )
    except (OSError, ValueError, _transport_error()) as error:
        raise ModelError(
            f"{folder} cannot be pushed to {address} ({type(error).__name__}: {str(error)[:300]}); check the "
            "name, the connection, and `hf auth login`"
        ) from error
    return str(done.commit_url)


def _transport_error() -> type[Exception]:
    """What the HTTP library of this huggingface_hub raises without a connection: it has changed twice."""
    from huggingface_hub import get_session

    error: type[Exception] = import_module(type(get_session()).__module__.split(".")[0]).HTTPError
    return error


def _parse(address: str) -> tuple[str, str | None]:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ModelError(
            f"{address!r:.200} is no model on the Hub; write hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
        )
    return match["repo"], match["revision"]
