"""The few attributes that receiving needs, read off the bytes of a data set in a tenth of a millisecond.

It reads regular data sets, as nearly all are: little endian, ascending tags, known VRs, lengths that fit, sequences of any
form. It leaves all others to pydicom, which needs twenty times as long and decides whether they can be understood. So the
scan never accepts what pydicom would reject, and never reads another value.
"""

import re
import struct
from dataclasses import dataclass

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.dicom.attributes import Attributes, Header
from node.dicom.uid import is_uid

_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_STUDY, _SERIES, _IMAGES_IN_ACQUISITION = 0x0020000D, 0x0020000E, 0x00201002
_CHARACTER_SET, _PIXELS = 0x00080005, (0x7FE00008, 0x7FE00009, 0x7FE00010)
_WANTED = {
    _CHARACTER_SET: b"CS", _SOP_CLASS: b"UI", _SOP_INSTANCE: b"UI", _STUDY: b"UI", _SERIES: b"UI",
    _IMAGES_IN_ACQUISITION: b"IS",
}  # fmt: skip
"""What is read, and the VR it must have."""
_ITEM, _ITEM_ENDS, _SEQUENCE_ENDS = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 16

_SHORT = frozenset(
    vr.encode() for vr in ["AE", "AS", "AT", "CS", "DA", "DS", "DT", "FL", "FD", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"]
)  # fmt: skip
"""VRs with a length of two bytes (PS3.5 table 7.1-2)."""
_LONG = frozenset(vr.encode() for vr in ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT", "SV", "UV"])
_CHARACTER_SETS = re.compile(rb"(ISO_IR (100|101|109|110|144|127|126|138|148|166|13|192|6)|GB18030|GBK)? ?")
"""Character sets that stand alone; for several, pydicom has rules of its own."""
_COUNT = re.compile(rb"[1-9][0-9]{0,8}")

_OTHERS = frozenset({str(DeflatedExplicitVRLittleEndian), str(ExplicitVRBigEndian)})
"""Transfer syntaxes that are left to pydicom."""

_HEADER = struct.Struct("<HH2sH")
_IMPLICIT_HEADER = struct.Struct("<HHL")
_LENGTH = struct.Struct("<L")


IDENTIFYING_TAGS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "ImagesInAcquisition"]
"""What is read of a data set here; the rest must only be such that it can be parsed, so that matching can read it."""


class _IrregularError(Exception):
    """The data set is not regular, so pydicom has to read it."""


@dataclass(frozen=True)
class Scanned:
    """What a data set says."""

    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str
    images_in_acquisition: int | None


def scan(data_set: bytes | memoryview, transfer_syntax_uid: str) -> Scanned | None:
    """What the data set says; None when pydicom has to read it, or to refuse it."""
    explicit = transfer_syntax_uid != ImplicitVRLittleEndian
    if transfer_syntax_uid in _OTHERS:
        return None
    walk = _Walk(memoryview(data_set), explicit)
    try:
        walk.elements(0, len(data_set), 0, closed=False)
        sop_class, sop, study, series = (
            _plain_uid(walk.found[tag]) for tag in (_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES)
        )
    except (_IrregularError, KeyError, struct.error):
        return None
    count = walk.found.get(_IMAGES_IN_ACQUISITION, b"").rstrip(b" \0").lstrip(b" ")
    if count and not _COUNT.fullmatch(count):
        return None
    return Scanned(sop_class, sop, study, series, int(count) if count else None)


def read(header: Header) -> Scanned:
    """The same of a data set that pydicom has read."""
    return Scanned(
        sop_class_uid=str(header.get("SOPClassUID", "")),
        sop_uid=str(header.get("SOPInstanceUID", "")),
        study_uid=str(header.get("StudyInstanceUID", "")),
        series_uid=str(header.get("SeriesInstanceUID", "")),
        images_in_acquisition=Attributes(header).count("ImagesInAcquisition"),
    )


class _Walk:
    """Goes over the elements of a data set, up to its pixels."""

    def __init__(self, data: memoryview, explicit: bool) -> None:
        self._data = data
        self._explicit = explicit
        self.found: dict[int, bytes] = {}

    def elements(self, at: int, end: int, depth: int, closed: bool) -> int:
        """Go over elements up to `end`, or, when they are `closed`, up to the end of their item. Where that is."""
        data, explicit = self._data, self._explicit
        last = 0
        while at < end:
            if explicit:
                group, element, vr, length = _HEADER.unpack_from(data, at)
            else:
                group, element, length = _IMPLICIT_HEADER.unpack_from(data, at)
                vr = b""
                if not at and _looks_explicit(data):
                    raise _IrregularError
            tag = group << 16 | element
            if tag == _ITEM_ENDS and closed and bytes(data[at + 4 : at + 8]) == bytes(4):
                return at + 8
            if tag <= last or group < 0x0008 or group == 0xFFFE:
                raise _IrregularError
            last = tag
            begins = at
            at += 8
            if explicit and vr in _LONG:
                (length,) = _LENGTH.unpack_from(data, at)
                at += 4
            elif explicit and vr not in _SHORT:
                raise _IrregularError
            if tag in _PIXELS and not depth:
                return begins
            if length == _UNDEFINED and vr in (b"", b"SQ"):
                at = self._items(at, end, depth + 1)
                continue
            if length > end - at:  # that of an undefined length is longer than anything
                raise _IrregularError
            if tag in _WANTED and (not depth or tag == _CHARACTER_SET):
                self._note(tag, vr, bytes(data[at : at + length]))
            at += length
        if at != end or closed:
            raise _IrregularError
        return at

    def _items(self, at: int, end: int, depth: int) -> int:
        """Go over the items of a sequence of undefined length. Where it ends."""
        if depth > _DEEPEST:
            raise _IrregularError
        while True:
            group, element, length = _IMPLICIT_HEADER.unpack_from(self._data, at)
            tag = group << 16 | element
            at += 8
            if tag == _SEQUENCE_ENDS and length == 0:
                return at
            if tag != _ITEM:
                raise _IrregularError
            if length == _UNDEFINED:
                at = self.elements(at, end, depth, closed=True)
            elif length > end - at:
                raise _IrregularError
            else:
                at = self.elements(at, at + length, depth, closed=False)

    def _note(self, tag: int, vr: bytes, value: bytes) -> None:
        if vr and vr != _WANTED[tag]:
            raise _IrregularError
        if tag == _CHARACTER_SET and not _CHARACTER_SETS.fullmatch(value):
            raise _IrregularError
        self.found[tag] = value


def _looks_explicit(data: memoryview) -> bool:
    """What has pydicom take a data set for explicit VR, whatever its transfer syntax is."""
    return all(0x41 <= byte <= 0x5A for byte in data[4:6])


def _plain_uid(value: bytes) -> str:
    text = value.rstrip(b"\0 ").decode("ascii", "replace")
    if not is_uid(text):
        raise _IrregularError
    return text
