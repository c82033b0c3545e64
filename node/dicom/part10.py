"""The beginning of a Part 10 file (PS3.10 section 7.1): preamble and file meta information."""

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

_PREAMBLE = bytes(128) + b"DICM"
_VERSION = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
"""File Meta Information Version (0002,0001)."""


def head(
    sop_class_uid: str, sop_uid: str, transfer_syntax_uid: str, implementation_class_uid: str, source_ae_title: str
) -> bytes:
    """What comes before a data set that was received: the instance, how it is encoded, and who sent it. An implementation
    class UID or source that is empty is left out."""
    elements = _VERSION + _uid(0x0002, sop_class_uid) + _uid(0x0003, sop_uid) + _uid(0x0010, transfer_syntax_uid)
    if implementation_class_uid:
        elements += _uid(0x0012, implementation_class_uid)
    if source_ae_title:
        elements += _element(0x0016, b"AE", source_ae_title.encode("ascii", "replace"), b" ")
    return _PREAMBLE + _element(0x0000, b"UL", len(elements).to_bytes(4, "little"), b"") + elements


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
    return data_set[at:]


def _uid(number: int, uid: str) -> bytes:
    return _element(number, b"UI", uid.encode("ascii", "replace"), b"\0")


def _element(number: int, vr: bytes, value: bytes, padding: bytes) -> bytes:
    """An element of group 0002, explicit VR little endian, with a length of two bytes."""
    value += padding * (len(value) % 2)
    return b"\x02\x00" + number.to_bytes(2, "little") + vr + len(value).to_bytes(2, "little") + value
