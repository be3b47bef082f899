"""Files that appear complete or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hiresseg.errors import StoreError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is written there takes the final name as the block ends.

    File and folder are synced, so that the name never stands for less than the whole file. If the block
    fails, nothing is left under either name but what stood there before; if only the folder cannot be synced,
    nothing at all, since the new name might not last.

    Raises:
        StoreError: if the file cannot be written, synced or renamed.
    """
    if path.is_dir():
        raise StoreError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise StoreError(f"{path} cannot be written: its folder does not exist; create {path.parent} first")
    # one fixed name, so that what a killed process left behind is overwritten instead of piling up
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        try:
            sync(path.parent)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error}; check free space, quota and permissions"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole, or not at all, whatever happens; return when it is on disk.

    Raises:
        StoreError: with the system's reason, when it cannot be written. Nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); "
            f"free or repair the disk and run the same command again: it goes on"
        ) from error
