"""What is refused, whatever its contrast: images that are not plain magnitude MR slices in one whole, regular stack.

The list is that of design/dicom-notes.md; attribute meanings are those of PS3.3, C.8.3 (MR) and C.8.13 (Enhanced MR).
"""

import re
from collections.abc import Sequence

import numpy as np
from pydicom.uid import MRImageStorage

from node.config.match import MatchSettings, StackLimits, TargetLimits
from node.dicom.frames import ENHANCED_SOP_CLASSES
from node.match.predicates import Predicate, expect
from node.match.stacks import Geometry, Stack, angle_between

# ImageType values; those of vendors may carry more after the first letter or word (R_IR, PHASE MAP).
COMPLEX_PARTS = re.compile(r"(P|PHASE|R|REAL|I|IMAGINARY)([_ ].*)?")
LOCALIZERS = frozenset({"LOCALIZER", "LOCALISER", "SCOUT", "SURVEY", "PILOT"})
COMPUTED = frozenset(
    [
        "MPR",
        "MIP",
        "MINIP",
        "MNIP",
        "MAXIMUM_IP",
        "MINIMUM_IP",
        "PROJECTION",
        "REFORMATTED",
        "CURVED",
        "SUBTRACTION",
        "SUB",
        "SUBTRACT",
        "CSAMPR",
        "CSAMPRTHICK",
        "CPR",
        "PJN",
        "COLLAPSE",
        "STDDEV",
        "ADC",
        "FA",
        "TRACE",
        "TRACEW",
        "TENSOR",
        "DIFFUSION",
        "FRACTIONAL_ANISOTROPY",
        "VOLUME_RATIO",
        "EADC",
        "MAX_IP",
        "MIN_IP",
        "MAXIMUM",
        "MINIMUM",
        "DIVISION",
        "MULTIPLICATION",
        "STD_DEVIATION",
        "METABOLITE_MAP",
        "TAGGING",
        "TOF",
        "ANGIO_TIME",
        "MAP",
        "T1_MAP",
        "T2_MAP",
        "T2STAR_MAP",
        "B0_MAP",
        "B1_MAP",
        "FIELD_MAP",
        "VELOCITY",
        "FLOW_ENCODED",
        "PERFUSION",
        "CBF",
        "CBV",
        "MTT",
        "TTP",
        "TMAX",
        "KTRANS",
        "ASL",
        "BOLD",
        "TMAP",
        "SWI",
        # Of a Dixon series, all but water and in phase: fat alone, or water less fat.
        "FAT",
        "F",
        "FAT_FRACTION",
        "WATER_FRACTION",
        "OUT_OF_PHASE",
        "OUT_PHASE",
        "OPP_PHASE",
        "OPPOSED_PHASE",
        "OP",
    ]
)

OWN_IMAGE_TYPE = frozenset({"AI", "SUPERRES"})
AI_IMAGE_TYPES = frozenset({"AI", "SUPERRES", "SYNTHETIC"})

NOT_OURS = frozenset({"E_OWN_OUTPUT", "E_NOT_MR"})
"""Codes of what the node does not look at further."""

BROKEN_STACK = frozenset(
    {"E_TOO_FEW_SLICES", "E_DUPLICATE_SLICES", "E_MISSING_SLICES", "E_IRREGULAR_SPACING", "E_SHEARED_STACK"}
)
"""Codes of a stack that is the right thing, but not whole."""


def suitability(stack: Stack, series: Sequence[Stack], settings: MatchSettings) -> list[Predicate]:
    """The predicates of the refusal list for one stack; `series` is every stack of its series, itself included.

    They end with the first code of NOT_OURS.
    """
    foreign, is_mr = _not_own_output(stack), _is_mr(stack)
    if foreign.code:
        return [foreign]
    if is_mr.code:
        return [foreign, is_mr]
    return [
        foreign,
        is_mr,
        *_readable(stack, series, settings.stack),
        _not_synthetic(stack),
        *_plain_images(stack),
        *_not_localizer(stack, series, settings),
        *([] if stack.geometry is None else _regular(stack.geometry, settings.stack)),
        *_provenance(stack, series, settings),
    ]


