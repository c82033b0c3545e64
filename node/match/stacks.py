"""From images to stacks: the slices of one series that belong together in space and in contrast.

A stack is what the node super-resolves or takes as reference. A series can hold several: the echoes of a dual-echo
scan, the time points of a dynamic scan, the planes of a localizer. Units are those of DICOM, as in `images.py`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom.uid import UID, MRImageStorage

from node.config.site_rules import SiteRule
from node.dicom.acquisition import AcquisitionHeader, agreed
from node.dicom.attributes import Header
from node.dicom.frames import ENHANCED_SOP_CLASSES
from node.dicom.geometry import StackGeometry, normal_of
from node.match.images import ImageHeader, ImageKind, Physics, StackKey, image_headers
from node.match.patient import PatientRecord
from node.match.predicates import printable

# Images of one stack share these to within the scanner's rounding: GE writes direction cosines that differ in the
# ninth decimal, anonymisers cut to four.
SAME_DIRECTION = 2e-3  # 0.1 degrees
SAME_SPACING = 1e-3  # relative
SAME_ECHO_MS = 0.5

MR_SOP_CLASSES = frozenset({MRImageStorage, *ENHANCED_SOP_CLASSES})


@dataclass(frozen=True)
class Stack:
    """The slices of one series that belong together, sorted along the slice normal."""

    study_uid: str
    series_uid: str
    label: str
    """Such as "series 3, echo 2", the words of a technologist; unique in its study."""
    sop_uids: tuple[str, ...]
    frames: tuple[int | None, ...]
    kind: ImageKind
    physics: Physics
    geometry: StackGeometry | None
    """None when an attribute that it needs is in `kind.missing`."""
    rows: int | None
    columns: int | None
    acquisition: AcquisitionHeader
    """What the headers of all its images say alike."""
    frame_of_reference_uid: str | None
    patients: frozenset[PatientRecord]
    """Of its slices: one, unless the record was changed while the series was sent."""
    marks: frozenset[str]
    """Of: "burned-in", "own", "synthetic", "ai", "lossy". Set when the header of any slice says so."""
    agent: str | None
    """What says that a contrast agent was given; None when nothing does."""
    network: str | None
    """The network of the vendor that took part in the reconstruction; None when the headers name none."""
    rules_somewhere: frozenset[str]
    """Names of the site's rules that hold for at least one slice."""
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
    instance_numbers: tuple[int | None, ...]
    acquired_at: str
    """Start of the acquisition as digits that sort chronologically, or ""; not for display."""

    @property
    def acquired_matrix(self) -> tuple[int, int] | None:
        """Acquired (rows, columns), never more than stored; None when the header does not say."""
        return self.acquisition.both

    def interpolation(self) -> float | None:
        """Stored over acquired pixels, along the axis where the ratio is larger; 1 means not interpolated."""
        if self.acquired_matrix is None or not self.rows or not self.columns:
            return None
        return max(self.rows / self.acquired_matrix[0], self.columns / self.acquired_matrix[1])

    def measured_matrix(self, max_interpolation: float) -> tuple[int, int] | None:
        """The acquired (rows, columns), when the scanner interpolated the stack beyond the given ratio."""
        ratio = self.interpolation()
        return self.acquired_matrix if ratio is not None and ratio > max_interpolation else None


def stacks_of(headers: Iterable[Header], rules: Sequence[SiteRule] = ()) -> list[Stack]:
    """Every stack of the headers, by series number, with the names of the site's rules that hold for it. The order of
    the headers makes no difference, and an instance that is there twice counts once. No header raises."""
    images = sorted({image for header in headers for image in image_headers(header, rules)}, key=_image_order)
    once = {(image.sop_uid or number, image.frame): image for number, image in reversed(list(enumerate(images)))}
    drafts = [_stack(members) for members in _together(sorted(once.values(), key=_image_order))]
    drafts.sort(key=_stack_order)
    return [replace(stack, label=label) for stack, label in zip(drafts, _labels(drafts), strict=True)]


