"""What is refused for the images themselves: everything that is not a plain magnitude MR slice with the attributes it
needs.

Attribute meanings are those of PS3.3, C.8.3 (MR) and C.8.13 (Enhanced MR).
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from node.config.match import MatchSettings, StackLimits
from node.dicom.frames import ENHANCED_SOP_CLASSES
from node.match.images import ImageKind
from node.match.predicates import expect
from node.match.stacks import MR_SOP_CLASSES, Stack
from node.verdicts import Predicate, failures

# ImageType values. Vendors may append more to the first letter or word (R_IR, PHASE MAP).
# PSIR keeps the sign of the inverted magnetisation; Philips calls such images CR (corrected real).
COMPLEX_PARTS = re.compile(r"(P|PHASE|R|REAL|I|IMAGINARY|PSIR|CR)([_ ].*)?")
COMPUTED = frozenset(
    [
        "MPR", "MIP", "MINIP", "MNIP", "MAXIMUM_IP", "MINIMUM_IP", "PROJECTION", "REFORMATTED", "CURVED",
        "SUBTRACTION", "SUB", "SUBTRACT", "CSAMPR", "CSAMPRTHICK", "CPR", "PJN", "COLLAPSE", "STDDEV", "ADC",
        "FA", "TRACE", "TRACEW", "TENSOR", "DIFFUSION", "FRACTIONAL_ANISOTROPY", "VOLUME_RATIO", "EADC",
        "MAX_IP", "MIN_IP", "MAXIMUM", "MINIMUM", "DIVISION", "MULTIPLICATION", "STD_DEVIATION",
        "METABOLITE_MAP", "TAGGING", "TOF", "ANGIO_TIME", "MAP", "T1_MAP", "T2_MAP", "T2STAR_MAP", "B0_MAP",
        "B1_MAP", "FIELD_MAP", "B0", "B1", "FIELDMAP", "T1MAP", "T2MAP", "R1", "R2", "R2STAR", "MTSAT", "QSM", "VELOCITY", "FLOW_ENCODED", "PERFUSION", "CBF", "CBV", "MTT", "TTP", "TMAX",
        "KTRANS", "ASL", "BOLD", "TMAP", "SWI",
        # Of a Dixon series, everything except water and in phase: fat alone, or water minus fat.
        "FAT", "F", "FAT_FRACTION", "WATER_FRACTION", "OUT_OF_PHASE", "OUT_PHASE", "OPP_PHASE",
        "OPPOSED_PHASE", "OP",
    ]
)  # fmt: skip

FEWEST_NUMBERS = 3
"""Of image numbers, to tell that every second one is missing."""

RATIO_OF_IMAGES = frozenset({"UNI", "UNI-DEN", "UNIDEN"})  # MP2RAGE: two inversion images divided, noise in air

AI_IMAGE_TYPES = frozenset({"AI", "SUPERRES", "SYNTHETIC"})

NOT_OURS = frozenset({"E_OWN_OUTPUT", "E_NOT_MR"})
"""Codes of images that the node does not examine further."""


def not_own_output(stack: Stack) -> Predicate:
    # ContentQualification (0018,9004) RESEARCH proves nothing: scanners with a research licence write it into every
    # image.
    return expect(
        "not own output",
        "own" not in stack.marks,
        "The images are not a result of this node.",
        "E_OWN_OUTPUT",
        "The images are a result of this node that came back. They are kept and never processed again.",
        value="\\".join(stack.kind.image_type) or None,
    )


def is_mr(stack: Stack) -> Predicate:
    sop_class = stack.kind.sop_class
    return expect(
        "modality",
        stack.kind.modality == "MR" and sop_class in MR_SOP_CLASSES,
        "These are MR images.",
        "E_NOT_MR",
        "These are not MR images (MR Image Storage). The node does not examine them further.",
        value=f"{stack.kind.modality or 'no modality'}, SOP class {sop_class or 'missing'}",
        threshold="MR",
    )


def might_be_a_slice(stack: Stack) -> bool:
    """Whether images without a position may be slices that are missing elsewhere in their series. A raw-data object, a
    presentation state, a report, a screenshot or a map in the series of a T1 is none."""
    return not failures([is_mr(stack), _greyscale(stack.kind), *plain_images(stack)])


def _greyscale(kind: ImageKind) -> Predicate:
    return expect(
        "greyscale",
        kind.samples_per_pixel in {None, 1} and kind.photometric in {None, "MONOCHROME1", "MONOCHROME2"},
        "The images are greyscale.",
        "E_COLOUR",
        "These are colour images, such as a fused overlay or a report page.",
        value=kind.photometric,
        threshold="MONOCHROME1 or MONOCHROME2",
    )


def decodable(stack: Stack, series: Sequence[Stack], limits: StackLimits) -> list[Predicate]:
    kind, missing = stack.kind, stack.kind.missing
    enhanced = kind.sop_class in ENHANCED_SOP_CLASSES
    damaged = sum(len(s.sop_uids) for s in series if s.geometry is None and might_be_a_slice(s))
    largest = max(stack.rows or 0, stack.columns or 0)
    return [
        expect(
            "functional groups",
            kind.enhanced_frames or not enhanced,
            "The attributes of each frame are present.",
            "E_ENHANCED_NO_FUNCTIONAL_GROUPS",
            "This Enhanced MR instance has no per-frame functional groups, so the positions of its slices are unknown. "
            "Send it again from the scanner, or as classic MR images.",
        ),
        expect(
            "one slice per image",
            enhanced or kind.number_of_frames == 1,
            "Every slice is an image of its own.",
            "E_MULTIFRAME",
            "All slices are in one multi-frame instance that is not Enhanced MR, so their positions are unknown. Send "
            "the series as Enhanced MR or as classic (single-frame) MR images.",
            value=kind.number_of_frames,
            threshold=1,
        ),
        expect(
            "pixels",
            kind.has_pixels,
            "The images have pixels.",
            "E_NO_PIXELS",
            "The images are headers without pixels. Send the series again from the scanner.",
        ),
        expect(
            "attributes",
            not missing,
            "All required attributes are present.",
            "E_ATTRIBUTES_MISSING",
            f"Required attributes are missing or unusable: {', '.join(missing)}. Send the series again from the scanner.",
            value=", ".join(missing) or None,
        ),
        expect(
            "series undamaged",
            damaged == 0 or stack.geometry is None,
            "The positions of all images of the series are known.",
            "E_SERIES_DAMAGED",
            f"The series has {damaged} more images whose position is unknown, so this stack may be incomplete. Send "
            "the series again from the scanner.",
            value=damaged,
            threshold=0,
        ),
        _greyscale(kind),
        expect(
            "bits",
            kind.bits_allocated in {None, 8, 16},
            "The pixels have a number of bits that MR images use.",
            "E_PIXEL_FORMAT",
            "The pixels have a number of bits that MR images do not use.",
            value=kind.bits_allocated,
            threshold="8 or 16",
        ),
        expect(
            "matrix",
            largest <= limits.max_matrix,
            "The matrix is plausible.",
            "E_MATRIX_ABSURD",
            "The header claims a matrix that no scanner produces, so it is damaged.",
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
        "The images are marked as made by artificial intelligence. The node only accepts what a scanner measured.",
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
            "Each image shows one slice.",
            "E_MOSAIC",
            "The images are Siemens mosaics: many slices tiled in one image. Switch mosaic off in the protocol.",
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
            "The images are not a map, projection or reformat.",
            "E_COMPUTED_IMAGE",
            f"The images were computed from other images ({computed}). Send the series from which they were computed.",
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
            "Echo-planar images are distorted, so no reference matches them.",
            value="\\".join(physics.scanning_sequence) or None,
        ),
        expect(
            "not angiography",
            not physics.angiography,
            "The images are not an angiography.",
            "E_ANGIOGRAPHY",
            "Angiography shows flow, not tissue. The model was not made for it.",
        ),
        expect(
            "nothing burned in",
            "burned-in" not in stack.marks,
            "No text is declared as burned into the pixels.",
            "E_BURNED_IN",
            "Text is burned into the pixels. Super-resolution would alter it.",
        ),
    ]


def provenance(stack: Stack, series: Sequence[Stack], settings: MatchSettings) -> list[Predicate]:
    mr = [s for s in series if not is_mr(s).code]
    received = len({image for s in mr for image in zip(s.sop_uids, s.frames, strict=True)})
    announced = stack.images_announced or received
    numbers = sorted({number for s in mr for number in s.instance_numbers if number is not None})
    halved = len(numbers) >= FEWEST_NUMBERS and {later - before for before, later in pairwise(numbers)} == {2}
    accepted = settings.lossy == "accept"
    return [
        expect(
            "original",
            stack.kind.image_type[:1] != ("DERIVED",),
            "The images are as the scanner reconstructed them.",
            "W_DERIVED",
            "The images are marked DERIVED: processed after reconstruction.",
            value="\\".join(stack.kind.image_type) or None,
        ),
        expect(
            "not a ratio of images",
            not RATIO_OF_IMAGES & set(stack.kind.image_type),
            "The images are not a ratio of two others.",
            "W_RATIO_IMAGE",
            "The images are a ratio of two others (MP2RAGE UNI): air is noise as bright as tissue.",
            value="\\".join(stack.kind.image_type) or None,
        ),
        expect(
            "reconstructed without a network",
            stack.network is None,
            "The headers name no network of the vendor's reconstruction.",
            "E_DEEP_LEARNING" if settings.deep_learning == "refuse" else "W_DEEP_LEARNING",
            f"A network took part in the reconstruction ({stack.network}): some detail is not measured.",
            value=stack.network,
        ),
        expect(
            "lossless",
            "lossy" not in stack.marks,
            "The images were never compressed with loss.",
            "W_LOSSY" if accepted else "E_LOSSY",
            "The images were once compressed with loss; the result keeps that loss."
            if accepted
            else "The images were once compressed with loss. The model would turn compression artefacts into detail.",
        ),
        expect(
            "as many as announced",
            received >= announced,
            "No image that the scanner announced is missing.",
            "W_FEWER_THAN_ANNOUNCED",
            f"{received} images were received of {announced} that the scanner announced.",
            value=received,
            threshold=announced,
        ),
        expect(
            "numbered without a gap",
            not halved,
            "The images are not every second one of their series.",
            "W_EVERY_SECOND_IMAGE",
            f"Only images with {'odd' if numbers[:1] and numbers[0] % 2 else 'even'} numbers were received ({len(numbers)} of "
            "them): they may be one half of an interleaved series.",
            value=len(numbers),
        ),
    ]
