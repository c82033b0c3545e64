"""Images that were sent again under new SOP instance UIDs, singly or as a whole series. Of two such twins one is used."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from node.dicom.attributes import Attributes, Header
from node.dicom.frames import images_of

Identity = tuple[object, ...]
"""What tells which image of an examination this is, whatever its UIDs are."""


@dataclass(frozen=True)
class Untwinned:
    """The instances of a study without those whose twin is used."""

    headers: tuple[Header, ...]
    left_out: int
    """How many instances were left out."""
    took_the_place_of: Mapping[str, frozenset[str]]
    """Series: the series that it took the place of, each as a whole."""


def untwinned(headers: Sequence[Header], preferred: Collection[str]) -> Untwinned:
    """Leave out each instance whose twin is used: the later of two, unless the SOP instance UID of one is `preferred`.
    `headers` are in the order of their arrival. A series is left out when each of its images is in another series of the
    same number too; with equal images the later series is used, unless one has a preferred instance."""
    used: dict[Identity, Header] = {}
    alone: list[Header] = []
    identities = {id(header): identity(header) for header in headers}
    for header in headers:
        image = identities[id(header)]
        if image is None:
            alone.append(header)
            continue
        key = (_uid(header, "SeriesInstanceUID"), *image)
        before = used.get(key)
        if before is None or not _is_preferred(before, preferred) or _is_preferred(header, preferred):
            used[key] = header
    rest = [*alone, *used.values()]
    took = _series_left_out(headers, rest, identities, preferred)
    lost = frozenset[str]().union(*took.values())
    kept = [header for header in rest if _uid(header, "SeriesInstanceUID") not in lost]
    chosen = {id(header) for header in kept}
    return Untwinned(tuple(h for h in headers if id(h) in chosen), len(headers) - len(kept), took)


def identity(header: Header) -> Identity | None:
    """Number, place, echo and time of an image, or of all frames of an instance, and what else two images of one series may
    differ in. None where the header does not say all of number, place and time: such an image has no twin."""
    frames = tuple(_identity(Attributes(image)) for image in images_of(header))
    return None if None in frames else frames


def _identity(a: Attributes) -> Identity | None:
    number, position = a.integer("InstanceNumber"), a.vector("ImagePositionPatient", 3)
    time = a.text("AcquisitionDateTime") or a.text("AcquisitionTime")
    if number is None or position is None or time is None or a.uid("SOPInstanceUID") is None:
        return None
    place = (position, a.vector("ImageOrientationPatient", 6), a.integer("Rows"), a.integer("Columns"))
    contrast = (a.integer("EchoNumbers"), a.number("EchoTime"), a.number("InversionTime"), a.number("DiffusionBValue"))
    kind = (a.uid("SOPClassUID"), a.code("ImageType"), a.integer("AcquisitionNumber"))
    return (number, time, *place, *contrast, a.integer("TemporalPositionIdentifier"), *kind)


def _series_left_out(
    arrived: Sequence[Dataset],
    headers: Sequence[Dataset],
    identities: Mapping[int, Identity | None],
    preferred: Collection[str],
) -> dict[str, frozenset[str]]:
    """Series: those that it takes the place of. `identities` are those of the header objects, by `id`."""
    images: dict[str, set[Identity | None]] = defaultdict(set)
    numbers: dict[str, int | None] = {}
    rank: dict[str, tuple[bool, int]] = {}
    for header in headers:
        uid = _uid(header, "SeriesInstanceUID")
        images[uid].add(identities[id(header)])
        numbers[uid] = Attributes(header).integer("SeriesNumber")
    for place, header in enumerate(arrived):
        uid = _uid(header, "SeriesInstanceUID")
        chosen = _is_preferred(header, preferred)
        rank[uid] = max(rank.get(uid, (False, 0)), (chosen, place))
    took: dict[str, frozenset[str]] = {}
    lost: set[str] = set()
    for uid in sorted(images, key=lambda one: (len(images[one]), rank[one]), reverse=True):
        if uid in lost:
            continue
        twins = {
            other for other in images
            if other not in {uid, *lost} and numbers[uid] is not None and numbers[other] == numbers[uid]
            and None not in images[other] and images[other] <= images[uid]
        }  # fmt: skip
        if twins:
            took[uid] = frozenset(twins)
            lost |= twins
    return took


def _is_preferred(header: Dataset, preferred: Collection[str]) -> bool:
    return _uid(header, "SOPInstanceUID") in preferred


def _uid(header: Dataset, keyword: str) -> str:
    return Attributes(header).uid(keyword) or ""