def _image_order(image: ImageHeader) -> tuple[str, int, str, tuple[str, ...]]:
    return image.sop_uid or "", image.frame or 0, repr(image), image.patient.order


def _together(images: list[ImageHeader]) -> Iterator[list[ImageHeader]]:
    """The images in groups, each of which makes one stack."""
    exact: dict[StackKey, list[ImageHeader]] = defaultdict(list)
    for image in images:
        exact[image.key].append(image)
    for candidates in exact.values():
        groups: list[list[ImageHeader]] = []
        for image in candidates:
            group = next((g for g in groups if _alike(g[0], image)), None)
            if group is None:
                groups.append([image])
            else:
                group.append(image)
        yield from groups


def _alike(a: ImageHeader, b: ImageHeader) -> bool:
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


def _stack(images: list[ImageHeader]) -> Stack:
    key, orientation = images[0].key, images[0].orientation
    normal = None if orientation is None else normal_of(orientation)

    def place(image: ImageHeader) -> tuple[float, int, str, int]:
        known = normal is not None and image.position is not None
        depth = float(np.asarray(image.position) @ normal) if known else 0.0
        return depth, image.instance_number or 0, image.sop_uid or "", image.frame or 0

    images = sorted(images, key=place)
    first = images[0]
    return Stack(
        study_uid=key.study_uid or "",
        series_uid=key.series_uid or "",
        label="",
        sop_uids=tuple(image.sop_uid or "" for image in images),
        frames=tuple(image.frame for image in images),
        kind=key.kind,
        physics=first.physics,
        geometry=_geometry(images),
        rows=key.rows,
        columns=key.columns,
        acquisition=agreed([image.acquisition for image in images]),
        frame_of_reference_uid=key.frame_of_reference_uid,
        patients=frozenset(image.patient for image in images),
        marks=frozenset(mark for image in images for mark in image.marks),
        agent=next((image.agent for image in images if image.agent), None),
        network=next((image.network for image in images if image.network), None),
        rules_somewhere=frozenset.union(*(image.rules for image in images)),
        rules_everywhere=frozenset.intersection(*(image.rules for image in images)),
        echo_number=key.echo_number,
        temporal_position=key.temporal_position,
        b_value=key.b_value,
        stack_id=key.stack_id,
        series_number=first.series_number,
        description=first.description,
        images_announced=max((image.images_announced or 0 for image in images), default=0) or None,
        instance_numbers=tuple(image.instance_number for image in images),
        acquired_at=min(image.acquired_at for image in images),
    )


def _geometry(images: list[ImageHeader]) -> StackGeometry | None:
    first = images[0]
    rows, columns = first.key.rows or 0, first.key.columns or 0
    positions = tuple(image.position for image in images if image.position is not None)
    if first.orientation is None or first.spacing is None or len(positions) < len(images) or not (rows and columns):
        return None
    return StackGeometry(
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
    """A name for each stack: the number of its series, and what distinguishes it from the other stacks of that series. What
    shares the series and is no MR image is named by its kind."""
    series: dict[tuple[str, str | None], list[Stack]] = defaultdict(list)
    classes: dict[str, set[str | None]] = defaultdict(set)
    for stack in stacks:
        series[stack.series_uid, stack.kind.sop_class].append(stack)
        classes[stack.series_uid].add(stack.kind.sop_class)
    names = []
    for stack in stacks:
        foreign = len(classes[stack.series_uid]) > 1 and stack.kind.sop_class not in MR_SOP_CLASSES
        what = [_class_name(stack.kind.sop_class)] if foreign else []
        particulars = _particulars(stack, series[stack.series_uid, stack.kind.sop_class])
        names.append(", ".join([_series_name(stack), *what, *particulars]))
    counts, seen = Counter(names), Counter[str]()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(name if counts[name] == 1 else f"{name}, stack {seen[name]}")
    return labels


def _class_name(sop_class: str | None) -> str:
    """What an object is that shares the series of images: "Raw Data Storage"."""
    name = UID(sop_class).name if sop_class else ""
    return name if name != sop_class and name else "objects of another kind"


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
