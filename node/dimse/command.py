"""Command sets of DIMSE messages (PS3.7 section 6.3 and annex E): implicit VR little endian, group 0000 only."""

import struct
from collections.abc import Mapping
from enum import IntEnum


class Field(IntEnum):
    """Command fields (0000,0100) that this node knows by name; a response is its request plus 0x8000."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    C_CANCEL_RQ = 0x0FFF


RESPONSE = 0x8000
NO_DATA_SET = 0x0101
"""CommandDataSetType (0000,0800) of a message without a data set."""

# Elements of group 0000.
AFFECTED_SOP_CLASS_UID = 0x0002
REQUESTED_SOP_CLASS_UID = 0x0003
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_RESPONDED_TO = 0x0120
PRIORITY = 0x0700
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
AFFECTED_SOP_INSTANCE_UID = 0x1000
REQUESTED_SOP_INSTANCE_UID = 0x1001
EVENT_TYPE_ID = 0x1002
ACTION_TYPE_ID = 0x1008

MAX_COMMAND = 1 << 16
"""Bytes of a command set; those of the standard are a few hundred."""

_ELEMENT = struct.Struct("<HHL")
_UNSIGNED = struct.Struct("<H")


class MalformedCommandError(Exception):
    """A command set is malformed; the message says what."""


class Command:
    """A command set as it was received."""

    __slots__ = ("_elements", "encoded", "field", "has_data_set")

    def __init__(self, encoded: bytes | bytearray) -> None:
        """MalformedCommandError when it cannot be read, or does not say what it is."""
        elements: dict[int, bytes] = {}
        at, end = 0, len(encoded)
        while at < end:
            if at + 8 > end:
                raise MalformedCommandError("the command set ends within an element")
            group, element, length = _ELEMENT.unpack_from(encoded, at)
            at += 8
            if group != 0 or at + length > end:
                raise MalformedCommandError(
                    "an element of the command set is longer than the command set, or not of group 0000"
                )
            elements[element] = bytes(encoded[at : at + length])
            at += length
        self._elements = elements
        self.encoded = bytes(encoded)
        self.field = self.number(COMMAND_FIELD)
        self.has_data_set = self.number(DATA_SET_TYPE) != NO_DATA_SET

    def has(self, element: int) -> bool:
        return element in self._elements

    def number(self, element: int) -> int:
        """The value of an element of VR US; MalformedCommandError when it is missing or of another length."""
        value = self._elements.get(element)
        if value is None or len(value) != 2:
            raise MalformedCommandError(f"element (0000,{element:04X}) is missing or malformed")
        return value[0] | value[1] << 8

    def uid(self, element: int) -> str:
        """The value of an element of VR UI, without its padding; empty when it is missing. Characters that no UID has stay
        in it, as far as they can be shown."""
        return self._elements.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")


def encode(elements: Mapping[int, bytes]) -> bytes:
    """A command set with its group length; `elements` in ascending order, values without padding."""
    body = b"".join(
        _ELEMENT.pack(0, element, len(value) + len(value) % 2) + value + b"\0" * (len(value) % 2)
        for element, value in elements.items()
    )
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def response(request: Command, status: int) -> bytes:
    """The response to a request that names its SOP class and instance as affected: C-STORE, C-ECHO; for any other request
    those that it has. It has no data set. MalformedCommandError when the request has no message ID."""
    elements = {}
    sop_class = request.uid(AFFECTED_SOP_CLASS_UID)
    if sop_class:
        elements[AFFECTED_SOP_CLASS_UID] = sop_class.encode("ascii", "replace")
    elements[COMMAND_FIELD] = _UNSIGNED.pack(request.field | RESPONSE)
    elements[MESSAGE_ID_RESPONDED_TO] = _UNSIGNED.pack(request.number(MESSAGE_ID))
    elements[DATA_SET_TYPE] = _UNSIGNED.pack(NO_DATA_SET)
    elements[STATUS] = _UNSIGNED.pack(status)
    sop_instance = request.uid(AFFECTED_SOP_INSTANCE_UID)
    if sop_instance:
        elements[AFFECTED_SOP_INSTANCE_UID] = sop_instance.encode("ascii", "replace")
    return encode(elements)
