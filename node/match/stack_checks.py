"""What is refused for a stack as a whole: localizers, and slices that do not form one complete, regular stack."""

from collections.abc import Sequence

import numpy as np

from node.config.match import MatchSettings, StackLimits, TargetLimits
from node.dicom.geometry import StackGeometry, angle_between
from node.match import image_checks
from node.match.patient import one_patient
from node.match.predicates import expect
from node.match.stacks import Stack
from node.verdicts import Predicate

LOCALIZERS = frozenset({"LOCALIZER", "LOCALISER", "SCOUT", "SURVEY", "PILOT"})

BROKEN_STACK = frozenset(
    {"E_TOO_FEW_SLICES", "E_DUPLICATE_SLICES", "E_MISSING_SLICES", "E_IRREGULAR_SPACING", "E_SHEARED_STACK"}
)
"""Codes of a stack that would be used if it were complete and regular."""


def suitability(stack: Stack, series: Sequence[Stack], settings: MatchSettings) -> list[Predicate]:
    """The predicates of one stack, whatever its contrast; `series` is every stack of its series, itself included.

    They end with the first code of NOT_OURS.
    """
    foreign, is_mr = image_checks.not_own_output(stack), image_checks.is_mr(stack)
    if foreign.code:
        return [foreign]
    if is_mr.code:
        return [foreign, is_mr]
    return [
        foreign,
        is_mr,
        *one_patient(record for s in series if not image_checks.is_mr(s).code for record in s.patients),
        *image_checks.decodable(stack, series, settings.stack),
        image_checks.not_synthetic(stack),
        *image_checks.plain_images(stack),
        *_not_localizer(stack, series, settings),
        *([] if stack.geometry is None else _regular(stack.geometry, settings.stack)),
        *image_checks.provenance(stack, series, settings),
    ]


def target_suitability(stack: Stack, geometry: StackGeometry, settings: MatchSettings, scale: int) -> list[Predicate]:
    """The further predicates of a stack that is to be super-resolved `scale` times in-plane."""
    limits = settings.target
    rows, columns = stack.measured_matrix(limits.max_interpolation) or (geometry.rows, geometry.columns)
    finest = min(measured_spacing(stack, geometry, limits)) / scale
    return [
        _interpolation(stack, limits),
        expect(
            "target matrix",
            min(rows, columns) >= limits.min_matrix,
            "The acquired matrix is large enough.",
            "E_MATRIX_TOO_SMALL",
            f"The acquired matrix of {rows} x {columns} is too small for the model to see the anatomy.",
            value=f"{rows} x {columns}",
            threshold=limits.min_matrix,
        ),
        expect(
            "output matrix",
            max(geometry.rows, geometry.columns) * scale <= settings.stack.max_matrix,
            f"The result has {geometry.rows * scale} x {geometry.columns * scale} pixels.",
            "E_MATRIX_TOO_LARGE",
            f"The result would have {geometry.rows * scale} x {geometry.columns * scale} pixels; this series is not "
            "low-resolution.",
            value=max(geometry.rows, geometry.columns) * scale,
            threshold=settings.stack.max_matrix,
        ),
        expect(
            "output spacing",
            finest >= limits.min_output_spacing_mm,
            "The series is coarse enough to be super-resolved.",
            "E_TARGET_ALREADY_FINE",
            f"What was acquired would shrink to {finest:.3f} mm: the series already has a high resolution.",
            value=finest,
            threshold=limits.min_output_spacing_mm,
        ),
    ]


def measured_spacing(stack: Stack, geometry: StackGeometry, limits: TargetLimits) -> tuple[float, float]:
    """Spacing in mm between rows and columns as acquired: that of the images, unless the scanner interpolated them."""
    rows, columns = stack.measured_matrix(limits.max_interpolation) or (geometry.rows, geometry.columns)
    return geometry.spacing[0] * geometry.rows / rows, geometry.spacing[1] * geometry.columns / columns


def _not_localizer(stack: Stack, series: Sequence[Stack], settings: MatchSettings) -> list[Predicate]:
    token = next((t for t in stack.kind.image_type if t in LOCALIZERS), None)
    planes = [s.geometry for s in series if s.geometry is not None and image_checks.might_be_a_slice(s)]
    normal = None if stack.geometry is None else stack.geometry.normal
    widest = 0.0 if normal is None else max((angle_between(normal, plane.normal) for plane in planes), default=0.0)
    limit = settings.stack.localizer_angle_deg
    veto = settings.veto(stack.description)
    return [
        expect(
            "not localizer",
            token is None and widest <= limit,
            "The series is not a localizer.",
            "E_LOCALIZER",
            "The series is a localizer: it is marked as one, or its slices are in several planes.",
            value=token or widest,
            threshold=limit,
        ),
        expect(
            "description",
            veto is None,
            "The series description contains no vetoed word.",
            "E_DESCRIPTION_VETO",
            f'The series description contains the word "{veto}". If the series should be processed, describe it '
            "differently or remove the word from [match] description_vetoes.",
            value=None if veto is None else stack.description,
        ),
    ]


