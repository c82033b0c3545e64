"""From headers to stacks: the slices of one series that belong together in space and in contrast.

A stack is what the node super-resolves or takes as reference. A series can hold several: the echoes of a dual-echo
scan, the time points of a dynamic one, the planes of a localizer. Units are those of DICOM: millimetres, milliseconds,
degrees; a spacing is (between rows, between columns) as PixelSpacing (0028,0030).
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from node.config.site_rules import SiteRule
from node.dicom.attributes import Attributes, Header
from node.dicom.frames import compressed_with_loss, frame_number, images_of
from node.dicom.read import has_pixels
from node.identity import MANUFACTURER
from node.match.predicates import printable
from node.match.site import rules_of

Vector = npt.NDArray[np.float64]

# Images of one stack share these to within the scanner's rounding: GE writes direction cosines that differ in the
# ninth decimal, anonymisers cut to four.
SAME_DIRECTION = 2e-3  # 0.1 degrees
SAME_SPACING = 1e-3  # relative
SAME_ECHO_MS = 0.5

UNIT_TOLERANCE = 1e-2  # direction cosines further from orthonormal are not an orientation

# Where scanners write the b-value besides DiffusionBValue (0018,9087), in s/mm2.
PRIVATE_B_VALUES = (
    ("SIEMENS MR HEADER", 0x0019, 0x0C),
    ("Philips Imaging DD 001", 0x2001, 0x03),
    ("GEMS_PARM_01", 0x0043, 0x39),
)
GE_B_VALUE_OFFSET = 1e9  # added by some GE software

WATER = frozenset({"WATER", "W"})  # ImageType of Siemens and GE, and of Philips

PIXEL_KEYWORDS = ("BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")
UID_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True)
class Kind:
    """What sort of images these are."""

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
    """Keywords of attributes without which images cannot be found, stacked or decoded."""


@dataclass(frozen=True)
class Physics:
    """How the contrast was made. None or empty where the header does not say."""

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
    """The water image of a Dixon series: fat is as dark as where it was suppressed."""
    inversion_recovery: bool
    gradient_echo: bool
    echo_planar: bool
    angiography: bool
    three_dimensional: bool
    """Phase-encoded across the slices too (MRAcquisitionType 3D)."""


@dataclass(frozen=True)
class Geometry:
    """Where the slices lie in the patient (PS3.3, C.7.6.2.1.1)."""

    orientation: tuple[float, ...]
    """Direction cosines: along a row, then along a column."""
    positions: tuple[tuple[float, ...], ...]
    """Centre of the first pixel of each slice, along the normal."""
    spacing: tuple[float, float]
    rows: int
    columns: int
    slice_thickness: float | None
    spacing_between_slices: float | None

    @cached_property
    def normal(self) -> Vector:
        return unit_normal(self.orientation)

    @cached_property
    def depths(self) -> Vector:
        """Distance of each slice along the normal, in mm."""
        return np.asarray(self.positions) @ self.normal

    @cached_property
    def steps(self) -> Vector:
        """Distance of each slice from the one before, in mm."""
        return np.diff(self.depths)

    @property
    def step(self) -> float | None:
        """The usual distance between slices, in mm; None of a single slice."""
        return float(np.median(self.steps)) if len(self.steps) else None

    @property
    def voxel(self) -> tuple[float, float, float]:
        """Extent in mm along a column, along a row and across the slices: there the larger of slice thickness and
        distance, since a gap shows nothing and an overlap nothing new."""
        return *self.spacing, max(self.slice_thickness or 0.0, self.step or 0.0)

    def at(self, row: npt.ArrayLike, column: npt.ArrayLike) -> Vector:
        """Patient coordinates of pixel indices, of every slice: shape (slices, *indices, 3)."""
        along_row, along_column = np.reshape(self.orientation, (2, 3))
        offset = np.multiply.outer(np.asarray(column) * self.spacing[1], along_row)
        offset = offset + np.multiply.outer(np.asarray(row) * self.spacing[0], along_column)
        origins = np.asarray(self.positions)
        return np.asarray(origins.reshape(len(origins), *[1] * (offset.ndim - 1), 3) + offset)

    def pixel_of(self, points: Vector) -> tuple[Vector, Vector]:
        """(row, column) indices, in fractions, of patient coordinates projected onto the first slice."""
        along_row, along_column = np.reshape(self.orientation, (2, 3))
        offset = points - np.asarray(self.positions[0])
        return offset @ along_column / self.spacing[0], offset @ along_row / self.spacing[1]


@dataclass(frozen=True)
class Stack:
    """The slices of one series that belong together, in order along the slice normal."""

    study_uid: str
    series_uid: str
    label: str
    """What a technologist calls it: "series 3, echo 2"; unique in its study."""
    sop_uids: tuple[str, ...]
    frames: tuple[int | None, ...]
    kind: Kind
    physics: Physics
    geometry: Geometry | None
    """None when an attribute in `kind.missing` is needed for it."""
    rows: int | None
    columns: int | None
    acquired_matrix: tuple[int, int] | None
    """Acquired (rows, columns), never more than stored; None when the header does not say."""
    frame_of_reference_uid: str | None
    patient_key: str
    """A digest that is equal for images of one patient; not for display."""
    marks: frozenset[str]
    """Of: "burned-in", "own", "synthetic", "ai", "lossy", "contrast agent"; set when any of the slices says so."""
    rules_somewhere: frozenset[str]
    """Names of the site's rules that hold for a slice at least."""
    rules_everywhere: frozenset[str]
    """Names of the site's rules that hold for every slice."""
    echo_number: int | None
    temporal_position: int | None
    b_value: float | None
    stack_id: str | None
    """Name of the stack in an Enhanced MR instance."""
    series_number: int | None
    description: str | None
    images_announced: int | None
    acquired_at: str
    """Start of the acquisition as digits that sort, or ""; not for display."""

    def interpolation(self) -> float | None:
        """Stored over acquired pixels along the axis where this is largest; 1 is not interpolated."""
        if self.acquired_matrix is None or not self.rows or not self.columns:
            return None
        return max(self.rows / self.acquired_matrix[0], self.columns / self.acquired_matrix[1])

    def measured_matrix(self, max_interpolation: float) -> tuple[int, int] | None:
        """The (rows, columns) to crop k-space to; None when it was not interpolated beyond the given ratio."""
        ratio = self.interpolation()
        return self.acquired_matrix if ratio is not None and ratio > max_interpolation else None


