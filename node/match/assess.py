"""From the headers of a study to its verdict: which stacks are targets, which are references, which pairs to process,
and for everything else why not. Pure: no database, no network, no clock."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any, Literal

from node.config.match import MatchSettings, PairingLimits
from node.config.site_rules import ContrastLabel
from node.dicom.attributes import Header
from node.match.contrast import classify
from node.match.image_checks import NOT_OURS
from node.match.pairing import coverage, pair_predicates, spacing_ratio
from node.match.predicates import Predicate, expect, failures, warnings
from node.match.site import ruling
from node.match.stack_checks import BROKEN_STACK, suitability, target_suitability
from node.match.stacks import Stack, angle_between, stacks_of
from node.payloads import PairRequest, StackRequest

Role = Literal["target", "reference", "neither"]

SCHEMA = 1  # of the verdict's JSON


@dataclass(frozen=True)
class ModelFacts:
    """What the matching has to know of a model; from its manifest."""

    name: str
    version: str
    scale: int
    trained_pairs: tuple[tuple[str, str], ...]
    """(target contrast, reference contrast), in the labels of this package."""


@dataclass(frozen=True)
class StackVerdict:
    stack: Stack
    contrast: ContrastLabel | None
    role: Role
    predicates: tuple[Predicate, ...]

    def to_json(self) -> dict[str, Any]:
        stack, geometry = self.stack, self.stack.geometry
        return {
            "label": stack.label,
            "series_uid": stack.series_uid,
            "series_number": stack.series_number,
            "slices": len(stack.sop_uids),
            "rows": stack.rows,
            "columns": stack.columns,
            "spacing_mm": None if geometry is None else [round(s, 4) for s in geometry.spacing],
            "slice_spacing_mm": None if geometry is None or geometry.step is None else round(geometry.step, 4),
            "contrast": self.contrast,
            "role": self.role,
            "predicates": [p.to_json() for p in self.predicates],
        }


@dataclass(frozen=True)
class PairVerdict:
    """A target and a reference held against each other."""

    target: StackVerdict
    reference: StackVerdict
    predicates: tuple[Predicate, ...]

    @property
    def passes(self) -> bool:
        return not failures(self.predicates)

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target.stack.label,
            "reference": self.reference.stack.label,
            "passes": self.passes,
            "predicates": [p.to_json() for p in self.predicates],
        }


@dataclass(frozen=True)
class TargetVerdict:
    """What becomes of one target."""

    target: StackVerdict
    chosen: PairVerdict | None
    reasons: tuple[str, ...]
    """Why this reference and no other, or why none."""

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target.stack.label,
            "reference": None if self.chosen is None else self.chosen.reference.stack.label,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class StudyVerdict:
    """Everything the matching found out about a study."""

    study_uid: str
    model: ModelFacts
    outcome: Literal["paired", "waiting", "refused"]
    missing: Literal["target", "reference"] | None
    """The partner a waiting study lacks."""
    code: str | None
    """None when paired, else the code a study that waits no longer is refused with."""
    sentence: str
    stacks: tuple[StackVerdict, ...]
    pairs: tuple[PairVerdict, ...]
    targets: tuple[TargetVerdict, ...]
    requests: tuple[PairRequest, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "study_uid": self.study_uid,
            "model": {"name": self.model.name, "version": self.model.version},
            "outcome": self.outcome,
            "missing": self.missing,
            "code": self.code,
            "sentence": self.sentence,
            "stacks": [stack.to_json() for stack in self.stacks],
            "pairs": [pair.to_json() for pair in self.pairs],
            "targets": [target.to_json() for target in self.targets],
            "requests": [request.model_dump(mode="json") for request in self.requests],
        }


def assess_study(headers: Iterable[Header], settings: MatchSettings, model: ModelFacts) -> StudyVerdict:
    """The verdict on the instances of one study. Their order makes no difference; no header, however damaged, raises."""
    stacks = assess_stacks(stacks_of(headers, settings.rules), settings, model)
    pairs = tuple(_pairs(stacks, settings, model))
    targets = tuple(
        _choose(stack, [p for p in pairs if p.target is stack], settings, model)
        for stack in stacks
        if stack.role == "target"
    )
    requests = tuple(_request(t.chosen, settings) for t in targets if t.chosen is not None)
    outcome, missing, code, sentence = _conclude(stacks, targets, settings)
    return StudyVerdict(
        study_uid=stacks[0].stack.study_uid if stacks else "",
        model=model,
        outcome=outcome,
        missing=missing,
        code=code,
        sentence=sentence,
        stacks=stacks,
        pairs=pairs,
        targets=targets,
        requests=requests,
    )


def assess_stacks(stacks: Sequence[Stack], settings: MatchSettings, model: ModelFacts) -> tuple[StackVerdict, ...]:
    """Every stack with its contrast, its part in the study and the predicates that led there."""
    alone = [_assess_alone(stack, stacks, settings, model) for stack in stacks]
    return tuple(_settle(verdict, alone, settings) for verdict in alone)


def _assess_alone(stack: Stack, stacks: Sequence[Stack], settings: MatchSettings, model: ModelFacts) -> StackVerdict:
    predicates = suitability(stack, [s for s in stacks if s.series_uid == stack.series_uid], settings)
    if predicates[-1].code in NOT_OURS:  # contrast means nothing
        return StackVerdict(stack, None, "neither", tuple(predicates))
    site = ruling(settings.rules, stack.rules_somewhere, stack.rules_everywhere)
    predicates += site.predicates
    label = site.contrast
    if label is None:
        contrast = classify(stack.physics, settings.contrast)
        label = contrast.label
        predicates.append(contrast.predicate)
    role: Role = site.role or ("target" if label in settings.targets else "reference")
    if label is not None and site.role is None:
        predicates.append(_configured(label, settings))
    if label is not None and role == "target":
        predicates.append(_trainable(label, settings, model))
        if stack.geometry is not None:
            predicates += target_suitability(stack, stack.geometry, settings, model.scale)
    return StackVerdict(stack, label, "neither" if failures(predicates) else role, tuple(predicates))


def _settle(verdict: StackVerdict, others: Sequence[StackVerdict], settings: MatchSettings) -> StackVerdict:
    """The verdict with what the other stacks of the series mean for it: none may match its part equally."""
    if verdict.role == "neither":
        return verdict
    rivals = [other for other in others if other is not verdict and _rivals(verdict, other, settings)]
    names = ", ".join(v.stack.label for v in sorted([verdict, *rivals], key=lambda v: others.index(v)))
    predicate = expect(
        "only one of its kind",
        not rivals,
        "No other stack of the series matches as well.",
        "E_AMBIGUOUS_STACKS",
        f"The series holds {len(rivals) + 1} stacks that match equally, and none can be preferred: {names}.",
        value=len(rivals) + 1,
        threshold=1,
    )
    predicates = (*verdict.predicates, predicate)
    return StackVerdict(verdict.stack, verdict.contrast, "neither" if rivals else verdict.role, predicates)


def _rivals(a: StackVerdict, b: StackVerdict, settings: MatchSettings) -> bool:
    """Whether two stacks of a series show the same in the same planes. One that is merely not whole counts: it may be
    the slices that the other lacks."""
    if a.stack.series_uid != b.stack.series_uid or a.contrast != b.contrast:
        return False
    if a.stack.geometry is None or b.stack.geometry is None:
        return False
    whole_but = {p.code for p in failures(b.predicates)} <= BROKEN_STACK
    return whole_but and angle_between(a.stack.geometry, b.stack.geometry) <= settings.pairing.max_angle_deg


def _configured(label: ContrastLabel, settings: MatchSettings) -> Predicate:
    targets, references = ", ".join(settings.targets), ", ".join(settings.references)
    return expect(
        "contrast wanted",
        label in settings.targets or label in settings.references,
        f"{label} is configured as {'target' if label in settings.targets else 'reference'}.",
        "E_CONTRAST_NOT_WANTED",
        f"{label} is neither a target ({targets}) nor a reference ({references}) of this configuration.",
        value=label,
        threshold=f"{targets}; {references}",
    )


def _trainable(label: ContrastLabel, settings: MatchSettings, model: ModelFacts) -> Predicate:
    trained = "; ".join(f"{t} guided by {r}" for t, r in model.trained_pairs)
    references = ", ".join(settings.references)
    return expect(
        "target trained for",
        any((label, reference) in model.trained_pairs for reference in settings.references),
        "The model was trained for this contrast.",
        "E_NOT_TRAINED_FOR",
        f"The model was not trained for {label} guided by {references}, but for: {trained or 'nothing it names'}.",
        value=label,
        threshold=trained or None,
    )


def _pairs(stacks: Sequence[StackVerdict], settings: MatchSettings, model: ModelFacts) -> Iterator[PairVerdict]:
    for target in stacks:
        for reference in stacks:
            if target.role == "target" and reference.role == "reference":
                predicates = pair_predicates(
                    target.stack,
                    target.contrast or "",
                    reference.stack,
                    reference.contrast or "",
                    settings,
                    model.scale,
                    model.trained_pairs,
                )
                yield PairVerdict(target, reference, tuple(predicates))


def _choose(
    target: StackVerdict, pairs: Sequence[PairVerdict], settings: MatchSettings, model: ModelFacts
) -> TargetVerdict:
    """The best of the references that pass: the one with the fewest warnings, then the nearest spacing, then the
    largest coverage, then the latest acquired."""

    def fitness(pair: PairVerdict) -> tuple[int, float, float, str, int, str]:
        stack = pair.reference.stack
        flaws = len(warnings(pair.predicates)) + len(warnings(pair.reference.predicates))
        ratio = spacing_ratio(target.stack, stack, settings, model.scale)
        # Steps of 10 % in spacing and 5 % in coverage: repeats of one protocol are equals, so that the latest wins.
        return (
            -flaws,
            -abs(round(log2(ratio) * 7)),
            _covered(pair, settings.pairing),
            stack.acquired_at,
            *_recency(stack),
        )

    ranked = sorted((p for p in pairs if p.passes), key=fitness, reverse=True)
    if not ranked:
        return TargetVerdict(target, None, tuple(_reasons_against(pairs, settings)))
    best, *others = ranked
    merits = ("it carries fewer warnings", "its pixels are nearer to those of the result", "it covers more")
    reasons = []
    for other in others:
        steps = zip(merits, fitness(best), fitness(other), strict=False)
        merit = next((merit for merit, ours, theirs in steps if ours != theirs), "it is the later of equals")
        reasons.append(f"{best.reference.stack.label} is preferred to {other.reference.stack.label}: {merit}.")
    return TargetVerdict(target, best, (*reasons, *_reasons_against(pairs, settings)))


def _covered(pair: PairVerdict, limits: PairingLimits) -> float:
    target, reference = pair.target.stack.geometry, pair.reference.stack.geometry
    return 0.0 if target is None or reference is None else round(coverage(target, reference, limits) * 20)


def _recency(stack: Stack) -> tuple[int, str]:
    return stack.series_number or 0, stack.series_uid


def _reasons_against(pairs: Sequence[PairVerdict], settings: MatchSettings) -> Iterator[str]:
    if not pairs:
        yield f"The study has no usable reference ({' or '.join(settings.references)})."
    for pair in pairs:
        for predicate in failures(pair.predicates):
            yield f"{pair.reference.stack.label}: {predicate.sentence}"


def _request(pair: PairVerdict, settings: MatchSettings) -> PairRequest:
    target, reference = pair.target, pair.reference
    warned = warnings([*target.predicates, *reference.predicates, *pair.predicates])
    return PairRequest(
        study_uid=target.stack.study_uid,
        target=_stack_request(target),
        reference=_stack_request(reference),
        acquired_matrix=target.stack.measured_matrix(settings.target.max_interpolation),
        warnings=tuple(dict.fromkeys(f"{p.code}: {p.sentence}" for p in warned)),
    )


def _stack_request(verdict: StackVerdict) -> StackRequest:
    stack = verdict.stack
    frames = tuple(frame for frame in stack.frames if frame is not None)
    return StackRequest(
        series_uid=stack.series_uid, contrast=verdict.contrast or "", sop_uids=stack.sop_uids, frames=frames or None
    )


_Conclusion = tuple[
    Literal["paired", "waiting", "refused"], Literal["target", "reference"] | None, str | None, str
]  # outcome, missing, code, sentence


def _conclude(stacks: Sequence[StackVerdict], targets: Sequence[TargetVerdict], settings: MatchSettings) -> _Conclusion:
    paired = [t.chosen for t in targets if t.chosen is not None]
    if paired:
        named = [f"{_named(pair.target)} guided by {_named(pair.reference)}" for pair in paired]
        alone = [_named(t.target) for t in targets if t.chosen is None]
        without = f" Without a reference that fits: {', '.join(alone)}." if alone else ""
        return "paired", None, None, f"To be super-resolved: {'; '.join(named)}.{without}"
    if targets:
        waiting = ", ".join(_named(t.target) for t in targets)
        why = " ".join(
            dict.fromkeys([r for t in targets for r in t.reasons] + _near_misses(stacks, settings.references))
        )
        return "waiting", "reference", "E_NO_REFERENCE", f"No reference fits {waiting}. {why}"
    references = [_named(s) for s in stacks if s.role == "reference"]
    if references:
        lacking = f"No usable target ({' or '.join(settings.targets)}) beside the reference {', '.join(references)}."
        return "waiting", "target", "E_NO_TARGET", " ".join([lacking, *_near_misses(stacks, settings.targets)])
    return "refused", None, *_refusal(stacks)


def _named(verdict: StackVerdict) -> str:
    return f"{verdict.stack.label} ({verdict.contrast})"


def _near_misses(stacks: Sequence[StackVerdict], wanted: Sequence[str]) -> list[str]:
    """Why stacks that have a wanted contrast are not used."""
    misses = [s for s in stacks if s.role == "neither" and s.contrast in wanted]
    return [f"{s.stack.label} is {s.contrast}, but: {failures(s.predicates)[0].sentence}" for s in misses]


def _refusal(stacks: Sequence[StackVerdict]) -> tuple[str, str]:
    """Code and sentence of a study with nothing usable: the one they share, else what each lacks."""
    if not stacks:
        return "E_NO_IMAGES", "There is no DICOM image here."
    first = [failures(s.predicates)[0] for s in stacks]
    if len({p.code for p in first}) == 1:
        return first[0].code or "", " ".join(dict.fromkeys(p.sentence for p in first))
    labels: dict[str, list[str]] = {}
    for stack, predicate in zip(stacks, first, strict=True):
        labels.setdefault(predicate.sentence, []).append(stack.stack.label)
    each = [f"{', '.join(named)}: {sentence}" for sentence, named in labels.items()]
    return "E_NOTHING_USABLE", f"No series is usable. {' '.join(each)}"