def _regular(geometry: StackGeometry, limits: StackLimits) -> list[Predicate]:
    slices, steps, step = len(geometry.positions), geometry.steps, geometry.step
    predicates = [
        expect(
            "slices",
            slices >= limits.min_slices,
            f"The stack has {slices} slices.",
            "E_TOO_FEW_SLICES",
            f"The stack has only {slices} of at least {limits.min_slices} slices: it is a localizer, or slices were not sent.",
            value=slices,
            threshold=limits.min_slices,
        )
    ]
    if step is None:
        return predicates
    repeated = int(np.sum(steps < limits.duplicate_mm))
    predicates.append(
        expect(
            "no slice twice",
            repeated == 0,
            "No two slices are at the same position.",
            "E_DUPLICATE_SLICES",
            f"{repeated} slices are at the position of another slice: a repeat or a dynamic scan in one series.",
            value=repeated,
            threshold=0,
        )
    )
    if repeated:  # with a median step of zero, gaps cannot be found
        return predicates
    largest = float(steps.max()) / min(step, _nominal_step(geometry) or step)
    deviation = float(np.max(np.abs(steps - step))) / step
    drift = _drift(geometry)
    return [
        *predicates,
        expect(
            "no slice missing",
            largest < limits.gap_factor,
            "No slice is missing between the others.",
            "E_MISSING_SLICES",
            f"Slices are missing: {slices} of {_places(geometry)} positions are filled, and a gap is {largest:.2g} times the "
            "slice distance. Send the whole series again.",
            value=largest,
            threshold=limits.gap_factor,
        ),
        expect(
            "even spacing",
            largest >= limits.gap_factor or deviation <= limits.max_step_deviation,
            "The slices are evenly spaced.",
            "E_IRREGULAR_SPACING",
            f"The slices are unevenly spaced: a step deviates by {deviation:.0%} from the median.",
            value=deviation,
            threshold=limits.max_step_deviation,
        ),
        expect(
            "upright stack",
            drift <= limits.max_drift_mm,
            "The slices are aligned along their normal.",
            "E_SHEARED_STACK",
            f"The slices are shifted sideways against each other by {drift:.2f} mm.",
            value=drift,
            threshold=limits.max_drift_mm,
        ),
    ]


def _places(geometry: StackGeometry) -> int:
    """How many slices there would be without gaps."""
    step = min(float(np.median(geometry.steps)), _nominal_step(geometry) or np.inf)
    return round(float(geometry.steps.sum()) / step) + 1


def _nominal_step(geometry: StackGeometry) -> float | None:
    """SpacingBetweenSlices (0018,0088) in mm; None where it is below the slice thickness: some scanners write the gap
    there, others overlap their slices."""
    nominal, thickness = geometry.spacing_between_slices, geometry.slice_thickness
    return nominal if nominal and thickness and nominal >= thickness > 0 else None


def _drift(geometry: StackGeometry) -> float:
    """The largest distance, in mm, of a slice from the line along the normal through the first slice."""
    offsets = np.asarray(geometry.positions) - np.asarray(geometry.positions[0])
    sideways = offsets - np.outer(offsets @ geometry.normal, geometry.normal)
    return float(np.linalg.norm(sideways, axis=1).max())


def _interpolation(stack: Stack, limits: TargetLimits) -> Predicate:
    ratio, acquired = stack.interpolation(), stack.acquired_matrix
    if ratio is None or acquired is None:
        return expect(
            "interpolation",
            False,
            "",
            "W_ACQUIRED_MATRIX_UNKNOWN",
            "The header does not say which matrix was acquired. Only the spectrum of the images can show it.",
            threshold=limits.max_interpolation,
        )
    crop = limits.interpolated == "crop"
    remedy = "the node goes back to what was acquired" if crop else "switch interpolation off in the protocol"
    return expect(
        "interpolation",
        ratio <= limits.max_interpolation,
        "The scanner interpolated the images little or not at all.",
        "W_INTERPOLATED" if crop else "E_INTERPOLATED",
        f"The scanner interpolated {acquired[0]} x {acquired[1]} acquired pixels to {stack.rows} x {stack.columns}; "
        f"{remedy}.",
        value=ratio,
        threshold=limits.max_interpolation,
    )
