"""Whether a reference fits a target well enough to guide its super-resolution."""

from dataclasses import replace

import numpy as np

from node.config.match import MatchSettings, PairingLimits
from node.dicom.geometry import StackGeometry, angle_between
from node.match.patient import same_patient
from node.match.predicates import expect
from node.match.stack_checks import measured_spacing
from node.match.stacks import Stack
from node.verdicts import Predicate

COVERAGE_SAMPLES = 100  # along each side of the target's field of view: a step of 1 %
FEWEST_SAMPLES, MOST_POINTS = 25, 1_000_000  # of a stack at an angle, where every slice is sampled


def pair_predicates(
    target: Stack,
    target_contrast: str,
    reference: Stack,
    reference_contrast: str,
    settings: MatchSettings,
    scale: int,
    trained_pairs: tuple[tuple[str, str], ...],
) -> list[Predicate]:
    """Every predicate of a pair. They stop where the rest would mean nothing: when the stacks share no frame of reference,
    or when thick slices of a reference are not parallel to the target."""
    predicates = [
        _trained_for(target_contrast, reference_contrast, trained_pairs),
        *_same_subject(target, reference),
    ]
    if target.geometry is None or reference.geometry is None or any(p.code for p in predicates[1:]):
        return predicates
    angle = _sliceable(target.geometry, reference, reference.geometry, settings.pairing)
    if angle.code:
        return [*predicates, angle]
    return [
        *predicates,
        angle,
        *_planes_meet(target.geometry, reference.geometry, settings.pairing),
        _covers(target.geometry, reference, reference.geometry, settings.pairing),
        *_fine_enough(target, target.geometry, reference, reference.geometry, settings, scale),
        _without_agent(reference),
    ]


def spacing_ratio(target: Stack, reference: Stack, settings: MatchSettings, scale: int) -> float:
    """Spacing of the reference in the planes of the target over that of the output, where it is largest."""
    if target.geometry is None or reference.geometry is None:
        return float("inf")
    output = min(measured_spacing(target, target.geometry, settings.target)) / scale
    return spacing_within(as_acquired(reference, reference.geometry, settings), target.geometry) / output


def as_acquired(reference: Stack, geometry: StackGeometry, settings: MatchSettings) -> StackGeometry:
    """The geometry with the pixels that were acquired, where the scanner interpolated them: it stored more, but no more
    detail."""
    return replace(geometry, spacing=measured_spacing(reference, geometry, settings.target))


def spacing_within(reference: StackGeometry, target: StackGeometry) -> float:
    """Spacing in mm that the reference has in the planes of the target, in the direction where it is largest.

    Samples s_i apart along orthogonal unit vectors a_i hold, along a unit vector u, waves of half-length down to
    max |a_i u| s_i; over all u in a plane of normal n that is at most s_i times the length of a_i projected onto the
    plane. Of a parallel stack it is its in-plane spacing, of one at a right angle its slice distance, if larger.
    """
    along_row, along_column = np.reshape(reference.orientation, (2, 3))
    axes = np.array([along_column, along_row, reference.normal])
    slants = np.sqrt(np.clip(1 - (axes @ target.normal) ** 2, 0, 1))
    return float(np.max(slants * reference.voxel))


def coverage(target: StackGeometry, reference: StackGeometry, limits: PairingLimits) -> float:
    """The part (0 to 1) of a target slice's area within the field of view of the reference, for the slice where it is
    least. Fields of view extend to the edges of pixels. Parallel stacks are compared along the normal; otherwise the part
    must also be between the first and the last slice of the reference.

    Parallel stacks are sampled on their outermost slices: in between, a tilt within the limits moves the view evenly.
    """
    parallel = is_parallel(target, reference, limits)
    if parallel:
        target = replace(target, positions=(target.positions[0], target.positions[-1]))
    affordable = int((MOST_POINTS / len(target.positions)) ** 0.5)
    samples = max(FEWEST_SAMPLES, min(COVERAGE_SAMPLES, affordable))
    fractions = (np.arange(samples) + 0.5) / samples
    points = target.at(*np.meshgrid(fractions * target.rows - 0.5, fractions * target.columns - 0.5, indexing="ij"))
    row, column = reference.pixel_of(points)
    inside = (row >= -0.5) & (row <= reference.rows - 0.5) & (column >= -0.5) & (column <= reference.columns - 0.5)
    if not parallel:
        depth, margin = points @ reference.normal, (reference.step or reference.slice_thickness or 0) / 2
        inside &= (depth >= reference.depths[0] - margin) & (depth <= reference.depths[-1] + margin)
    return float(inside.mean(axis=(-2, -1)).min())


def is_parallel(target: StackGeometry, reference: StackGeometry, limits: PairingLimits) -> bool:
    """Whether the slices of both are parallel, within the limits."""
    return angle_between(target.normal, reference.normal) <= limits.max_angle_deg


def plane_distance(target: StackGeometry, reference: StackGeometry) -> float:
    """Distance in mm, along the reference's normal, from the centre of a target slice to the nearest reference plane; of
    the target slice where it is largest."""
    planes = reference.depths
    centres = target.at((target.rows - 1) / 2, (target.columns - 1) / 2) @ reference.normal
    above = np.searchsorted(planes, centres)
    neighbours = planes[np.clip([above - 1, above], 0, len(planes) - 1)]
    return float(np.abs(neighbours - centres).min(axis=0).max())


def planes_allowed(reference: StackGeometry, limits: PairingLimits) -> float:
    """The largest distance in mm of a target slice from a reference plane."""
    return max(limits.max_plane_distance_mm, (reference.slice_thickness or reference.step or 0) / 2)


