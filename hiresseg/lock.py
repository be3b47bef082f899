"""One process at a time in an output folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hiresseg.errors import StoreError

LOCK_NAME = ".lock"


class FolderLock:
    """A lock on a folder; the system lets go of it when the process ends, however it ends.

    Args:
        folder: made when the lock is taken, parents too, and removed with it if nothing was put there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: int | None = None
        self._made_folders: list[Path] = []

    @property
    def is_held(self) -> bool:
        """Whether this process holds the folder."""
        return self._file is not None

    def take(self) -> None:
        """Take the folder for this process.

        Raises:
            StoreError: if it cannot be made or written, or another process holds it.
        """
        try:
            self._make_folder()
            while self._file is None:
                self._file = self._lock_current_file()
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"{self.folder}: cannot be written ({error.strerror}); give another folder with -o"
            ) from error

    def release(self) -> None:
        """Let go, and leave no trace where nothing was made."""
        if self._file is None:
            return
        # removed while it is held: who holds this very file next sees that it is gone, and looks again
        (self.folder / LOCK_NAME).unlink(missing_ok=True)
        for folder in self._made_folders:
            if any(folder.iterdir()):
                break
            folder.rmdir()
        os.close(self._file)
        self._file = None

    def _make_folder(self) -> None:
        if self.folder.is_dir():
            return
        if self.folder.exists():
            raise StoreError(
                f"{self.folder}: is a file, and the output goes to a folder; give another with -o"
            )
        missing = [self.folder, *(parent for parent in self.folder.parents if not parent.exists())]
        self.folder.mkdir(parents=True)
        self._made_folders = missing

    def _lock_current_file(self) -> int | None:
        """A held descriptor; None if the file was removed by another process meanwhile."""
        path = self.folder / LOCK_NAME
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file)):
                return file
        except BlockingIOError:
            holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise StoreError(
                f"{self.folder}: another run is writing there (process {holder}); wait for it, or stop it"
            ) from None
        except OSError:
            os.close(file)
            raise
        os.close(file)
        return None