def target_suitability(stack: Stack, geometry: Geometry, settings: MatchSettings, scale: int) -> list[Predicate]:
    """What is asked of a stack beyond that to be super-resolved `scale` times in-plane."""
    limits = settings.target
    measured = stack.measured_matrix(limits.max_interpolation)
    rows, columns = measured or (geometry.rows, geometry.columns)
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
            max(rows, columns) * scale <= settings.stack.max_matrix,
            f"The result has {rows * scale} x {columns * scale} pixels.",
            "E_MATRIX_TOO_LARGE",
            f"The result would have {rows * scale} x {columns * scale} pixels; this series is no low-resolution one.",
            value=max(rows, columns) * scale,
            threshold=settings.stack.max_matrix,
        ),
        expect(
            "output spacing",
            finest >= limits.min_output_spacing_mm,
            "The series is coarse enough to be super-resolved.",
            "E_TARGET_ALREADY_FINE",
            f"The pixels would shrink to {finest:.3f} mm: the series already has a high resolution.",
            value=finest,
            threshold=limits.min_output_spacing_mm,
        ),
    ]


def measured_spacing(stack: Stack, geometry: Geometry, limits: TargetLimits) -> tuple[float, float]:
    """Spacing in mm between rows and columns as acquired: that of the images, unless the scanner interpolated them."""
    rows, columns = stack.measured_matrix(limits.max_interpolation) or (geometry.rows, geometry.columns)
    return geometry.spacing[0] * geometry.rows / rows, geometry.spacing[1] * geometry.columns / columns


def _is_mr(stack: Stack) -> Predicate:
    sop_class = stack.kind.sop_class
    return expect(
        "modality",
        stack.kind.modality == "MR" and sop_class in {MRImageStorage, *ENHANCED_SOP_CLASSES},
        "These are MR images.",
        "E_NOT_MR",
        "These are not MR images (MR Image Storage); the node does not look at them further.",
        value=f"{stack.kind.modality or 'no modality'}, SOP class {sop_class or 'missing'}",
        threshold="MR",
    )


def _readable(stack: Stack, series: Sequence[Stack], limits: StackLimits) -> list[Predicate]:
    kind, missing = stack.kind, stack.kind.missing
    enhanced = kind.sop_class in ENHANCED_SOP_CLASSES
    damaged = sum(len(s.sop_uids) for s in series if s.geometry is None)
    largest = max(stack.rows or 0, stack.columns or 0)
    return [
        expect(
            "functional groups",
            kind.enhanced_frames or not enhanced,
            "The image attributes are where they belong.",
            "E_ENHANCED_NO_FUNCTIONAL_GROUPS",
            "Enhanced MR without per-frame functional groups: nothing says where its slices lie. Send it again from "
            "the scanner, or as classic MR images.",
        ),
        expect(
            "one slice an image",
            enhanced or kind.number_of_frames == 1,
            "Every slice is an image of its own.",
            "E_MULTIFRAME",
            "All slices are in one multi-frame file that is not Enhanced MR, so nothing says where they lie. Send the "
            "series as Enhanced MR or as classic (single-frame) MR images.",
            value=kind.number_of_frames,
            threshold=1,
        ),
        expect(
            "pixels",
            kind.has_pixels,
            "The images have pixels.",
            "E_NO_PIXELS",
            "There are headers without pixels. Send the series again from the scanner.",
        ),
        expect(
            "attributes",
            not missing,
            "Every attribute that is needed is there.",
            "E_ATTRIBUTES_MISSING",
            f"Attributes that are needed are missing or unusable: {', '.join(missing)}. Send the series again from "
            "the scanner.",
            value=", ".join(missing) or None,
        ),
        expect(
            "series undamaged",
            damaged == 0 or stack.geometry is None,
            "All images of the series can be placed.",
            "E_SERIES_DAMAGED",
            f"The series has {damaged} more images whose place is unknown, so this stack may not be whole. Send the "
            "series again from the scanner.",
            value=damaged,
            threshold=0,
        ),
        expect(
            "greyscale",
            kind.samples_per_pixel in {None, 1} and kind.photometric in {None, "MONOCHROME1", "MONOCHROME2"},
            "The images are greyscale.",
            "E_COLOUR",
            "These are colour images, such as a fused overlay or a report page.",
            value=kind.photometric,
            threshold="MONOCHROME1 or MONOCHROME2",
        ),
        expect(
            "bits",
            kind.bits_allocated in {None, 8, 16},
            "Pixels are stored as MR images store them.",
            "E_PIXEL_FORMAT",
            "Pixels are stored with a number of bits that MR images do not use.",
            value=kind.bits_allocated,
            threshold="8 or 16",
        ),
        expect(
            "matrix",
            largest <= limits.max_matrix,
            "The matrix is believable.",
            "E_MATRIX_ABSURD",
            "The images claim a matrix that no scanner makes; the header is damaged.",
            value=largest,
            threshold=limits.max_matrix,
        ),
    ]