def unit_normal(orientation: tuple[float, ...]) -> Vector:
    """The slice normal of direction cosines: rows cross columns, of length 1."""
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal))


def angle_between(a: Geometry, b: Geometry) -> float:
    """Degrees between two slice normals, 0 to 90: a stack numbered from the other end is parallel all the same."""
    # atan2 keeps its accuracy near 0, where acos of a rounded cosine has none.
    sine, cosine = np.linalg.norm(np.cross(a.normal, b.normal)), abs(float(a.normal @ b.normal))
    return float(np.degrees(np.arctan2(sine, cosine)))


def stacks_of(headers: Iterable[Header], rules: Sequence[SiteRule] = ()) -> list[Stack]:
    """Every stack of the headers, by series number, with the names of the site's rules that hold for it. The order of
    the headers makes no difference, and an instance that comes twice counts once; no header raises."""
    images = sorted({image for header in headers for image in _images(header, rules)}, key=_image_order)
    once = {(image.sop_uid or number, image.frame): image for number, image in reversed(list(enumerate(images)))}
    drafts = [_stack(members) for members in _together(sorted(once.values(), key=_image_order))]
    drafts.sort(key=_stack_order)
    return [replace(stack, label=label) for stack, label in zip(drafts, _labels(drafts), strict=True)]


