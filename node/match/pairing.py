"""Whether a reference lies on a target well enough to guide its super-resolution."""

from dataclasses import replace

import numpy as np

from node.config import MatchSettings, PairingLimits
from node.match.predicates import Predicate, expect
from node.match.stacks import Geometry, Stack, angle_between
from node.match.suitability import measured_spacing

COVERAGE_SAMPLES = 100  # along each side of the target's field of view


def pair_predicates(
    target: Stack,
    target_contrast: str,
    reference: Stack,
    reference_contrast: str,
    settings: MatchSettings,
    scale: int,
    trained_pairs: tuple[tuple[str, str], ...],
) -> list[Predicate]:
    """Every predicate of a pair. Where stacks share no space, or are not parallel, distances between their planes mean
    nothing, and the predicates stop there."""
    predicates = [
        _trained_for(target_contrast, reference_contrast, trained_pairs),
        *_same_subject(target, reference),
    ]
    if target.geometry is None or reference.geometry is None or any(p.code for p in predicates[1:]):
        return predicates
    parallel = _parallel(target.geometry, reference.geometry, settings.pairing)
    if parallel.code:
        return [*predicates, parallel]
    return [
        *predicates,
        parallel,
        _planes_meet(target.geometry, reference.geometry, settings.pairing),
        _covers(target.geometry, reference.geometry, settings.pairing),
        *_fine_enough(target, target.geometry, reference, reference.geometry, settings, scale),
        _without_agent(reference),
    ]


def spacing_ratio(target: Stack, reference: Stack, settings: MatchSettings, scale: int) -> float:
    """In-plane spacing of the reference over that of the output, along the axis where it is largest."""
    if target.geometry is None or reference.geometry is None:
        return float("inf")
    return max(reference.geometry.spacing) * scale / min(measured_spacing(target, target.geometry, settings.target))


def coverage(target: Geometry, reference: Geometry) -> float:
    """Part (0 to 1) of the area of the target's slices that lies within the field of view of the reference, looking
    along the normal; to pixel edges, not their centres.

    Sampled on the outermost slices: between them a tilt within the limits moves the view evenly.
    """
    ends = replace(target, positions=(target.positions[0], target.positions[-1]))
    fractions = (np.arange(COVERAGE_SAMPLES) + 0.5) / COVERAGE_SAMPLES
    points = ends.at(*np.meshgrid(fractions * ends.rows - 0.5, fractions * ends.columns - 0.5, indexing="ij"))
    row, column = reference.pixel_of(points)
    inside = (row >= -0.5) & (row <= reference.rows - 0.5) & (column >= -0.5) & (column <= reference.columns - 0.5)
    return float(inside.mean())


def plane_distance(target: Geometry, reference: Geometry) -> float:
    """Distance in mm, along the reference's normal, from the centre of the loneliest target slice to the nearest
    reference plane."""
    planes = reference.depths
    centres = target.at((target.rows - 1) / 2, (target.columns - 1) / 2) @ reference.normal
    above = np.searchsorted(planes, centres)
    neighbours = planes[np.clip([above - 1, above], 0, len(planes) - 1)]
    return float(np.abs(neighbours - centres).min(axis=0).max())


def _trained_for(target: str, reference: str, trained_pairs: tuple[tuple[str, str], ...]) -> Predicate:
    known = "; ".join(f"{t} guided by {r}" for t, r in trained_pairs)
    return expect(
        "trained for",
        (target, reference) in trained_pairs,
        f"The model was trained for {target} guided by {reference}.",
        "E_NOT_TRAINED_FOR",
        f"The model was not trained for {target} guided by {reference}, but for: {known or 'nothing it names'}.",
        value=f"{target} guided by {reference}",
        threshold=known or None,
    )


