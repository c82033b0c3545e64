"""The error tree. The docstring of a class is its default message; `retryable` says whether trying again can help;
`exit_code` is what the command line answers with. Messages never carry patient data: UIDs, paths and numbers only."""

import inspect
from pathlib import Path
from typing import ClassVar


class NodeError(Exception):
    """Something in the node went wrong."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(self.__class__.__doc__ or self.__class__.__name__))


class ConfigError(NodeError):
    """The configuration is invalid."""

    exit_code = 3


class NotFoundError(NodeError):
    """There is nothing of that name here."""

    exit_code = 4


class PeerError(NodeError):
    """A peer could not be reached, or refused us."""

    retryable = True
    exit_code = 5


class StorageError(NodeError):
    """The archive could not keep or read a file."""

    retryable = True


class StorageFullError(StorageError):
    """The archive's disk is full (below the configured reserve)."""


class DamagedFileError(NodeError):
    """A file is not DICOM, or damaged."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class LeaseLostError(NodeError):
    """Another worker took this job over, or it was cancelled or superseded; what this worker still holds is discarded."""


class TransitionError(NodeError):
    """That change of state is not allowed."""


class RefusedError(NodeError):
    """The study is not one the model was made for."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class ModelError(NodeError):
    """The model's weights or manifest cannot be used."""

    exit_code = 3


class ServiceNotRunningError(NodeError):
    """The service is not running; start it with: diffmsr-node start"""

    exit_code = 7
