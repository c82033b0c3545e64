"""Which reference guides a target: the best of those that fit, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from node.config.match import MatchSettings
from node.match.pairing import pair_predicates
from node.match.score import deciding, score, total
from node.match.stack_roles import AssessedStack, ModelFacts
from node.payloads import PairRequest, StackRequest
from node.verdicts import PairVerdict, Predicate, ScoreTerm, TargetVerdict, failures, warnings


@dataclass(frozen=True)
class AssessedPair:
    """A target compared with a reference."""

    target: AssessedStack
    reference: AssessedStack
    predicates: tuple[Predicate, ...]
    score: tuple[ScoreTerm, ...]
    """Empty when the pair does not pass."""

    @property
    def passes(self) -> bool:
        return not failures(self.predicates)

    def verdict(self) -> PairVerdict:
        return PairVerdict(
            target=self.target.stack.label,
            reference=self.reference.stack.label,
            passes=self.passes,
            predicates=self.predicates,
            score=self.score,
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
                fits = not failures(predicates)
                terms = score(target, reference, settings, model.scale) if fits else ()
                yield AssessedPair(target, reference, tuple(predicates), terms)


def choose_reference(target: AssessedStack, pairs: Sequence[AssessedPair], settings: MatchSettings) -> AssessedTarget:
    """The reference with the most points among those that pass; of equal ones the one acquired last."""

    def fitness(pair: AssessedPair) -> tuple[float, str, int, str]:
        stack = pair.reference.stack
        return total(pair.score), stack.acquired_at, stack.series_number or 0, stack.series_uid

    ranked = sorted((p for p in pairs if p.passes), key=fitness, reverse=True)
    if not ranked:
        return AssessedTarget(target, None, tuple(_reasons_against(pairs, settings)))
    best, *others = ranked
    preferred = [_preference(best, other) for other in others]
    return AssessedTarget(target, best, (*preferred, *_reasons_against(pairs, settings)))


def _preference(best: AssessedPair, other: AssessedPair) -> str:
    points, fewer = total(best.score), total(other.score)
    if points == fewer:
        why = f"both have {points:g} points, and it was acquired later"
    else:
        why = f"{points:g} against {fewer:g} points, most of the difference for {deciding(best.score, other.score)}"
    return f"{best.reference.stack.label} is preferred to {other.reference.stack.label}: {why}."


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
