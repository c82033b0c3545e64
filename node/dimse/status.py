"""Status codes, as data: what this node answers, and how it interprets the answers of its peers. The handlers read these
tables, and the conformance statement prints them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Self


class Answer(IntEnum):
    """A status with which this node answers, and its meaning in words."""

    words: str

    def __new__(cls, code: int, words: str) -> Self:
        answer = int.__new__(cls, code)
        answer._value_ = code
        answer.words = words
        return answer

    def __str__(self) -> str:
        return f"0x{self.value:04X} ({self.words})"


class StoreStatus(Answer):
    """C-STORE, as answered by us (PS3.4 table B.2-1)."""

    SUCCESS = 0x0000, "success: the instance is durable and recorded"
    OUT_OF_RESOURCES = (
        0xA700,
        "refused: out of resources; the disk is below its reserve, or the tracker does not answer",
    )
    INVALID_SOP_INSTANCE = 0x0117, "refused: the affected SOP instance UID is empty or malformed"
    SOP_CLASS_NOT_SUPPORTED = 0x0122, "refused: the affected SOP class is not that of the presentation context"
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900, "error: the data set's UIDs are not those of the request"
    CANNOT_UNDERSTAND = 0xC000, "error: cannot understand; unreadable, or a UID is missing or malformed"
    DUPLICATE_SOP_INSTANCE = 0xC111, "error: this SOP instance UID is known with other content; the first is kept"
    """A code of our own in the "cannot understand" range."""


class EchoStatus(Answer):
    """C-ECHO, as answered by us (PS3.7 9.1.5)."""

    SUCCESS = 0x0000, "success"


class ActionStatus(Answer):
    """N-ACTION of storage commitment, as answered by us (PS3.4 J.3.2, PS3.7 10.1.4)."""

    SUCCESS = 0x0000, "success: the transaction is recorded, its report follows"
    PROCESSING_FAILURE = 0x0110, "processing failure: the tracker does not answer; ask again later"
    NO_SUCH_INSTANCE = 0x0112, "no such SOP instance: not the well-known instance of the Push Model"
    INVALID_ARGUMENT = 0x0115, "invalid argument: no transaction UID, or no well-formed instances"
    NO_SUCH_ACTION = 0x0123, "no such action: the only action type is 1, request storage commitment"
    DUPLICATE_TRANSACTION = 0x0131, "duplicate transaction UID: this transaction was reported on already"
    RESOURCE_LIMITATION = 0x0213, "resource limitation: too many reports are owed to this peer; ask again later"


class EventStatus(Answer):
    """N-EVENT-REPORT of storage commitment, as answered by us (PS3.4 J.3.3, PS3.7 10.1.1)."""

    SUCCESS = 0x0000, "success: the report is recorded"
    PROCESSING_FAILURE = 0x0110, "processing failure: the tracker does not answer; report again later"
    NO_SUCH_EVENT = 0x0113, "no such event type: only 1 and 2 are defined"
    INVALID_ARGUMENT = 0x0115, "invalid argument: the transaction is not one of ours, or the report is malformed"


class FailureReason(Answer):
    """Why the node does not commit an instance (PS3.3 C.14.1.1, attribute (0008,1197))."""

    PROCESSING_FAILURE = 0x0110, "processing failure: the file is not what was received"
    NO_SUCH_INSTANCE = 0x0112, "no such object instance: it was not received, or its file is gone"
    CLASS_INSTANCE_CONFLICT = 0x0119, "class-instance conflict: it was received with another SOP class"


class Verdict(Enum):
    """What the status of a peer means for the request."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    """It may work later."""
    REFUSED = "refused"
    """The same request would be refused again."""


@dataclass(frozen=True)
class Meaning:
    """How a status from a peer, or a range of them, is interpreted."""

    first: int
    last: int
    words: str
    verdict: Verdict

    @property
    def codes(self) -> str:
        return f"0x{self.first:04X}" if self.first == self.last else f"0x{self.first:04X} to 0x{self.last:04X}"


def _one(code: int, words: str, verdict: Verdict) -> Meaning:
    return Meaning(code, code, words, verdict)


_GENERAL = (
    _one(0x0110, "processing failure", Verdict.RETRY),
    _one(0x0122, "SOP class not supported", Verdict.RETRY),
    _one(0x0124, "not authorised", Verdict.RETRY),
)
"""PS3.7 annex C."""

C_STORE = (
    _one(0x0000, "success", Verdict.ACCEPTED),
    _one(0x0110, "processing failure", Verdict.RETRY),
    _one(0x0111, "the peer has this instance already", Verdict.ACCEPTED),
    _one(0x0122, "SOP class not supported", Verdict.REFUSED),
    _one(0x0124, "not authorised", Verdict.RETRY),  # an administrator can change that
    Meaning(0xA700, 0xA7FF, "out of resources", Verdict.RETRY),
    Meaning(0xA900, 0xA9FF, "data set does not match its SOP class", Verdict.REFUSED),
    _one(0xB000, "stored with coerced attributes", Verdict.ACCEPTED),
    _one(0xB006, "stored with discarded attributes", Verdict.ACCEPTED),
    _one(0xB007, "stored, but does not match its SOP class", Verdict.ACCEPTED),
    Meaning(0xB001, 0xBFFF, "stored with a warning", Verdict.ACCEPTED),
    Meaning(0xC000, 0xCFFF, "cannot understand the data set", Verdict.REFUSED),
)
"""C-STORE, as answered by a destination (PS3.4 B.2.3). The first entry that fits counts."""

C_ECHO = (_one(0x0000, "success", Verdict.ACCEPTED), *_GENERAL)
"""C-ECHO, as answered by a destination (PS3.7 9.1.5)."""

_NORMALIZED = (
    *_GENERAL,
    _one(0x0112, "no such object instance", Verdict.RETRY),
    _one(0x0115, "invalid argument value", Verdict.RETRY),
    _one(0x0119, "class-instance conflict", Verdict.RETRY),
    _one(0x0131, "duplicate transaction UID", Verdict.RETRY),
    _one(0x0210, "duplicate invocation", Verdict.RETRY),
    _one(0x0211, "unrecognised operation", Verdict.RETRY),
    _one(0x0213, "resource limitation", Verdict.RETRY),
)

N_ACTION = (_one(0x0000, "success", Verdict.ACCEPTED), *_NORMALIZED)
"""N-ACTION of storage commitment, as answered by a destination (PS3.7 10.1.4). After every failure the request is
repeated with a new transaction UID."""

N_EVENT_REPORT = N_ACTION
"""N-EVENT-REPORT, as answered by a peer that requested storage commitment (PS3.7 10.1.1). After every failure the report is
repeated."""

FAILURE_REASON = _NORMALIZED
"""Why a destination does not commit an instance (PS3.3 C.14.1.1). The instance is sent again."""

C_FIND = (
    _one(0x0000, "success", Verdict.ACCEPTED),
    *_GENERAL,
    Meaning(0xFF00, 0xFF01, "pending", Verdict.ACCEPTED),
    _one(0xA700, "out of resources", Verdict.RETRY),
    _one(0xA900, "the identifier does not match the SOP class", Verdict.RETRY),
    _one(0xFE00, "cancelled", Verdict.RETRY),
    Meaning(0xC000, 0xCFFF, "unable to process", Verdict.RETRY),
)
"""C-FIND, as answered by a PACS (PS3.4 C.4.1.1.4)."""

C_GET = (
    *C_FIND,
    _one(0xA701, "out of resources: unable to count the matches", Verdict.RETRY),
    _one(0xA702, "out of resources: unable to perform sub-operations", Verdict.RETRY),
    _one(0xB000, "some sub-operations failed", Verdict.RETRY),
)
"""C-GET, as answered by a PACS (PS3.4 C.4.3.1.4)."""

C_MOVE = (*C_GET, _one(0xA801, "the PACS does not know our AE title as a move destination", Verdict.RETRY))
"""C-MOVE, as answered by a PACS (PS3.4 C.4.2.1.5)."""


def meaning(table: Sequence[Meaning], status: int) -> Meaning:
    """The meaning of a peer's status. A status that is missing in the table may be temporary, so it is worth another try."""
    for entry in table:
        if entry.first <= status <= entry.last:
            return entry
    return _one(status, "a status that the service does not define", Verdict.RETRY)


def words(table: Sequence[Meaning], status: int) -> str:
    """A status with its meaning, e.g. '0xA700 (out of resources)'."""
    return f"0x{status:04X} ({meaning(table, status).words})"
