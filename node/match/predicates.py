"""A verdict is a list of named predicates, each with what was found, what was asked for, and a sentence."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

Value = str | int | float | None
MAX_TEXT = 120  # characters of a header's value that a verdict repeats


class Outcome(StrEnum):
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Predicate:
    """One question asked of a stack or of a pair, and its answer. `code` is None when the answer is pass."""

    name: str
    outcome: Outcome
    value: Value
    threshold: Value
    code: str | None
    sentence: str

    def to_json(self) -> dict[str, Value]:
        return asdict(self) | {"outcome": self.outcome.value}


def expect(
    name: str,
    holds: bool,
    good: str,
    code: str,
    bad: str,
    *,
    value: Value = None,
    threshold: Value = None,
) -> Predicate:
    """The predicate `name`: passes with the sentence `good` when `holds`, else carries `code` with the sentence `bad`.

    A code that begins with E_ fails, one that begins with W_ warns.
    """
    if holds:
        return Predicate(name, Outcome.PASS, printable(value), printable(threshold), None, good)
    outcome = Outcome.WARN if code.startswith("W_") else Outcome.FAIL
    return Predicate(name, outcome, printable(value), printable(threshold), code, bad)


def printable(value: Value) -> Value:
    """The value as a line or a JSON number can show it: at most 4 decimals, no control characters, no novel."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return "".join(c if c.isprintable() else "?" for c in value[:MAX_TEXT])
    return value


def failures(predicates: Iterable[Predicate]) -> list[Predicate]:
    return [p for p in predicates if p.outcome is Outcome.FAIL]


def warnings(predicates: Iterable[Predicate]) -> list[Predicate]:
    return [p for p in predicates if p.outcome is Outcome.WARN]
