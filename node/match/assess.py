"""From the headers of a study to its verdict: which stacks are targets, which are references, which pairs to process,
and for everything else why not. Pure: no database, no network, no clock."""

from collections.abc import Iterable, Sequence
from typing import Literal

from node.config.match import MatchSettings
from node.dicom.attributes import Header
from node.match.choice import AssessedTarget, choose_reference, pair_request, possible_pairs
from node.match.keeping import keep_delivered
from node.match.stack_roles import AssessedStack, ModelFacts, assess_stacks
from node.match.stacks import stacks_of
from node.payloads import PairRequest
from node.verdicts import ModelName, StudyOutcome, StudyVerdict, failures

CONTRAST_UNCLEAR = frozenset({"E_CONTRAST_UNSUPPORTED", "E_CONTRAST_UNKNOWN"})

_Conclusion = tuple[StudyOutcome, Literal["target", "reference"] | None, str | None, str]
"""Outcome, missing, code, sentence."""


def assess_study(
    headers: Iterable[Header], settings: MatchSettings, model: ModelFacts, delivered: Sequence[PairRequest] = ()
) -> StudyVerdict:
    """The verdict on the instances of one study. Their order makes no difference; no header, however damaged, raises.
    `delivered` are the pairs of the study whose results were delivered, oldest first."""
    stacks = assess_stacks(stacks_of(headers, settings.rules), settings, model)
    pairs = tuple(possible_pairs(stacks, settings, model))
    targets = tuple(
        keep_delivered(choose_reference(stack, of_target, settings), of_target, delivered)
        for stack in stacks
        if stack.role == "target"
        for of_target in [[p for p in pairs if p.target is stack]]
    )
    requests = tuple(pair_request(t.chosen) for t in targets if t.chosen is not None)
    outcome, missing, code, sentence = _conclude(stacks, targets, settings)
    return StudyVerdict(
        study_uid=stacks[0].stack.study_uid if stacks else "",
        model=ModelName(name=model.name, version=model.version),
        outcome=outcome,
        missing=missing,
        code=code,
        sentence=sentence,
        stacks=tuple(stack.verdict() for stack in stacks),
        pairs=tuple(pair.verdict() for pair in pairs),
        targets=tuple(target.verdict() for target in targets),
        requests=requests,
    )


def _conclude(
    stacks: Sequence[AssessedStack], targets: Sequence[AssessedTarget], settings: MatchSettings
) -> _Conclusion:
    paired = [t.chosen for t in targets if t.chosen is not None]
    if paired:
        named = [f"{_named(pair.target)} guided by {_named(pair.reference)}" for pair in paired]
        alone = [_named(t.target) for t in targets if t.chosen is None]
        without = f" No reference fits {', '.join(alone)}." if alone else ""
        return StudyOutcome.PAIRED, None, None, f"To be super-resolved: {'; '.join(named)}.{without}"
    if targets:
        waiting = ", ".join(_named(t.target) for t in targets)
        why = " ".join(
            dict.fromkeys([r for t in targets for r in t.reasons] + _near_misses(stacks, settings.references))
        )
        return StudyOutcome.WAITING, "reference", "E_NO_REFERENCE", f"No reference fits {waiting}. {why}"
    references = [_named(s) for s in stacks if s.role == "reference"]
    if references:
        wanted = " or ".join(settings.targets)
        lacking = f"The study has the reference {', '.join(references)}, but no usable target ({wanted})."
        return (
            StudyOutcome.WAITING,
            "target",
            "E_NO_TARGET",
            " ".join([lacking, *_near_misses(stacks, settings.targets)]),
        )
    return StudyOutcome.REFUSED, None, *_refusal(stacks)


def _named(verdict: AssessedStack) -> str:
    return f"{verdict.stack.label} ({verdict.contrast})"


def _near_misses(stacks: Sequence[AssessedStack], wanted: Sequence[str]) -> list[str]:
    """Why stacks of a wanted contrast are not used, and what only looks like one."""
    idle = [(s, failures(s.predicates)[0]) for s in stacks if s.role == "neither"]
    return [
        f"{s.stack.label} is {s.contrast}, but cannot be used: {first.sentence}"
        if s.contrast in wanted
        else f"{s.stack.label}: {first.sentence}"
        for s, first in idle
        if s.contrast in wanted or first.code in CONTRAST_UNCLEAR
    ]


def _refusal(stacks: Sequence[AssessedStack]) -> tuple[str, str]:
    """Code and sentence of a study without a usable series: the code that all share, else one sentence per reason."""
    if not stacks:
        return "E_NO_IMAGES", "The study has no DICOM image."
    first = [failures(s.predicates)[0] for s in stacks]
    if len({p.code for p in first}) == 1:
        return first[0].code or "", " ".join(dict.fromkeys(p.sentence for p in first))
    labels: dict[str, list[str]] = {}
    for stack, predicate in zip(stacks, first, strict=True):
        labels.setdefault(predicate.sentence, []).append(stack.stack.label)
    each = [f"{', '.join(named)}: {sentence}" for sentence, named in labels.items()]
    return "E_NOTHING_USABLE", f"No series is usable. {' '.join(each)}"
