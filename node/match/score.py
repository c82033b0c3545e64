"""How well a reference that passes fits its target, in points: which of several references guides.

Each term is a merit from 0 to 1 times its weight in `[match.score]`. Merits have steps, so that repeats of one protocol, whose
geometry differs by rounding, get equal points. Time is not a term: among equal references the one acquired last is used.
"""

from math import log2

from node.config.match import MatchSettings
from node.match.pairing import coverage, is_parallel, plane_distance, planes_allowed, spacing_ratio
from node.match.stack_roles import AssessedStack
from node.match.stacks import Stack
from node.verdicts import PredicateValue, ScoreTerm, warnings

STEPS_OF_SPACING = 7  # per doubling: 10 %
STEPS_OF_COVERAGE = 20  # 5 %
STEPS_OF_DISTANCE = 4

DISTORTION_CORRECTION = ("DIS3D", "DIS2D", "ND")  # ImageType of Siemens: in 3-D, in the plane, none

PROCESSED = frozenset({"W_DERIVED", "W_DEEP_LEARNING", "W_LOSSY", "W_RATIO_IMAGE"})


def score(
    target: AssessedStack, reference: AssessedStack, settings: MatchSettings, scale: int
) -> tuple[ScoreTerm, ...]:
    """The terms of a pair, in the order of `[match.score]`."""
    weights = settings.score
    judged: dict[str, tuple[PredicateValue, float, float]] = {
        "contrast certainty": (reference.certainty, reference.certainty, weights.contrast),
        "contrast agent": (*_agent(reference.stack, settings), weights.contrast_agent),
        "acquired pixel size": (*_spacing(target.stack, reference.stack, settings, scale), weights.spacing),
        "distortion correction": (*_distortion(target.stack, reference.stack), weights.distortion),
        "coverage": (*_coverage(target.stack, reference.stack, settings), weights.coverage),
        "plane distance": (*_planes(target.stack, reference.stack, settings), weights.planes),
        "as measured": (*_measured(reference), weights.measured),
    }
    return tuple(
        ScoreTerm(name=name, value=found, points=round(merit * weight, 2), most=weight)
        for name, (found, merit, weight) in judged.items()
    )


def total(terms: tuple[ScoreTerm, ...]) -> float:
    return round(sum(term.points for term in terms), 2)


def deciding(better: tuple[ScoreTerm, ...], worse: tuple[ScoreTerm, ...]) -> str:
    """The name of the term that adds most to the lead of the better reference."""
    return max(zip(better, worse, strict=True), key=lambda pair: pair[0].points - pair[1].points)[0].name


def _agent(reference: Stack, settings: MatchSettings) -> tuple[PredicateValue, float]:
    given = reference.agent is not None
    wanted = settings.pairing.contrast_agent
    return reference.agent or "none named", 1.0 if wanted == "ignore" or given == (wanted == "prefer") else 0.0


def _spacing(target: Stack, reference: Stack, settings: MatchSettings, scale: int) -> tuple[PredicateValue, float]:
    ratio = spacing_ratio(target, reference, settings, scale)
    doublings = round(log2(max(ratio, 1e-3)) * STEPS_OF_SPACING) / STEPS_OF_SPACING
    return round(ratio, 2), min(1.0, max(0.0, 1 - doublings))


def _distortion(target: Stack, reference: Stack) -> tuple[PredicateValue, float]:
    ours, theirs = _correction(target), _correction(reference)
    return (
        f"{theirs or 'not said'}; target {ours or 'not said'}",
        1.0 if ours == theirs else 0.0 if ours and theirs else 0.5,
    )


def _correction(stack: Stack) -> str | None:
    return next((token for token in DISTORTION_CORRECTION if token in stack.kind.image_type), None)


def _coverage(target: Stack, reference: Stack, settings: MatchSettings) -> tuple[PredicateValue, float]:
    if target.geometry is None or reference.geometry is None:
        return None, 0.0
    covered = coverage(target.geometry, reference.geometry, settings.pairing)
    return round(covered, 3), round(covered * STEPS_OF_COVERAGE) / STEPS_OF_COVERAGE


def _planes(target: Stack, reference: Stack, settings: MatchSettings) -> tuple[PredicateValue, float]:
    if target.geometry is None or reference.geometry is None:
        return None, 0.0
    if not is_parallel(target.geometry, reference.geometry, settings.pairing):
        return "resliced", 1.0
    distance = plane_distance(target.geometry, reference.geometry)
    part = min(1.0, distance / planes_allowed(reference.geometry, settings.pairing))
    return round(distance, 2), 1 - round(part * STEPS_OF_DISTANCE) / STEPS_OF_DISTANCE


def _measured(reference: AssessedStack) -> tuple[PredicateValue, float]:
    processed = [p.code for p in warnings(reference.predicates) if p.code in PROCESSED]
    return ", ".join(processed) or "yes", max(0.0, 1 - len(processed) / 2)
