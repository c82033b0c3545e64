"""The error tree. The docstring of a class is its default message; `retryable` says whether trying again can help;
`exit_code` is what the command line answers with. Messages never carry patient data: UIDs, paths and numbers only."""

import inspect
from typing import ClassVar


class NodeError(Exception):
    """Something in the node went wrong."""

    retryable: ClassVar[bool] = False
    local: ClassVar[bool] = False
    """Whether this host's own disk or database is in trouble: what fails for that is done later, and uses no attempt."""
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        said = message or inspect.cleandoc(self.__class__.__doc__ or self.__class__.__name__)
        super().__init__(_visible(said))


def _visible(text: str) -> str:
    """Control characters escaped: a part of the text may come from a peer, and a terminal may show it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


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
    local = True


class StorageFullError(StorageError):
    """The archive's disk is full (below the configured reserve)."""


class LostError(NodeError):
    """What the archive kept is lost."""

    code: ClassVar[str]


class DamagedError(LostError):
    """What the archive kept has changed since: it does not match its digest."""

    code = "E_STORED_DAMAGED"

    def __init__(self, location: str) -> None:
        super().__init__(f"{self.code}: {location} does not match its digest, so it is not used")


class MissingError(LostError):
    """What the archive kept is not there any more."""

    code = "E_STORED_MISSING"

    def __init__(self, location: str) -> None:
        super().__init__(f"{self.code}: {location} is missing")


class DamagedFileError(NodeError):
    """A file is not DICOM, or damaged."""

    def __init__(self, location: object, reason: str) -> None:
        super().__init__(f"{location}: {reason}")
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