def _not_own_output(stack: Stack) -> Predicate:
    # ContentQualification (0018,9004) RESEARCH says nothing: scanners with a research licence write it into all they
    # measure.
    return expect(
        "not own output",
        not set(stack.kind.image_type) >= OWN_IMAGE_TYPE and "own" not in stack.marks,
        "This is no result of the node itself.",
        "E_OWN_OUTPUT",
        "This is a result of super-resolution come back; it is kept, and never processed again.",
        value="\\".join(stack.kind.image_type) or None,
    )


def _not_synthetic(stack: Stack) -> Predicate:
    said = sorted(stack.marks & {"synthetic", "ai"} | AI_IMAGE_TYPES & set(stack.kind.image_type))
    return expect(
        "not synthetic",
        not said,
        "The images are not marked as made by an algorithm.",
        "E_AI_OUTPUT",
        "The images are marked as made by artificial intelligence; the node only takes what a scanner measured.",
        value=", ".join(said) or None,
    )


def _plain_images(stack: Stack) -> list[Predicate]:
    kind, physics = stack.kind, stack.physics
    tokens = kind.image_type[2:]  # after ORIGINAL or DERIVED, PRIMARY or SECONDARY
    complex_part = next((t for t in tokens if COMPLEX_PARTS.fullmatch(t)), None)
    if kind.complex_component not in {None, "MAGNITUDE"}:
        complex_part = kind.complex_component
    computed = next((t for t in tokens if COMPUTED & {t.replace(" ", "_"), *re.split(r"[_ ]", t)}), None)
    if kind.calculation not in {None, "NONE"}:
        computed = kind.calculation
    diffusion = (stack.b_value or 0) > 0 or kind.gradient_directions in {"DIRECTIONAL", "BMATRIX", "ISOTROPIC"}
    return [
        expect(
            "not mosaic",
            "MOSAIC" not in tokens,
            "One slice to an image.",
            "E_MOSAIC",
            "Siemens mosaic: many slices tiled in one image. Switch mosaic off in the protocol.",
        ),
        expect(
            "magnitude",
            complex_part is None,
            "The images show magnitude.",
            "E_NOT_MAGNITUDE",
            "The images show phase, or the real or imaginary part, not magnitude. Send the magnitude images.",
            value=complex_part,
            threshold="MAGNITUDE",
        ),
        expect(
            "not computed",
            computed is None,
            "The images are no map, projection or reformat.",
            "E_COMPUTED_IMAGE",
            f"The images were computed from others ({computed}). Send the series they were computed from.",
            value=computed,
        ),
        expect(
            "not diffusion",
            not diffusion,
            "The images are not diffusion-weighted.",
            "E_DIFFUSION",
            "Diffusion-weighted images are not super-resolved.",
            value=stack.b_value,
            threshold=0,
        ),
        expect(
            "not echo-planar",
            not physics.echo_planar,
            "The sequence is not echo-planar.",
            "E_ECHO_PLANAR",
            "Echo-planar images are distorted, so that no reference lies on them.",
            value="\\".join(physics.scanning_sequence) or None,
        ),
        expect(
            "not angiography",
            not physics.angiography,
            "The images are no angiography.",
            "E_ANGIOGRAPHY",
            "Angiography shows flow, not tissue; the model was not made for it.",
        ),
        expect(
            "nothing burned in",
            "burned-in" not in stack.marks,
            "No text is declared as burned into the pixels.",
            "E_BURNED_IN",
            "Text is burned into the pixels, which super-resolution would alter.",
        ),
    ]


def _not_localizer(stack: Stack, series: Sequence[Stack], settings: MatchSettings) -> list[Predicate]:
    token = next((t for t in stack.kind.image_type if t in LOCALIZERS), None)
    planes = [s.geometry for s in series if s.geometry is not None]
    widest = max((angle_between(stack.geometry, plane) for plane in planes), default=0.0) if stack.geometry else 0.0
    limit = settings.stack.localizer_angle_deg
    veto = settings.veto(stack.description)
    return [
        expect(
            "not localizer",
            token is None and widest <= limit,
            "The series is no localizer.",
            "E_LOCALIZER",
            "The series is a localizer: it is marked so, or its slices lie in several planes.",
            value=token or widest,
            threshold=limit,
        ),
        expect(
            "description",
            veto is None,
            "Nothing in the series description speaks against it.",
            "E_DESCRIPTION_VETO",
            f'The series description has the word "{veto}". If this is a series to process, describe it otherwise or '
            "take the word out of [match] description_vetoes.",
            value=None if veto is None else stack.description,
        ),
    ]


