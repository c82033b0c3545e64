"""The beginning of a Part 10 file (PS3.10 section 7.1): preamble and file meta information."""

from typing import NamedTuple

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.dicom.uid import is_uid

_PREAMBLE = bytes(128) + b"DICM"
_VERSION = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
"""File Meta Information Version (0002,0001)."""


def head(
    sop_class_uid: str, sop_uid: str, transfer_syntax_uid: str, implementation_class_uid: str, source_ae_title: str
) -> bytes:
    """The bytes before a received data set. They name the instance, its encoding and its sender. An empty implementation
    class UID or source is left out."""
    elements = _VERSION + _uid(0x0002, sop_class_uid) + _uid(0x0003, sop_uid) + _uid(0x0010, transfer_syntax_uid)
    if implementation_class_uid:
        elements += _uid(0x0012, implementation_class_uid)
    if source_ae_title:
        elements += _element(0x0016, b"AE", source_ae_title.encode("ascii", "replace"), b" ")
    return _PREAMBLE + _element(0x0000, b"UL", len(elements).to_bytes(4, "little"), b"") + elements


def data_set_of(file: bytes) -> memoryview | None:
    """The data set of a Part 10 file, as it is encoded there; None when the file has no group length (0002,0000), which says
    where the data set begins."""
    begins = file[: len(_PREAMBLE) + 8]
    if begins[128:] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        return None
    at = len(_PREAMBLE) + 12
    return memoryview(file)[at + int.from_bytes(file[at - 4 : at], "little") :]


class Named(NamedTuple):
    """What the file meta information says about its instance."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str


def names_of(file: bytes) -> Named | None:
    """The identification in the file meta information of a Part 10 file; None when it cannot be read that simply."""
    data_set = data_set_of(file)
    if data_set is None:
        return None
    values: dict[int, str] = {}
    at, end = len(_PREAMBLE) + 12, len(file) - len(data_set)
    while at + 8 <= end:
        number, vr = int.from_bytes(file[at + 2 : at + 4], "little"), file[at + 4 : at + 6]
        if vr in (b"OB", b"UN"):
            at += 12 + int.from_bytes(file[at + 8 : at + 12], "little")
            continue
        length = int.from_bytes(file[at + 6 : at + 8], "little")
        values[number] = file[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")
        at += 8 + length
    found = [values.get(number, "") for number in (0x0002, 0x0003, 0x0010)]
    return Named(*found) if at == end and all(map(is_uid, found)) else None


def without_meta(data_set: bytes | memoryview, transfer_syntax_uid: str) -> bytes | memoryview:
    """A data set as it was sent, without elements of group 0002 at its beginning. They belong to a file and not to a data set,
    but some gateways send them; in a file they would be taken for its own."""
    at, begins = 0, b"\x02\x00"
    if transfer_syntax_uid in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        return data_set
    while bytes(data_set[at : at + 2]) == begins and at + 12 <= len(data_set):
        if transfer_syntax_uid == ImplicitVRLittleEndian:
            length = 8 + int.from_bytes(data_set[at + 4 : at + 8], "little")
        elif bytes(data_set[at + 4 : at + 6]) in (b"OB", b"UN"):
            length = 12 + int.from_bytes(data_set[at + 8 : at + 12], "little")
        else:
            length = 8 + int.from_bytes(data_set[at + 6 : at + 8], "little")
        at += length
    return data_set[at:] if at else data_set


def _uid(number: int, uid: str) -> bytes:
    return _element(number, b"UI", uid.encode("ascii", "replace"), b"\0")


def _element(number: int, vr: bytes, value: bytes, padding: bytes) -> bytes:
    """An element of group 0002, explicit VR little endian, with a length of two bytes."""
    value += padding * (len(value) % 2)
    return b"\x02\x00" + number.to_bytes(2, "little") + vr + len(value).to_bytes(2, "little") + value