@dataclass(frozen=True)
class _Shared:
    """What every image of a stack has exactly in common."""

    study_uid: str | None
    series_uid: str | None
    kind: Kind
    rows: int | None
    columns: int | None
    frame_of_reference_uid: str | None
    patient_key: str
    echo_number: int | None
    temporal_position: int | None
    b_value: float | None
    stack_id: str | None


@dataclass(frozen=True)
class _Image:
    sop_uid: str | None
    frame: int | None
    shared: _Shared
    physics: Physics
    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slice_thickness: float | None
    spacing_between_slices: float | None
    acquired_matrix: tuple[int, int] | None
    marks: tuple[str, ...]
    rules: frozenset[str]
    instance_number: int | None
    series_number: int | None
    description: str | None
    images_announced: int | None
    acquired_at: str


def _images(header: Header, rules: Sequence[SiteRule]) -> Iterator[_Image]:
    for image in images_of(header):
        attributes = Attributes(image)
        yield _image(frame_number(image), attributes, has_pixels(header), rules_of(attributes, rules))


def _image(frame: int | None, a: Attributes, pixels: bool, rules: frozenset[str]) -> _Image:
    rows, columns = _count(a, "Rows"), _count(a, "Columns")
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
    shared = _Shared(
        study_uid=a.uid("StudyInstanceUID"),
        series_uid=a.uid("SeriesInstanceUID"),
        kind=_kind(frame, a, pixels, missing),
        rows=rows,
        columns=columns,
        frame_of_reference_uid=a.uid("FrameOfReferenceUID"),
        patient_key=_patient_key(a),
        echo_number=a.integer("EchoNumbers"),
        temporal_position=a.integer("TemporalPositionIdentifier"),
        b_value=_b_value(a),
        stack_id=a.text("StackID"),
    )
    return _Image(
        sop_uid=a.uid("SOPInstanceUID"),
        frame=frame,
        shared=shared,
        physics=_physics(a),
        orientation=orientation,
        position=position,
        spacing=spacing,
        slice_thickness=a.number("SliceThickness"),
        spacing_between_slices=a.number("SpacingBetweenSlices"),
        acquired_matrix=_acquired_matrix(a, rows, columns),
        marks=_marks(a),
        rules=rules,
        instance_number=a.integer("InstanceNumber"),
        series_number=a.integer("SeriesNumber"),
        description=a.text("SeriesDescription"),
        images_announced=a.integer("ImagesInAcquisition"),
        acquired_at=_acquired_at(a),
    )


def _kind(frame: int | None, a: Attributes, pixels: bool, missing: tuple[str, ...]) -> Kind:
    # GE says in a private element what ImageType does not: 0 magnitude, 1 phase, 2 real, 3 imaginary.
    ge_component = a.private_number("GEMS_PARM_01", 0x0043, 0x2F)
    component = {1: "PHASE", 2: "REAL", 3: "IMAGINARY"}.get(int(ge_component or 0))
    return Kind(
        sop_class=a.uid("SOPClassUID"),
        modality=_first(a.code("Modality")),
        enhanced_frames=frame is not None,
        number_of_frames=a.integer("NumberOfFrames") or 1,
        image_type=a.code("ImageType"),
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
    )


def _orientation(a: Attributes) -> tuple[float, ...] | None:
    cosines = a.vector("ImageOrientationPatient", 6)
    if cosines is None:
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers overflow, and are then not orthonormal
        gram = np.reshape(cosines, (2, 3)) @ np.reshape(cosines, (2, 3)).T
    return cosines if np.allclose(gram, np.eye(2), atol=UNIT_TOLERANCE) else None


