"""Which reference guides a target: the best of those that fit, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log2

from node.config.match import MatchSettings, PairingLimits
from node.match.pairing import coverage, pair_predicates, spacing_ratio
from node.match.stack_roles import AssessedStack, ModelFacts
from node.match.stacks import Stack
from node.payloads import PairRequest, StackRequest
from node.verdicts import PairVerdict, Predicate, TargetVerdict, failures, warnings


@dataclass(frozen=True)
class AssessedPair:
    """A target compared with a reference."""

    target: AssessedStack
    reference: AssessedStack
    predicates: tuple[Predicate, ...]

    @property
    def passes(self) -> bool:
        return not failures(self.predicates)

    def verdict(self) -> PairVerdict:
        return PairVerdict(
            target=self.target.stack.label,
            reference=self.reference.stack.label,
            passes=self.passes,
            predicates=self.predicates,
        )


@dataclass(frozen=True)
class AssessedTarget:
    """A target with the pair that was chosen for it."""

    target: AssessedStack
    chosen: AssessedPair | None
    reasons: tuple[str, ...]
    """Why this reference was chosen, or why none fits."""

    def verdict(self) -> TargetVerdict:
        reference = None if self.chosen is None else self.chosen.reference.stack.label
        return TargetVerdict(target=self.target.stack.label, reference=reference, reasons=self.reasons)


def possible_pairs(
    stacks: Sequence[AssessedStack], settings: MatchSettings, model: ModelFacts
) -> Iterator[AssessedPair]:
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
                yield AssessedPair(target, reference, tuple(predicates))


def choose_reference(
    target: AssessedStack, pairs: Sequence[AssessedPair], settings: MatchSettings, model: ModelFacts
) -> AssessedTarget:
    """The best of the references that pass: the one with the fewest warnings, then the nearest spacing, then the
    largest coverage, then the latest acquired."""

    def fitness(pair: AssessedPair) -> tuple[int, float, float, str, int, str]:
        stack = pair.reference.stack
        flaws = len(warnings(pair.predicates)) + len(warnings(pair.reference.predicates))
        ratio = spacing_ratio(target.stack, stack, settings, model.scale)
        # In steps of 10 % in spacing and 5 % in coverage repeats of one protocol are equal, so the latest wins.
        return (
            -flaws,
            -abs(round(log2(ratio) * 7)),
            _covered(pair, settings.pairing),
            stack.acquired_at,
            *_recency(stack),
        )

    ranked = sorted((p for p in pairs if p.passes), key=fitness, reverse=True)
    if not ranked:
        return AssessedTarget(target, None, tuple(_reasons_against(pairs, settings)))
    best, *others = ranked
    merits = ("it has fewer warnings", "its pixel size is nearer to that of the result", "it covers more")
    reasons = []
    for other in others:
        steps = zip(merits, fitness(best), fitness(other), strict=False)
        merit = next(
            (merit for merit, ours, theirs in steps if ours != theirs), "it was acquired later and is otherwise equal"
        )
        reasons.append(f"{best.reference.stack.label} is preferred to {other.reference.stack.label}: {merit}.")
    return AssessedTarget(target, best, (*reasons, *_reasons_against(pairs, settings)))


def _covered(pair: AssessedPair, limits: PairingLimits) -> float:
    target, reference = pair.target.stack.geometry, pair.reference.stack.geometry
    return 0.0 if target is None or reference is None else round(coverage(target, reference, limits) * 20)


def _recency(stack: Stack) -> tuple[int, str]:
    return stack.series_number or 0, stack.series_uid


def _reasons_against(pairs: Sequence[AssessedPair], settings: MatchSettings) -> Iterator[str]:
    if not pairs:
        yield f"The study has no usable reference ({' or '.join(settings.references)})."
    for pair in pairs:
        for predicate in failures(pair.predicates):
            yield f"{pair.reference.stack.label}: {predicate.sentence}"


def pair_request(pair: AssessedPair) -> PairRequest:
    target, reference = pair.target, pair.reference
    warned = warnings([*target.predicates, *reference.predicates, *pair.predicates])
    return PairRequest(
        study_uid=target.stack.study_uid,
        target=_stack_request(target),
        reference=_stack_request(reference),
        warnings=tuple(dict.fromkeys(f"{p.code}: {p.sentence}" for p in warned)),
    )


def _stack_request(verdict: AssessedStack) -> StackRequest:
    stack = verdict.stack
    frames = tuple(frame for frame in stack.frames if frame is not None)
    return StackRequest(
        series_uid=stack.series_uid, contrast=verdict.contrast or "", sop_uids=stack.sop_uids, frames=frames or None
    )
