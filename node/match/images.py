"""The header of one image as a typed record: its kind, how its contrast was made, its geometry.

Nothing here raises: an attribute that is missing or damaged reads as None. Units are those of DICOM: millimetres,
milliseconds, degrees; a spacing is (between rows, between columns) as PixelSpacing (0028,0030).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.tag import Tag

from node.config.site_rules import SiteRule
from node.dicom.acquisition import AcquisitionHeader, acquisition_header
from node.dicom.attributes import Attributes, Header
from node.dicom.frames import compressed_with_loss, frame_number, images_of
from node.dicom.geometry import is_orientation
from node.dicom.read import has_pixels
from node.identity import is_ours
from node.match.agent import agent_of
from node.match.patient import PatientRecord, patient_record
from node.match.reconstruction import image_type, network_of
from node.match.site import rules_of

# Where scanners write the b-value besides DiffusionBValue (0018,9087), in s/mm2.
PRIVATE_B_VALUES = (
    ("SIEMENS MR HEADER", 0x0019, 0x0C),
    ("Philips Imaging DD 001", 0x2001, 0x03),
    ("GEMS_PARM_01", 0x0043, 0x39),
)
GE_B_VALUE_OFFSET = 1e9  # added by some GE software

GE_PULSE_SEQUENCE = (Tag(0x0019, 0x109E), "GEMS_ACQU_01")
"""Name of the pulse sequence; SequenceName (0018,0024) is empty there."""

MAGNETIZATION_TRANSFER = frozenset({"MT", "MTC", "MT_GEMS", "MTC_GEMS"})
"""Values of ScanOptions with which vendors say what SequenceVariant MTC says."""

WATER = frozenset({"WATER", "W"})  # ImageType of Siemens and GE, and of Philips

PIXEL_KEYWORDS = ("BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")
UID_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True)
class ImageKind:
    """The kind of an image: what it shows, and how it is stored."""

    sop_class: str | None
    modality: str | None
    enhanced_frames: bool
    """Read from the functional groups of an Enhanced MR instance."""
    number_of_frames: int
    image_type: tuple[str, ...]
    complex_component: str | None
    gradient_directions: str | None
    has_pixels: bool
    calculation: str | None
    """VolumeBasedCalculationTechnique (0008,9207), such as MPR."""
    samples_per_pixel: int | None
    bits_allocated: int | None
    photometric: str | None
    missing: tuple[str, ...]
    """Keywords of missing attributes that are needed to find, stack or decode images."""


@dataclass(frozen=True)
class Physics:
    """How the contrast was made. None or empty where the header says nothing."""

    te_ms: float | None
    tr_ms: float | None
    ti_ms: float | None
    flip_deg: float | None
    echo_train_length: int | None
    scanning_sequence: tuple[str, ...]
    sequence_variant: tuple[str, ...]
    scan_options: tuple[str, ...]
    acquisition_contrast: str | None
    fat_suppression: str | None
    water_alone: bool
    """The water image of a Dixon series: fat is as dark as with fat suppression."""
    inversion_recovery: bool
    gradient_echo: bool
    echo_planar: bool
    angiography: bool
    three_dimensional: bool
    """Phase-encoded across the slices too (MRAcquisitionType 3D)."""
    magnetization_transfer: bool
    sequence_name: str
    """In upper case: what Siemens and GE call the pulse sequence; "" where the header does not say."""
    field_echo: bool
    """A gradient echo of Philips (FFE). Its classic headers say SS for every one, spoiled or not."""
    phase_encodings: int | None
    """Acquired lines along the phase encoding."""


@dataclass(frozen=True)
class StackKey:
    """Attributes that are exactly equal in every image of a stack."""

    study_uid: str | None
    series_uid: str | None
    kind: ImageKind
    rows: int | None
    columns: int | None
    frame_of_reference_uid: str | None
    echo_number: int | None
    temporal_position: int | None
    b_value: float | None
    stack_id: str | None


@dataclass(frozen=True)
class ImageHeader:
    sop_uid: str | None
    frame: int | None
    key: StackKey
    physics: Physics
    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slice_thickness: float | None
    spacing_between_slices: float | None
    acquisition: AcquisitionHeader
    marks: tuple[str, ...]
    agent: str | None
    network: str | None
    patient: PatientRecord
    rules: frozenset[str]
    instance_number: int | None
    series_number: int | None
    description: str | None
    images_announced: int | None
    acquired_at: str


def image_headers(header: Header, rules: Sequence[SiteRule]) -> Iterator[ImageHeader]:
    for image in images_of(header):
        attributes = Attributes(image)
        yield _image(frame_number(image), attributes, has_pixels(header), rules_of(attributes, rules))


def _image(frame: int | None, a: Attributes, pixels: bool, rules: frozenset[str]) -> ImageHeader:
    rows, columns = a.count("Rows"), a.count("Columns")
    orientation, position, spacing = _orientation(a), a.vector("ImagePositionPatient", 3), a.vector("PixelSpacing", 2)
    if spacing and min(spacing) <= 0:
        spacing = None
    usable = {
        "Rows": rows,
        "Columns": columns,
        "ImageOrientationPatient": orientation,
        "ImagePositionPatient": position,
        "PixelSpacing": spacing,
        **{keyword: a.uid(keyword) for keyword in UID_KEYWORDS},
        **{keyword: a.text(keyword) for keyword in PIXEL_KEYWORDS},
    }
    missing = tuple(keyword for keyword, value in usable.items() if not value)
    key = StackKey(
        study_uid=a.uid("StudyInstanceUID"),
        series_uid=a.uid("SeriesInstanceUID"),
        kind=_kind(frame, a, pixels, missing),
        rows=rows,
        columns=columns,
        frame_of_reference_uid=a.uid("FrameOfReferenceUID"),
        echo_number=a.integer("EchoNumbers"),
        temporal_position=a.integer("TemporalPositionIdentifier"),
        b_value=_b_value(a),
        stack_id=a.text("StackID"),
    )
    return ImageHeader(
        sop_uid=a.uid("SOPInstanceUID"),
        frame=frame,
        key=key,
        physics=_physics(a),
        orientation=orientation,
        position=position,
        spacing=spacing,
        slice_thickness=a.number("SliceThickness"),
        spacing_between_slices=a.number("SpacingBetweenSlices"),
        acquisition=acquisition_header(a),
        marks=_marks(a),
        agent=agent_of(a),
        network=network_of(a),
        patient=patient_record(a),
        rules=rules,
        instance_number=a.integer("InstanceNumber"),
        series_number=a.integer("SeriesNumber"),
        description=" ".join(a.texts("SeriesDescription")) or None,
        images_announced=a.integer("ImagesInAcquisition"),
        acquired_at=_acquired_at(a),
    )


def _kind(frame: int | None, a: Attributes, pixels: bool, missing: tuple[str, ...]) -> ImageKind:
    # GE writes into a private element what ImageType does not contain: 0 magnitude, 1 phase, 2 real, 3 imaginary.
    ge_component = a.private_number("GEMS_PARM_01", 0x0043, 0x2F)
    component = {1: "PHASE", 2: "REAL", 3: "IMAGINARY"}.get(int(ge_component or 0))
    return ImageKind(
        sop_class=a.uid("SOPClassUID"),
        modality=_first(a.code("Modality")),
        enhanced_frames=frame is not None,
        number_of_frames=a.integer("NumberOfFrames") or 1,
        image_type=image_type(a),
        complex_component=_first(a.code("ComplexImageComponent")) or component,
        gradient_directions=_first(a.code("DiffusionDirectionality")),
        has_pixels=pixels,
        calculation=_first(a.code("VolumeBasedCalculationTechnique")),
        samples_per_pixel=a.integer("SamplesPerPixel"),
        bits_allocated=a.integer("BitsAllocated"),
        photometric=_first(a.code("PhotometricInterpretation")),
        missing=missing,
    )


def _physics(a: Attributes) -> Physics:
    scanning_sequence = a.code("ScanningSequence")
    sequence_variant = a.code("SequenceVariant")
    return Physics(
        te_ms=a.number("EchoTime"),
        tr_ms=a.number("RepetitionTime"),
        ti_ms=a.number("InversionTime"),
        flip_deg=a.number("FlipAngle"),
        echo_train_length=a.integer("EchoTrainLength"),
        scanning_sequence=scanning_sequence,
        sequence_variant=sequence_variant,
        scan_options=a.code("ScanOptions"),
        acquisition_contrast=_first(a.code("AcquisitionContrast")),
        fat_suppression=_first(a.code("SpectrallySelectedSuppression")),
        water_alone=bool(WATER & set(a.code("ImageType")[2:])),
        inversion_recovery="IR" in scanning_sequence,
        gradient_echo="GR" in scanning_sequence,
        echo_planar="EP" in scanning_sequence,
        angiography=a.code("AngioFlag") == ("Y",) or "TOF" in sequence_variant,
        three_dimensional=a.code("MRAcquisitionType") == ("3D",),
        magnetization_transfer="MTC" in sequence_variant or bool(MAGNETIZATION_TRANSFER & set(a.code("ScanOptions"))),
        sequence_name=" ".join((*a.texts("SequenceName"), *a.values_at(*GE_PULSE_SEQUENCE))).upper(),
        field_echo=any("FFE" in re.split(r"[_ ]", token) for token in a.code("ImageType")),
        phase_encodings=_phase_encodings(a),
    )


def _orientation(a: Attributes) -> tuple[float, ...] | None:
    cosines = a.vector("ImageOrientationPatient", 6)
    return cosines if cosines is not None and is_orientation(cosines) else None


def _phase_encodings(a: Attributes) -> int | None:
    matrix = a.vector("AcquisitionMatrix", 4)
    lines = 0 if matrix is None else int(matrix[2] or matrix[3])
    return a.count("NumberOfPhaseEncodingSteps") or (lines if lines > 0 else None)


def _marks(a: Attributes) -> tuple[str, ...]:
    ai_derived = any(item.text("CodeValue") == "123110" for item in a.items("DerivationCodeSequence"))
    present = {
        "burned-in": a.code("BurnedInAnnotation") == ("YES",),
        "synthetic": a.code("SyntheticData") == ("YES",),
        "ai": ai_derived,
        "own": is_ours(a.dataset),
        "lossy": compressed_with_loss(a.dataset),
    }
    return tuple(mark for mark, said in present.items() if said)


def _b_value(a: Attributes) -> float | None:
    standard = a.number("DiffusionBValue")
    private = (a.private_number(creator, group, element) for creator, group, element in PRIVATE_B_VALUES)
    found = standard if standard is not None else next((b for b in private if b is not None), None)
    return None if found is None else found % GE_B_VALUE_OFFSET


def _acquired_at(a: Attributes) -> str:
    moment = a.text("AcquisitionDateTime")
    if moment is None:
        date = a.text("AcquisitionDate", "SeriesDate", "StudyDate") or ""
        moment = date + (a.text("AcquisitionTime", "SeriesTime") or "")
    return moment


def _first(values: tuple[str, ...]) -> str | None:
    return next(iter(values), None)
