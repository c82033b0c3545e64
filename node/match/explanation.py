"""A verdict in plain lines: what `explain` prints.

In the order in which people ask: what was decided, why, what they could do; then every series and every pair with every
question and its answer.
"""

import textwrap
from collections.abc import Iterator, Sequence

from node.codes import CODES
from node.result import AcquisitionFact
from node.verdicts import (
    PairVerdict,
    Predicate,
    PredicateOutcome,
    ScoreTerm,
    StackVerdict,
    StudyOutcome,
    StudyVerdict,
    failures,
    warnings,
)

MARKS = {PredicateOutcome.FAIL: "FAIL", PredicateOutcome.WARN: "WARN", PredicateOutcome.PASS: "ok"}

DECISIONS = {
    StudyOutcome.WAITING: "not super-resolved unless the missing series arrives",
    StudyOutcome.REFUSED: "not super-resolved",
}


def lines(
    verdict: StudyVerdict,
    *,
    afterwards: Sequence[str] = (),
    passed: bool = True,
    width: int | None = None,
) -> list[str]:
    """The lines that explain a verdict. Questions that passed are left out unless `passed`.

    `afterwards` is the history of the study: what the service has done with it since. With a `width` no line is longer, except for words
    that are. Plain text without colours; the same verdict gives the same lines.
    """
    written = [*_study(verdict), *_list("history", afterwards), *_questions(verdict, passed)]
    return [line for text in written for line in wrapped(text, width)]


def wrapped(text: str, width: int | None) -> list[str]:
    """`text` in lines of at most `width`; further lines are indented below the words of the first."""
    if width is None or len(text) <= width:
        return [text]
    indent = len(text) - len(text.lstrip()) + (6 if text.lstrip().startswith(tuple(MARKS.values())) else 2)
    return textwrap.wrap(
        text,
        max(width, 40),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _study(verdict: StudyVerdict) -> Iterator[str]:
    yield f"Study {verdict.study_uid or 'without UID'}: {verdict.outcome}"
    if verdict.outcome is StudyOutcome.PAIRED:
        decision, why = verdict.sentence, list(_merits(verdict))
    else:
        decision, why = f"{DECISIONS[verdict.outcome]} ({verdict.code})", [verdict.sentence]
    yield from _list("decided", [decision])
    yield from _list("why", why)
    nothing = (
        "Nothing needs to be done."
        if verdict.outcome is StudyOutcome.PAIRED
        else "Nothing: the model was not made for such images."
    )
    yield from _list("what you could do", _advice(verdict) or [nothing])
    yield from _list("series found", [f"{s.label}: {_summary(s)}{_obstacle(s)}" for s in verdict.stacks])


def _list(heading: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield ""
        yield f"{heading}:"
        yield from (f"  {item}" for item in items)


def _merits(verdict: StudyVerdict) -> Iterator[str]:
    """Why the chosen pairs are used, and the warnings that go with their results."""
    stacks = {stack.label: stack for stack in verdict.stacks}
    pairs = {(pair.target, pair.reference): pair for pair in verdict.pairs}
    for target in verdict.targets:
        if target.reference is not None:
            pair = pairs[target.target, target.reference]
            parts = (stacks[target.target], stacks[target.reference], pair)
            asked = [predicate for part in parts for predicate in part.predicates]
            warned = warnings(asked)
            doubts = f", {len(warned)} of them with a warning:" if warned else "."
            yield f"{_pair_name(pair)}: all {len(asked)} questions passed{doubts}"
            yield from (f"  {MARKS[p.outcome]}  {p.code}: {p.sentence}" for p in warned)
        yield from (f"{target.target}: {reason}" for reason in target.reasons)


def _advice(verdict: StudyVerdict) -> list[str]:
    """What could be done about the study's code and about everything that stands between its stacks and a result."""
    chosen = {(t.target, t.reference) for t in verdict.targets if t.reference is not None}
    served = {target for target, _ in chosen}
    used = {label for pair in chosen for label in pair}
    asked = [p for s in verdict.stacks if s.label in used or not chosen for p in s.predicates]
    for pair in verdict.pairs:
        if (pair.target, pair.reference) in chosen or pair.target not in served:
            asked += pair.predicates
    codes = [*(p.code for p in asked), verdict.code]
    advice = [CODES[code].advice for code in codes if code in CODES]
    return list(dict.fromkeys(text for text in advice if text is not None))


def _questions(verdict: StudyVerdict, passed: bool) -> Iterator[str]:
    for stack in verdict.stacks:
        yield ""
        yield f"{stack.label}: {_summary(stack)}"
        yield from _predicates(stack.predicates, passed)
        yield from (f"  {line}" for line in acquisition_lines(stack.acquisition))
    for pair in verdict.pairs:
        yield ""
        yield f"{_pair_name(pair)}: {'fits' if pair.passes else 'does not fit'}"
        yield from _predicates(pair.predicates, passed)
        yield from _score(pair.score)


def _score(terms: Sequence[ScoreTerm]) -> Iterator[str]:
    """The points of a reference that fits, term by term."""
    if terms:
        points, most = sum(term.points for term in terms), sum(term.most for term in terms)
        yield f"  score {points:g} of {most:g} points:"
        yield from (f"    {term.points:g} of {term.most:g}  {term.name} (found {term.value})" for term in terms)


def acquisition_lines(facts: Sequence[AcquisitionFact]) -> list[str]:
    """The facts of an acquisition as a table: name, value, source and confidence."""
    rows = [
        (f.name, f.value, f.source, "" if f.confidence is None else f"{f.confidence:.2f}") for f in facts
    ]  # fmt: skip
    table = [("acquisition", "value", "source", "confidence"), *rows] if rows else []
    widths = [max(len(row[i]) for row in table) for i in range(3)] if table else []
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in table
    ]


def _pair_name(pair: PairVerdict) -> str:
    return f"{pair.target} guided by {pair.reference}"


def _summary(stack: StackVerdict) -> str:
    role = "not used" if stack.role == "neither" else stack.role
    slices = "1 slice" if stack.slices == 1 else f"{stack.slices} slices"
    parts = [stack.contrast or "contrast unknown", role, slices]
    if stack.rows and stack.columns:
        parts.append(f"{stack.rows} x {stack.columns} pixels")
    if stack.spacing_mm:
        parts.append(f"{stack.spacing_mm[0]:.3g} x {stack.spacing_mm[1]:.3g} mm")
    if stack.slice_spacing_mm:
        parts.append(f"every {stack.slice_spacing_mm:.3g} mm")
    return ", ".join(parts)


def _obstacle(stack: StackVerdict) -> str:
    """The first thing that keeps a stack from being used."""
    failed = failures(stack.predicates)
    return f". {failed[0].sentence}" if failed else ""


def _predicates(predicates: Sequence[Predicate], passed: bool) -> Iterator[str]:
    """Failures first, then warnings, then the rest; within each in the order in which they were asked."""
    for outcome, mark in MARKS.items():
        if outcome is not PredicateOutcome.PASS or passed:
            yield from (f"  {mark:<4}  {_predicate(p)}" for p in predicates if p.outcome is outcome)


def _predicate(p: Predicate) -> str:
    found = [] if p.value is None else [f"found {p.value}"]
    limit = [] if p.threshold is None else [f"limit {p.threshold}"]
    numbers = f" ({'; '.join(found + limit)})" if found or limit else ""
    code = f"{p.code}: " if p.code else ""
    return f"{p.name}: {code}{p.sentence}{numbers}"
