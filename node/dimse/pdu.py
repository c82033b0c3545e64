"""Protocol data units of the DICOM upper layer (PS3.8 section 9.3), except the two that negotiate: see negotiation.py."""

import struct
import time
from enum import IntEnum
from typing import NamedTuple

from node.dimse.stream import Stream, StreamClosedError


class PDUType(IntEnum):
    """PDU types."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class AbortSource(IntEnum):
    """Who aborts (PS3.8 table 9-26)."""

    USER = 0
    PROVIDER = 2


class AbortReason(IntEnum):
    """Why the provider aborts (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


HEADER_LENGTH = 10
"""Length of what is read first: type, length, and the first four bytes of the body, which every PDU has."""

RELEASE_RQ = struct.pack(">BxLL", PDUType.RELEASE_RQ, 4, 0)
RELEASE_RP = struct.pack(">BxLL", PDUType.RELEASE_RP, 4, 0)

_HEADER = struct.Struct(">BxLL")
_HEADER_LIMIT_S = 10.0
"""Time within which a header is whole once its first byte has arrived."""


class Header(NamedTuple):
    kind: int
    length: int
    """Of the body, the first four bytes included."""
    first: int
    """The first four bytes of the body, as a number: of P-DATA the length of the first item."""


def read_header(stream: Stream, buffer: memoryview, longest: int, within_s: float) -> Header | None:
    """The next PDU's header, read into `buffer` of HEADER_LENGTH bytes; None when the peer has left between two PDUs. A body
    that is longer than `longest`, or shorter than the four bytes that every body has, is not read, and `first` is 0. Raises as `Stream.fill`."""
    count = stream.read_some(buffer, within_s)
    if count == HEADER_LENGTH:
        return Header._make(_HEADER.unpack(buffer))
    if count == 0:
        return None
    deadline = time.monotonic() + min(within_s, _HEADER_LIMIT_S)
    while count < HEADER_LENGTH:
        stream.acknowledge_at_once()
        if count >= 6:
            kind, length, _ = _HEADER.unpack(bytes(buffer[:6]) + bytes(4))
            if not 4 <= length <= longest or not PDUType.ASSOCIATE_RQ <= kind <= PDUType.ABORT:
                return Header(kind, length, 0)
        more = stream.read_some(buffer[count:], deadline - time.monotonic())
        if more == 0:
            raise StreamClosedError
        count += more
    return Header._make(_HEADER.unpack(buffer))


def abort(source: AbortSource, reason: AbortReason = AbortReason.NOT_SPECIFIED) -> bytes:
    """A-ABORT (PS3.8 section 9.3.8)."""
    return struct.pack(">BxLBBBB", PDUType.ABORT, 4, 0, 0, source, reason)


def reject(result: int, source: int, reason: int) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 section 9.3.4)."""
    return struct.pack(">BxLBBBB", PDUType.ASSOCIATE_RJ, 4, 0, result, source, reason)


def p_data(context_id: int, value: bytes, *, command: bool, last: bool = True) -> bytes:
    """P-DATA-TF with one presentation data value (PS3.8 section 9.3.5 and annex E)."""
    return p_data_head(context_id, len(value), command=command, last=last) + value


def p_data_head(context_id: int, length: int, *, command: bool, last: bool) -> bytes:
    """What stands before a presentation data value of that length."""
    control = (1 if command else 0) | (2 if last else 0)
    return struct.pack(">BxLLBB", PDUType.P_DATA, length + 6, length + 2, context_id, control)