def _same_subject(target: Stack, reference: Stack) -> list[Predicate]:
    frame = target.frame_of_reference_uid
    return [
        expect(
            "same patient",
            target.patient_key == reference.patient_key,
            "Both are of one patient.",
            "E_OTHER_PATIENT",
            "Patient ID or birth date differ between the two series; have the records corrected in the PACS.",
        ),
        expect(
            "same study",
            target.study_uid == reference.study_uid,
            "Both are of one study.",
            "E_OTHER_STUDY",
            "The two series are of different studies.",
        ),
        expect(
            "same frame of reference",
            frame is not None and frame == reference.frame_of_reference_uid,
            "Both were scanned in one position of the patient.",
            "E_FRAME_OF_REFERENCE",
            "The two series do not share a frame of reference: the patient was repositioned between them, or the "
            "scanner does not say.",
        ),
    ]


def _parallel(target: Geometry, reference: Geometry, limits: PairingLimits) -> Predicate:
    angle = angle_between(target, reference)
    return expect(
        "parallel",
        angle <= limits.max_angle_deg,
        "The slices of both are parallel.",
        "E_NOT_PARALLEL",
        f"The slices are tilted against each other by {angle:.1f} degrees. Plan the reference in the planes of the "
        "target.",
        value=angle,
        threshold=limits.max_angle_deg,
    )


def _planes_meet(target: Geometry, reference: Geometry, limits: PairingLimits) -> Predicate:
    distance = plane_distance(target, reference)
    allowed = max(limits.plane_distance_mm, (reference.slice_thickness or reference.step or 0) / 2)
    return expect(
        "planes meet",
        distance <= allowed,
        "Every target slice has a reference slice at its place.",
        "E_PLANES_APART",
        f"A target slice is {distance:.1f} mm from the nearest reference slice. Cover the same slices with both.",
        value=distance,
        threshold=allowed,
    )


def _covers(target: Geometry, reference: Geometry, limits: PairingLimits) -> Predicate:
    covered = coverage(target, reference)
    return expect(
        "field of view",
        covered >= limits.min_coverage,
        "The reference covers the field of view of the target.",
        "E_FIELD_OF_VIEW",
        f"The reference covers only {covered:.0%} of the target's field of view.",
        value=covered,
        threshold=limits.min_coverage,
    )


def _fine_enough(
    target: Stack,
    target_geometry: Geometry,
    reference: Stack,
    reference_geometry: Geometry,
    settings: MatchSettings,
    scale: int,
) -> list[Predicate]:
    limits = settings.pairing
    ratio = spacing_ratio(target, reference, settings, scale)
    refused = ratio > limits.max_spacing_ratio
    spacing = max(reference_geometry.spacing)
    output = min(measured_spacing(target, target_geometry, settings.target)) / scale
    return [
        expect(
            "reference detail",
            ratio <= limits.warn_spacing_ratio,
            "The reference is as fine as the result will be.",
            "E_REFERENCE_COARSE" if refused else "W_REFERENCE_COARSE",
            f"The pixels of the reference ({spacing:.2f} mm) are {ratio:.1f} times those of the result "
            f"({output:.2f} mm): " + ("it has no detail to give." if refused else "the finest details have no guide."),
            value=ratio,
            threshold=limits.max_spacing_ratio if refused else limits.warn_spacing_ratio,
        ),
        expect(
            "reference as acquired",
            reference.measured_matrix(settings.target.max_interpolation) is None,
            "The reference is not known to be interpolated.",
            "W_REFERENCE_INTERPOLATED",
            "The scanner interpolated the reference: it has less detail than its pixels promise.",
            value=reference.interpolation(),
            threshold=settings.target.max_interpolation,
        ),
    ]


def _without_agent(reference: Stack) -> Predicate:
    return expect(
        "no contrast agent",
        "contrast agent" not in reference.marks,
        "The reference was acquired without contrast agent, as far as it says.",
        "W_CONTRAST_AGENT",
        "The reference was acquired with a contrast agent: enhancing tissue looks otherwise than in the training data.",
    )