def _regular(geometry: Geometry, limits: StackLimits) -> list[Predicate]:
    slices, steps, step = len(geometry.positions), geometry.steps, geometry.step
    predicates = [
        expect(
            "slices",
            slices >= limits.min_slices,
            f"{slices} slices.",
            "E_TOO_FEW_SLICES",
            f"Only {slices} of at least {limits.min_slices} slices: a localizer, or not all were sent.",
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
            "Every slice has a place of its own.",
            "E_DUPLICATE_SLICES",
            f"{repeated} slices lie where another slice of the stack lies: a repeat or a dynamic scan in one series.",
            value=repeated,
            threshold=0,
        )
    )
    if repeated:  # a usual step of zero says nothing about gaps
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
            f"Slices are missing: a gap is {largest:.2g} times the slice distance. Send the whole series again.",
            value=largest,
            threshold=limits.gap_factor,
        ),
        expect(
            "even spacing",
            largest >= limits.gap_factor or deviation <= limits.max_step_deviation,
            "The slices are evenly spaced.",
            "E_IRREGULAR_SPACING",
            f"The slices are unevenly spaced: {deviation:.0%} off their usual distance.",
            value=deviation,
            threshold=limits.max_step_deviation,
        ),
        expect(
            "upright stack",
            drift <= limits.max_drift_mm,
            "The slices lie straight above each other.",
            "E_SHEARED_STACK",
            f"The slices are shifted sideways against each other, by {drift:.2f} mm.",
            value=drift,
            threshold=limits.max_drift_mm,
        ),
    ]


def _nominal_step(geometry: Geometry) -> float | None:
    """SpacingBetweenSlices (0018,0088) in mm; None where it is below the slice thickness: some scanners mean the gap
    by it, others overlap their slices."""
    nominal, thickness = geometry.spacing_between_slices, geometry.slice_thickness
    return nominal if nominal and thickness and nominal >= thickness > 0 else None


def _drift(geometry: Geometry) -> float:
    """How far, in mm, a slice lies beside the line along the normal through the first."""
    offsets = np.asarray(geometry.positions) - np.asarray(geometry.positions[0])
    sideways = offsets - np.outer(offsets @ geometry.normal, geometry.normal)
    return float(np.linalg.norm(sideways, axis=1).max())


def _provenance(stack: Stack, series: Sequence[Stack], settings: MatchSettings) -> list[Predicate]:
    received = len({image for s in series for image in zip(s.sop_uids, s.frames, strict=True)})
    announced = stack.images_announced or received
    accepted = settings.lossy == "accept"
    return [
        expect(
            "original",
            stack.kind.image_type[:1] != ("DERIVED",),
            "The images come as the scanner reconstructed them.",
            "W_DERIVED",
            "The images are marked DERIVED: processed after reconstruction.",
            value="\\".join(stack.kind.image_type) or None,
        ),
        expect(
            "lossless",
            "lossy" not in stack.marks,
            "The images were never compressed with loss.",
            "W_LOSSY" if accepted else "E_LOSSY",
            "The images were once compressed with loss; "
            + ("the result keeps that loss." if accepted else "the model would make detail of what compression left."),
        ),
        expect(
            "as many as announced",
            received >= announced,
            "As many images as the scanner announced, where it did.",
            "W_FEWER_THAN_ANNOUNCED",
            f"{received} images were received of {announced} that the scanner announced.",
            value=received,
            threshold=announced,
        ),
    ]


def _interpolation(stack: Stack, limits: TargetLimits) -> Predicate:
    ratio, acquired = stack.interpolation(), stack.acquired_matrix
    if ratio is None or acquired is None:
        return expect(
            "interpolation",
            False,
            "",
            "W_ACQUIRED_MATRIX_UNKNOWN",
            "The header does not say which matrix was acquired; if the scanner interpolated, the result is softer.",
            threshold=limits.max_interpolation,
        )
    crop = limits.interpolated == "crop"
    remedy = "the node goes back to what was acquired" if crop else "switch interpolation off in the protocol"
    return expect(
        "interpolation",
        ratio <= limits.max_interpolation,
        "The images have the resolution that was acquired.",
        "W_INTERPOLATED" if crop else "E_INTERPOLATED",
        f"The scanner interpolated {acquired[0]} x {acquired[1]} acquired pixels to {stack.rows} x {stack.columns}; "
        f"{remedy}.",
        value=ratio,
        threshold=limits.max_interpolation,
    )
