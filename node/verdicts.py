"""What the match stage decided on a study, and why: the result of a match job, which `explain`, `replay` and every page
read.

The tracker keeps it as JSON. A migration has renamed what schema 1 called "orders".
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from node.payloads import PairRequest
from node.result import AcquisitionFact

VERDICT_SCHEMA = 2

StackRole = Literal["target", "reference", "neither"]
PredicateValue = str | int | float | None


class PredicateOutcome(StrEnum):
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


class StudyOutcome(StrEnum):
    """The answer of the matching. It is not the state of the match job, which also depends on time: see docs/adr/0013."""

    PAIRED = "paired"
    WAITING = "waiting"
    """A target or a reference is missing. The study waits for it, and is refused when it does not come in time."""
    REFUSED = "refused"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


_OLD_NAMES = {"one slice an image": "one slice per image"}


class Predicate(_Part):
    """One question about a stack or a pair, and its answer."""

    name: Annotated[str, AfterValidator(lambda name: _OLD_NAMES.get(name, name))]
    outcome: PredicateOutcome
    value: PredicateValue
    """What was found."""
    threshold: PredicateValue
    """What is required."""
    code: str | None
    """One of `node.codes`; None when the outcome is pass."""
    sentence: str


class StackVerdict(_Part):
    """One stack of slices: what it is, how it is used, and the predicates that led there."""

    label: str
    """Such as "series 3, echo 2"; unique in its study."""
    series_uid: str
    series_number: int | None
    slices: int
    rows: int | None
    columns: int | None
    spacing_mm: tuple[float, float] | None
    """Between rows, between columns."""
    slice_spacing_mm: float | None
    contrast: str | None
    role: StackRole
    predicates: tuple[Predicate, ...]
    acquisition: tuple[AcquisitionFact, ...] = ()
    """How a target was acquired, as far as its headers tell."""


class ScoreTerm(_Part):
    """One term of the score by which the reference of a target is chosen."""

    name: str
    value: PredicateValue
    """What was found."""
    points: float
    most: float
    """The points of a reference that could not fit better."""


class PairVerdict(_Part):
    """A target compared with a reference; both are given by their labels."""

    target: str
    reference: str
    passes: bool
    predicates: tuple[Predicate, ...]
    score: tuple[ScoreTerm, ...] = ()
    """Empty when the pair does not pass, and in verdicts of before scores."""


class TargetVerdict(_Part):
    """The reference that was chosen for a target, by their labels."""

    target: str
    reference: str | None
    """None when no reference fits."""
    reasons: tuple[str, ...]
    """Why this reference was chosen, or why none fits."""


class ModelName(_Part):
    name: str
    version: str


class StudyVerdict(_Part):
    """Everything the matching found out about a study."""

    study_uid: str
    model: ModelName
    outcome: StudyOutcome
    missing: Literal["target", "reference"] | None
    """What a waiting study waits for."""
    code: str | None
    """The code with which the study is refused once it waits no longer; None when paired."""
    sentence: str
    stacks: tuple[StackVerdict, ...]
    pairs: tuple[PairVerdict, ...]
    targets: tuple[TargetVerdict, ...]
    requests: tuple[PairRequest, ...]

    def to_json(self) -> dict[str, Any]:
        """As the tracker keeps it and `explain --json` prints it; `StudyVerdict.model_validate` reads it back."""
        return {"schema": VERDICT_SCHEMA, **self.model_dump(mode="json")}


def failures(predicates: tuple[Predicate, ...] | list[Predicate]) -> list[Predicate]:
    return [p for p in predicates if p.outcome is PredicateOutcome.FAIL]


def warnings(predicates: tuple[Predicate, ...] | list[Predicate]) -> list[Predicate]:
    return [p for p in predicates if p.outcome is PredicateOutcome.WARN]
