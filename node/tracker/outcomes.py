"""How an attempt at a job can end. A stage returns one of these, and `queue.settle` alone turns it into a state
(`states.py`). In each of them `sentence` tells people what happened."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from node.payloads import JobResult
from node.tracker.states import Kind
from node.verdicts import StudyVerdict


@dataclass(frozen=True)
class NewJob:
    """Work for the next stage, created in the transaction that finishes this one."""

    kind: Kind
    key: str
    study_uid: str
    payload: dict[str, Any]
    max_attempts: int
    revision: int = 0
    target_series_uid: str | None = None
    reference_series_uid: str | None = None
    twins_of_target: frozenset[str] = frozenset()
    """Series of the same images that the target series took the place of."""
    destination: str | None = None
    """Name of the destination of a deliver job. Each destination has a worker of its own."""
    held: str | None = None
    """Why the job starts held, until an administrator releases it; None when it may start at once."""


@dataclass(frozen=True)
class Done:
    """The job is finished; `then` is what follows from it."""

    sentence: str
    result: JobResult | None = None
    then: tuple[NewJob, ...] = ()


@dataclass(frozen=True)
class Matched:
    """A study was matched: `wanted` are its infer jobs and what is to be fetched for it; all other unfinished ones of
    the study are superseded.

    `look_again_at` reopens the study then: other series were still arriving, or a target waits for its partner.
    """

    sentence: str
    verdict: StudyVerdict | None
    """None while every series is still arriving."""
    wanted: tuple[NewJob, ...]
    waiting: bool = False
    receiving: bool = False
    look_again_at: datetime | None = None


@dataclass(frozen=True)
class Refused:
    """Not a study the model was made for: `code`, and a sentence for people."""

    code: str
    sentence: str
    verdict: StudyVerdict | None = None
    """Of a study that the match stage refused."""
    wanted: tuple[NewJob, ...] = ()


@dataclass(frozen=True)
class Committing:
    """All is sent, and the transaction's report is awaited, for `patience_s` at most."""

    sentence: str
    transaction_uid: str
    patience_s: float


@dataclass(frozen=True)
class Missing:
    """Something that an earlier job made is missing or damaged. `maker` names that job, which is done again, or for the
    first time when the tracker was filled by a version that had no such job. This job waits for it, and the attempt does
    not count."""

    sentence: str
    maker: NewJob


@dataclass(frozen=True)
class Retry:
    """It may work later. Becomes a failure when the attempts are used up."""

    sentence: str
    delay_s: float
    give_up_after_s: float | None = None
    """It becomes a failure, too, when the first failed attempt is so long ago."""


@dataclass(frozen=True)
class Postponed:
    """This host cannot work at the moment: its disk is full, or its database away. The attempt does not count."""

    sentence: str
    delay_s: float


@dataclass(frozen=True)
class Failed:
    """It will not work by itself; an administrator has to look."""

    sentence: str


Outcome = Done | Matched | Refused | Committing | Missing | Retry | Postponed | Failed