def _acquired_matrix(a: Attributes, rows: int | None, columns: int | None) -> tuple[int, int] | None:
    """Acquired (rows, columns), from AcquisitionMatrix (0018,1310), which is frequency rows, frequency columns, phase
    rows, phase columns.

    GE and Siemens write 0, f, p, 0 whatever the direction, so the direction comes from InPlanePhaseEncodingDirection
    (ROW: phase encoding runs along a row, that is over the columns) where it is there.
    """
    matrix = a.vector("AcquisitionMatrix", 4)
    if matrix is None or not rows or not columns:
        return None
    frequency, phase = matrix[0] or matrix[1], matrix[2] or matrix[3]
    phase_along = _first(a.code("InPlanePhaseEncodingDirection")) or ("COL" if matrix[2] else "ROW")
    if frequency < 1 or phase < 1 or phase_along not in {"ROW", "COL"}:
        return None
    acquired_rows, acquired_columns = (frequency, phase) if phase_along == "ROW" else (phase, frequency)
    return min(int(acquired_rows), rows), min(int(acquired_columns), columns)


def _marks(a: Attributes) -> tuple[str, ...]:
    ai_derived = any(item.text("CodeValue") == "123110" for item in a.items("DerivationCodeSequence"))
    agent = (a.text("ContrastBolusAgent") or "").upper()
    present = {
        "burned-in": a.code("BurnedInAnnotation") == ("YES",),
        "synthetic": a.code("SyntheticData") == ("YES",),
        "ai": ai_derived,
        "own": MANUFACTURER in a.texts("Manufacturer"),
        "lossy": compressed_with_loss(a.dataset),
        # Scanners and technologists write that there was none in several ways.
        "contrast agent": bool(a.items("ContrastBolusAgentSequence")) or agent not in {"", "NO", "NONE", "N"},
    }
    return tuple(mark for mark, said in present.items() if said)


def _b_value(a: Attributes) -> float | None:
    standard = a.number("DiffusionBValue")
    private = (a.private_number(creator, group, element) for creator, group, element in PRIVATE_B_VALUES)
    found = standard if standard is not None else next((b for b in private if b is not None), None)
    return None if found is None else found % GE_B_VALUE_OFFSET


def _patient_key(a: Attributes) -> str:
    identity = [(a.text(k) or "").upper() for k in ("PatientID", "IssuerOfPatientID", "PatientBirthDate")]
    return hashlib.sha256("\\".join(identity).encode(errors="replace")).hexdigest()


def _acquired_at(a: Attributes) -> str:
    moment = a.text("AcquisitionDateTime")
    if moment is None:
        date = a.text("AcquisitionDate", "SeriesDate", "StudyDate") or ""
        moment = date + (a.text("AcquisitionTime", "SeriesTime") or "")
    return moment


def _count(a: Attributes, keyword: str) -> int | None:
    number = a.integer(keyword)
    return number if number and number > 0 else None


def _first(values: tuple[str, ...]) -> str | None:
    return next(iter(values), None)


def _image_order(image: _Image) -> tuple[str, int, str]:
    return image.sop_uid or "", image.frame or 0, repr(image)


def _together(images: list[_Image]) -> Iterator[list[_Image]]:
    """The images in groups that make one stack each."""
    exact: dict[_Shared, list[_Image]] = defaultdict(list)
    for image in images:
        exact[image.shared].append(image)
    for candidates in exact.values():
        groups: list[list[_Image]] = []
        for image in candidates:
            group = next((g for g in groups if _alike(g[0], image)), None)
            if group is None:
                groups.append([image])
            else:
                group.append(image)
        yield from groups


def _alike(a: _Image, b: _Image) -> bool:
    return (
        _near(a.orientation, b.orientation, SAME_DIRECTION)
        and _near(a.spacing, b.spacing, SAME_SPACING * (a.spacing or (1.0,))[0])
        and _near(_tuple(a.physics.te_ms), _tuple(b.physics.te_ms), SAME_ECHO_MS)
    )


def _near(a: tuple[float, ...] | None, b: tuple[float, ...] | None, tolerance: float) -> bool:
    if a is None or b is None:
        return a is b
    return all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


def _tuple(value: float | None) -> tuple[float, ...] | None:
    return None if value is None else (value,)


