"""The few ways in which a run is refused or fails.

::

    HiressegError
    ├── SceneError     (ValueError)     a scene cannot be read as it is
    ├── ModelError     (ValueError)     a model folder or a network is not what it claims
    ├── RecipeError    (ValueError)     parameters that contradict each other or what is on disk
    ├── ResourceError  (RuntimeError)   the machine is too small for what was asked
    ├── StoreError     (OSError)        the output cannot be written or belongs to something else
    ├── BlockError     (RuntimeError)   a block failed while it was computed
    └── Interrupted    (RuntimeError)   stopped on request; the same command goes on

Every message says what is wrong, with the file and the offending value, and what to do about it.
"""

from __future__ import annotations


class HiressegError(Exception):
    """Anything that hiresseg refuses or fails at, and knows why."""


class SceneError(HiressegError, ValueError):
    """A scene is missing, unreadable, or of a kind that hiresseg does not take."""


class ModelError(HiressegError, ValueError):
    """A model folder or a network is not what it claims to be."""


class RecipeError(HiressegError, ValueError):
    """Parameters contradict each other, or the run that is already on disk."""


class ResourceError(HiressegError, RuntimeError):
    """The plan needs more memory or disk than it was given."""


class StoreError(HiressegError, OSError):
    """The output cannot be written, is locked, or belongs to something else."""


class BlockError(HiressegError, RuntimeError):
    """One block failed; the message names stage and block."""


class Interrupted(HiressegError, RuntimeError):  # noqa: N818 - the word for it is not an error
    """The run was stopped on request; the same command goes on where it stopped."""
