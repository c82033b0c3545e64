"""What is refused for the images themselves: those that are not plain magnitude MR slices with the attributes they need.

The list is that of design/dicom-notes.md; attribute meanings are those of PS3.3, C.8.3 (MR) and C.8.13 (Enhanced MR).
"""

import re
from collections.abc import Sequence

from pydicom.uid import MRImageStorage

from node.config.match import MatchSettings, StackLimits
from node.dicom.frames import ENHANCED_SOP_CLASSES
from node.match.predicates import expect
from node.match.stacks import Stack
from node.verdicts import Predicate

# ImageType values; those of vendors may carry more after the first letter or word (R_IR, PHASE MAP).
COMPLEX_PARTS = re.compile(r"(P|PHASE|R|REAL|I|IMAGINARY)([_ ].*)?")
COMPUTED = frozenset(
    [
        "MPR", "MIP", "MINIP", "MNIP", "MAXIMUM_IP", "MINIMUM_IP", "PROJECTION", "REFORMATTED", "CURVED",
        "SUBTRACTION", "SUB", "SUBTRACT", "CSAMPR", "CSAMPRTHICK", "CPR", "PJN", "COLLAPSE", "STDDEV", "ADC",
        "FA", "TRACE", "TRACEW", "TENSOR", "DIFFUSION", "FRACTIONAL_ANISOTROPY", "VOLUME_RATIO", "EADC",
        "MAX_IP", "MIN_IP", "MAXIMUM", "MINIMUM", "DIVISION", "MULTIPLICATION", "STD_DEVIATION",
        "METABOLITE_MAP", "TAGGING", "TOF", "ANGIO_TIME", "MAP", "T1_MAP", "T2_MAP", "T2STAR_MAP", "B0_MAP",
        "B1_MAP", "FIELD_MAP", "VELOCITY", "FLOW_ENCODED", "PERFUSION", "CBF", "CBV", "MTT", "TTP", "TMAX",
        "KTRANS", "ASL", "BOLD", "TMAP", "SWI",
        # Of a Dixon series, all but water and in phase: fat alone, or water less fat.
        "FAT", "F", "FAT_FRACTION", "WATER_FRACTION", "OUT_OF_PHASE", "OUT_PHASE", "OPP_PHASE",
        "OPPOSED_PHASE", "OP",
    ]
)  # fmt: skip

OWN_IMAGE_TYPE = frozenset({"AI", "SUPERRES"})
AI_IMAGE_TYPES = frozenset({"AI", "SUPERRES", "SYNTHETIC"})

NOT_OURS = frozenset({"E_OWN_OUTPUT", "E_NOT_MR"})
"""Codes of what the node does not look at further."""


def not_own_output(stack: Stack) -> Predicate:
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


def is_mr(stack: Stack) -> Predicate:
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


def readable(stack: Stack, series: Sequence[Stack], limits: StackLimits) -> list[Predicate]:
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


def not_synthetic(stack: Stack) -> Predicate:
    said = sorted(stack.marks & {"synthetic", "ai"} | AI_IMAGE_TYPES & set(stack.kind.image_type))
    return expect(
        "not synthetic",
        not said,
        "The images are not marked as made by an algorithm.",
        "E_AI_OUTPUT",
        "The images are marked as made by artificial intelligence; the node only takes what a scanner measured.",
        value=", ".join(said) or None,
    )


def plain_images(stack: Stack) -> list[Predicate]:
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


def provenance(stack: Stack, series: Sequence[Stack], settings: MatchSettings) -> list[Predicate]:
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
