"""The role of each stack: its contrast, and whether it is a target, a reference or neither."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from node.config.match import MatchSettings
from node.config.site_rules import ContrastLabel
from node.dicom.geometry import angle_between
from node.match.acquisition import facts_of
from node.match.contrast import classify
from node.match.image_checks import NOT_OURS
from node.match.predicates import expect
from node.match.site import ruling
from node.match.stack_checks import BROKEN_STACK, suitability, target_suitability
from node.match.stacks import Stack
from node.verdicts import Predicate, StackRole, StackVerdict, failures


@dataclass(frozen=True)
class ModelFacts:
    """What the matching needs to know about a model; from its manifest."""

    name: str
    version: str
    scale: int
    trained_pairs: tuple[tuple[str, str], ...]
    """(target contrast, reference contrast), in the labels of this package."""


@dataclass(frozen=True)
class AssessedStack:
    """A stack with its contrast, its role in the study and the predicates that led there."""

    stack: Stack
    contrast: ContrastLabel | None
    role: StackRole
    predicates: tuple[Predicate, ...]
    certainty: float = 1
    """0 to 1: how far the header confirms the contrast."""

    def verdict(self) -> StackVerdict:
        stack, geometry = self.stack, self.stack.geometry
        spacing, step = (None, None) if geometry is None else (geometry.spacing, geometry.step)
        return StackVerdict(
            label=stack.label,
            series_uid=stack.series_uid,
            series_number=stack.series_number,
            slices=len(stack.sop_uids),
            rows=stack.rows,
            columns=stack.columns,
            spacing_mm=None if spacing is None else (round(spacing[0], 4), round(spacing[1], 4)),
            slice_spacing_mm=None if step is None else round(step, 4),
            contrast=self.contrast,
            role=self.role,
            predicates=self.predicates,
            acquisition=facts_of(stack) if self.role == "target" else (),
        )


def assess_stacks(stacks: Sequence[Stack], settings: MatchSettings, model: ModelFacts) -> tuple[AssessedStack, ...]:
    """Every stack with its contrast, its role in the study and the predicates that led there."""
    alone = [_assess_alone(stack, stacks, settings, model) for stack in stacks]
    return tuple(_settle(verdict, alone, settings) for verdict in alone)


def _assess_alone(stack: Stack, stacks: Sequence[Stack], settings: MatchSettings, model: ModelFacts) -> AssessedStack:
    predicates = suitability(stack, [s for s in stacks if s.series_uid == stack.series_uid], settings)
    if predicates[-1].code in NOT_OURS:  # contrast means nothing
        return AssessedStack(stack, None, "neither", tuple(predicates))
    site = ruling(settings.rules, stack.rules_somewhere, stack.rules_everywhere)
    predicates += site.predicates
    label, certainty = site.contrast, 1.0
    if label is None:
        contrast = classify(stack.physics, settings.contrast)
        label, certainty = contrast.label, contrast.certainty
        predicates.append(contrast.predicate)
    role: StackRole = site.role or ("target" if label in settings.targets else "reference")
    if label is not None and site.role is None:
        predicates.append(_configured(label, settings))
    if label is not None and role == "target":
        predicates.append(_trainable(label, settings, model))
        if stack.geometry is not None:
            predicates += target_suitability(stack, stack.geometry, settings, model.scale)
    return AssessedStack(stack, label, "neither" if failures(predicates) else role, tuple(predicates), certainty)


def _settle(verdict: AssessedStack, others: Sequence[AssessedStack], settings: MatchSettings) -> AssessedStack:
    """The stack compared with the others of its series: none of them may match its role equally well."""
    if verdict.role == "neither":
        return verdict
    rivals = [other for other in others if other is not verdict and _rivals(verdict, other, settings)]
    names = ", ".join(v.stack.label for v in sorted([verdict, *rivals], key=lambda v: others.index(v)))
    predicate = expect(
        "only one of its kind",
        not rivals,
        "No other stack of the series matches equally well.",
        "E_AMBIGUOUS_STACKS",
        f"The series has {len(rivals) + 1} stacks that match equally well, and none can be preferred: {names}.",
        value=len(rivals) + 1,
        threshold=1,
    )
    return replace(verdict, role="neither" if rivals else verdict.role, predicates=(*verdict.predicates, predicate))


def _rivals(a: AssessedStack, b: AssessedStack, settings: MatchSettings) -> bool:
    """Whether two stacks of a series show the same contrast in the same planes. An incomplete stack counts: it may be the
    slices that are missing from the other."""
    if a.stack.series_uid != b.stack.series_uid or a.contrast != b.contrast:
        return False
    if a.stack.geometry is None or b.stack.geometry is None:
        return False
    whole_but = {p.code for p in failures(b.predicates)} <= BROKEN_STACK
    return (
        whole_but and angle_between(a.stack.geometry.normal, b.stack.geometry.normal) <= settings.pairing.max_angle_deg
    )


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
        f"The model was not trained for {label} guided by {references}, but for: {trained or 'no pair named in its manifest'}.",
        value=label,
        threshold=trained or None,
    )
