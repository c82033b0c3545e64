"""How a question of the matching becomes a predicate of the verdict."""

import math

from node.verdicts import Predicate, PredicateOutcome, PredicateValue

MAX_SHOWN = 120  # characters of a header's value that a verdict repeats


def expect(
    name: str,
    holds: bool,
    good: str,
    code: str,
    bad: str,
    *,
    value: PredicateValue = None,
    threshold: PredicateValue = None,
) -> Predicate:
    """The predicate `name`: passes with the sentence `good` when `holds`, else carries `code` with the sentence `bad`.

    A code that begins with E_ fails, one that begins with W_ warns.
    """
    if holds:
        outcome = PredicateOutcome.PASS
    else:
        outcome = PredicateOutcome.WARN if code.startswith("W_") else PredicateOutcome.FAIL
    return Predicate(
        name=name,
        outcome=outcome,
        value=printable(value),
        threshold=printable(threshold),
        code=None if holds else code,
        sentence=good if holds else bad,
    )


def printable(value: PredicateValue) -> PredicateValue:
    """The value as a line or a JSON number can show it: at most 4 decimals, `MAX_SHOWN` characters, no control characters."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return "".join(c if c.isprintable() else "?" for c in value[:MAX_SHOWN])
    return value