def _trained_for(target: str, reference: str, trained_pairs: tuple[tuple[str, str], ...]) -> Predicate:
    known = "; ".join(f"{t} guided by {r}" for t, r in trained_pairs)
    return expect(
        "trained for",
        (target, reference) in trained_pairs,
        f"The model was trained for {target} guided by {reference}.",
        "E_NOT_TRAINED_FOR",
        f"The model was not trained for {target} guided by {reference}, but for: {known or 'no pair named in its manifest'}.",
        value=f"{target} guided by {reference}",
        threshold=known or None,
    )


def _same_subject(target: Stack, reference: Stack) -> list[Predicate]:
    frame = target.frame_of_reference_uid
    return [
        same_patient(target.patients, reference.patients),
        expect(
            "same study",
            target.study_uid == reference.study_uid,
            "Both series are of the same study.",
            "E_OTHER_STUDY",
            "The two series belong to different studies.",
        ),
        expect(
            "same frame of reference",
            frame is not None and frame == reference.frame_of_reference_uid,
            "Both series share a frame of reference.",
            "E_FRAME_OF_REFERENCE",
            "The two series do not share a frame of reference: the patient was repositioned between them, or the "
            "scanner does not name it.",
        ),
    ]


def _sliceable(target: StackGeometry, reference: Stack, geometry: StackGeometry, limits: PairingLimits) -> Predicate:
    """Whether the reference can be resliced in the planes of the target: it is parallel, or a volume."""
    angle = angle_between(target.normal, geometry.normal)
    if is_parallel(target, geometry, limits):
        good = "The slices of both series are parallel."
    else:
        good = f"The reference is a volume, so it can be resliced in the planes of the target, {angle:.0f} degrees from its own."
    return expect(
        "angle",
        is_parallel(target, geometry, limits) or _is_volume(reference, geometry, limits),
        good,
        "E_NOT_PARALLEL",
        f"The slices are tilted against each other by {angle:.1f} degrees, and those of the reference are too thick to "
        "be resliced at an angle. Plan the reference in the planes of the target, or acquire it in 3-D.",
        value=angle,
        threshold=limits.max_angle_deg,
    )


def _is_volume(reference: Stack, geometry: StackGeometry, limits: PairingLimits) -> bool:
    voxel = geometry.voxel
    return reference.physics.three_dimensional or max(voxel) <= limits.max_voxel_ratio * min(voxel)


def _planes_meet(target: StackGeometry, reference: StackGeometry, limits: PairingLimits) -> list[Predicate]:
    """Whether the planes of parallel stacks meet. A volume has planes everywhere."""
    if not is_parallel(target, reference, limits):
        return []
    distance = plane_distance(target, reference)
    allowed = planes_allowed(reference, limits)
    return [
        expect(
            "planes meet",
            distance <= allowed,
            "Every target slice has a reference slice at its position.",
            "E_PLANES_APART",
            f"A target slice is {distance:.1f} mm from the nearest reference slice. Cover the same slices with both.",
            value=distance,
            threshold=allowed,
        )
    ]


def _covers(target: StackGeometry, reference: Stack, geometry: StackGeometry, limits: PairingLimits) -> Predicate:
    covered = coverage(target, geometry, limits)
    asked = limits.min_volume_coverage if _is_volume(reference, geometry, limits) else limits.min_coverage
    refused = covered < asked
    return expect(
        "field of view",
        covered >= limits.min_coverage,
        "The reference covers enough of the target's field of view.",
        "E_FIELD_OF_VIEW" if refused else "W_FIELD_OF_VIEW",
        f"The reference covers only {covered:.0%} of the target's field of view."
        + (
            ""
            if refused
            else " It is a volume, which may leave out air; the images will tell whether it leaves out more."
        ),
        value=covered,
        threshold=asked if refused else limits.min_coverage,
    )


def _fine_enough(
    target: Stack,
    target_geometry: StackGeometry,
    reference: Stack,
    reference_geometry: StackGeometry,
    settings: MatchSettings,
    scale: int,
) -> list[Predicate]:
    limits = settings.pairing
    ratio = spacing_ratio(target, reference, settings, scale)
    refused = ratio > limits.max_spacing_ratio
    spacing = spacing_within(as_acquired(reference, reference_geometry, settings), target_geometry)
    output = min(measured_spacing(target, target_geometry, settings.target)) / scale
    return [
        expect(
            "reference detail",
            ratio <= limits.warn_spacing_ratio,
            "The pixels of the reference are small enough for the result.",
            "E_REFERENCE_COARSE" if refused else "W_REFERENCE_COARSE",
            f"The pixels of the reference ({spacing:.2f} mm there) are {ratio:.1f} times those of the result "
            f"({output:.2f} mm): " + ("it has no detail to give." if refused else "the finest details have no guide."),
            value=ratio,
            threshold=limits.max_spacing_ratio if refused else limits.warn_spacing_ratio,
        ),
        expect(
            "reference as acquired",
            reference.measured_matrix(settings.target.max_interpolation) is None,
            "The reference is not known to be interpolated.",
            "W_REFERENCE_INTERPOLATED",
            "The scanner interpolated the reference. It is judged by the pixels that were acquired.",
            value=reference.interpolation(),
            threshold=settings.target.max_interpolation,
        ),
    ]


def _without_agent(reference: Stack) -> Predicate:
    return expect(
        "no contrast agent",
        reference.agent is None,
        "Neither header nor description of the reference names a contrast agent.",
        "W_CONTRAST_AGENT",
        f"The reference was acquired with a contrast agent ({reference.agent}): enhancing tissue looks different from the "
        "training data.",
        value=reference.agent,
    )