def _stack(images: list[_Image]) -> Stack:
    shared, orientation = images[0].shared, images[0].orientation
    normal = None if orientation is None else unit_normal(orientation)

    def place(image: _Image) -> tuple[float, int, str, int]:
        known = normal is not None and image.position is not None
        depth = float(np.asarray(image.position) @ normal) if known else 0.0
        return depth, image.instance_number or 0, image.sop_uid or "", image.frame or 0

    images = sorted(images, key=place)
    first = images[0]
    return Stack(
        study_uid=shared.study_uid or "",
        series_uid=shared.series_uid or "",
        label="",
        sop_uids=tuple(image.sop_uid or "" for image in images),
        frames=tuple(image.frame for image in images),
        kind=shared.kind,
        physics=first.physics,
        geometry=_geometry(images),
        rows=shared.rows,
        columns=shared.columns,
        acquired_matrix=first.acquired_matrix,
        frame_of_reference_uid=shared.frame_of_reference_uid,
        patient_key=shared.patient_key,
        marks=frozenset(mark for image in images for mark in image.marks),
        rules_somewhere=frozenset.union(*(image.rules for image in images)),
        rules_everywhere=frozenset.intersection(*(image.rules for image in images)),
        echo_number=shared.echo_number,
        temporal_position=shared.temporal_position,
        b_value=shared.b_value,
        stack_id=shared.stack_id,
        series_number=first.series_number,
        description=first.description,
        images_announced=max((image.images_announced or 0 for image in images), default=0) or None,
        acquired_at=min(image.acquired_at for image in images),
    )


def _geometry(images: list[_Image]) -> Geometry | None:
    first = images[0]
    rows, columns = first.shared.rows or 0, first.shared.columns or 0
    positions = tuple(image.position for image in images if image.position is not None)
    if first.orientation is None or first.spacing is None or len(positions) < len(images) or not (rows and columns):
        return None
    return Geometry(
        orientation=first.orientation,
        positions=positions,
        spacing=(first.spacing[0], first.spacing[1]),
        rows=rows,
        columns=columns,
        slice_thickness=first.slice_thickness,
        spacing_between_slices=first.spacing_between_slices,
    )


def _stack_order(stack: Stack) -> tuple[object, ...]:
    unnumbered = stack.series_number is None
    numbers = (stack.series_number, stack.echo_number, stack.physics.te_ms, stack.temporal_position, stack.b_value)
    return unnumbered, numbers[0] or 0, stack.series_uid, *(n or 0 for n in numbers[1:]), stack.sop_uids, stack.frames


def _labels(stacks: list[Stack]) -> list[str]:
    """A name for each stack: the number of its series, and what sets it apart from the others of that series."""
    series: dict[str, list[Stack]] = defaultdict(list)
    for stack in stacks:
        series[stack.series_uid].append(stack)
    names = [", ".join([_series_name(stack), *_particulars(stack, series[stack.series_uid])]) for stack in stacks]
    counts, seen = Counter(names), Counter[str]()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(name if counts[name] == 1 else f"{name}, stack {seen[name]}")
    return labels


def _series_name(stack: Stack) -> str:
    return "series without number" if stack.series_number is None else f"series {stack.series_number}"


def _particulars(stack: Stack, siblings: list[Stack]) -> list[str]:
    facts = [
        [
            "" if s.echo_number is None else f"echo {s.echo_number}",
            "" if s.physics.te_ms is None else f"TE {s.physics.te_ms:g} ms",
            "" if s.temporal_position is None else f"time point {s.temporal_position}",
            "" if s.b_value is None else f"b-value {s.b_value:g}",
            "" if s.stack_id is None else f"stack ID {printable(s.stack_id)}",
            f"{s.rows or '?'} x {s.columns or '?'} pixels",
        ]
        for s in (stack, *siblings)
    ]
    mine, *_ = facts
    return [mine[i] for i in range(len(mine)) if mine[i] and len({fact[i] for fact in facts}) > 1]
