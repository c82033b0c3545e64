"""DICOM upper layer and DIMSE by hand (PS3.8 section 9.3, PS3.7 section 6.3 and annex E): bytes, and a peer that sends any."""

import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.waiting import STUCK_S

RQ, AC, RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
MR, VERIFICATION, COMMITMENT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.1", "1.2.840.10008.1.20.1"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
NO_DATA_SET = 0x0101
CONTEXTS = {1: (MR, EXPLICIT), 3: (VERIFICATION, IMPLICIT)}


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxL", kind, len(body) if length is None else length) + body


def item(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxH", kind, len(body) if length is None else length) + body


def presentation_context(number: int, abstract_syntax: str, *transfer_syntaxes: str) -> bytes:
    syntaxes = b"".join(item(0x40, syntax.encode()) for syntax in transfer_syntaxes)
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract_syntax.encode()) + syntaxes)


def associate_body(
    called: bytes = b"DIFFMSR",
    calling: bytes = b"MR1",
    contexts: Mapping[int, tuple[str, ...]] = CONTEXTS,
    version: int = 1,
    application_context: bytes | None = b"1.2.840.10008.3.1.1.1",
    extra: bytes = b"",
    max_length: int = 16384,
) -> bytes:
    """The body of an A-ASSOCIATE-RQ."""
    items = b"" if application_context is None else item(0x10, application_context)
    items += b"".join(presentation_context(number, *syntaxes) for number, syntaxes in contexts.items())
    items += item(0x50, item(0x51, max_length.to_bytes(4, "big")) + item(0x52, b"1.2.3.4") + extra)
    return struct.pack(">H2x", version) + called.ljust(16) + calling.ljust(16) + bytes(32) + items


def pdv(number: int, value: bytes, command: bool, last: bool = True, length: int | None = None) -> bytes:
    """A presentation data value with its item header."""
    control = (1 if command else 0) | (2 if last else 0)
    return struct.pack(">LBB", len(value) + 2 if length is None else length, number, control) + value


def element(number: int, value: bytes) -> bytes:
    """A command element, implicit VR little endian, of group 0000."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def command_set(fields: Mapping[int, bytes]) -> bytes:
    body = b"".join(element(number, value) for number, value in sorted(fields.items()))
    return element(0, len(body).to_bytes(4, "little")) + body


def us(value: int) -> bytes:
    return value.to_bytes(2, "little")


def store_command(sop_uid: bytes, sop_class: str = MR, **changes: bytes | None) -> bytes:
    """The command set of a C-STORE-RQ; `changes` are elements as e1000=b'...', None to leave one out."""
    fields = {
        0x0002: sop_class.encode(), 0x0100: us(C_STORE_RQ), 0x0110: us(7), 0x0700: us(0), 0x0800: us(0), 0x1000: sop_uid,
    }  # fmt: skip
    for name, value in changes.items():
        number = int(name[1:], 16)
        fields.pop(number, None)
        if value is not None:
            fields[number] = value
    return command_set(fields)


def echo_command(sop_class: str = VERIFICATION, field: int = C_ECHO_RQ) -> bytes:
    return command_set({0x0002: sop_class.encode(), 0x0100: us(field), 0x0110: us(9), 0x0800: us(NO_DATA_SET)})


def data_set(sop_uid: str, study_uid: str = "1.2.3.1", series_uid: str = "1.2.3.2", pixels: bytes = bytes(64)) -> bytes:
    """A small MR image of 8 x 4 pixels or what `pixels` holds, explicit VR little endian."""
    rows = len(pixels) // 8

    def one(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr in (b"UI", b"OW") else b" ") * (len(value) % 2)
        length = struct.pack("<H", len(value)) if vr != b"OW" else struct.pack("<2xL", len(value))
        return struct.pack("<HH", group, number) + vr + length + value

    return b"".join([
        one(0x08, 0x16, b"UI", MR.encode()), one(0x08, 0x18, b"UI", sop_uid.encode()), one(0x08, 0x60, b"CS", b"MR"),
        one(0x10, 0x10, b"PN", b"Phantom^Wire"), one(0x20, 0x0D, b"UI", study_uid.encode()),
        one(0x20, 0x0E, b"UI", series_uid.encode()), one(0x28, 0x02, b"US", us(1)), one(0x28, 0x04, b"CS", b"MONOCHROME2"),
        one(0x28, 0x10, b"US", us(min(rows, 0xFFFF))), one(0x28, 0x11, b"US", us(4)), one(0x28, 0x100, b"US", us(16)),
        one(0x28, 0x101, b"US", us(12)), one(0x28, 0x102, b"US", us(11)), one(0x28, 0x103, b"US", us(0)),
        one(0x7FE0, 0x10, b"OW", pixels),
    ])  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """A PDU from the node."""

    kind: int
    body: bytes

    @property
    def status(self) -> int:
        """Of a response in one P-DATA PDU."""
        at = self.body.index(struct.pack("<HHL", 0, 0x0900, 2)) + 8
        return int.from_bytes(self.body[at : at + 2], "little")

    def field(self, number: int) -> bytes:
        """The value of an element of a response."""
        at = self.body.index(struct.pack("<HH", 0, number)) + 4
        length = int.from_bytes(self.body[at : at + 4], "little")
        return self.body[at + 4 : at + 4 + length]


class Wire:
    """A connection to the node, over which any bytes go."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        """`address` is the loopback address to come from, all of which reach the node."""
        plain = socket.socket()
        plain.settimeout(STUCK_S)
        plain.bind((address, 0))
        plain.connect(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Answer | None:
        """The next PDU; None when the node closes the connection before it, however it does."""
        head = self._read(6)
        if head is None:
            return None
        body = self._read(int.from_bytes(head[2:], "big"))
        return None if body is None else Answer(head[0], body)

    def closed(self) -> bool:
        """Whether the node closes the connection without a further word. Waits for it."""
        return self.receive() is None

    def associate(self, **changes: object) -> "Wire":
        self.send(pdu(RQ, associate_body(**changes)))  # type: ignore[arg-type]
        answer = self.receive()
        assert answer is not None and answer.kind == AC, answer
        return self

    def data(self, *values: bytes) -> None:
        """One P-DATA PDU of these presentation data values."""
        self.send(pdu(DATA, b"".join(values)))

    def message(self, number: int, command: bytes, content: bytes | None = None, piece: int = 16000) -> None:
        """A whole message, a PDU for each piece."""
        self.data(pdv(number, command, command=True))
        for at in range(0, len(content or b""), piece):
            self.data(
                pdv(number, (content or b"")[at : at + piece], command=False, last=at + piece >= len(content or b""))
            )

    def store(self, sop_uid: str, content: bytes | None = None) -> Answer:
        self.message(1, store_command(sop_uid.encode()), data_set(sop_uid) if content is None else content)
        answer = self.receive()
        assert answer is not None, "the node closed the connection in place of an answer"
        return answer

    def release(self) -> None:
        self.send(pdu(RELEASE_RQ, bytes(4)))
        answer = self.receive()
        assert answer is not None and answer.kind == RELEASE_RP, f"a release was answered by {answer}"
        self.socket.close()

    def _read(self, count: int) -> bytes | None:
        found = bytearray()
        while len(found) < count:
            try:
                piece = self.socket.recv(count - len(found))
            except ConnectionError:
                return None
            if not piece:
                return None
            found += piece
        return bytes(found)


def many(port: int, count: int, first: bytes = b"", addresses: Sequence[str] = ("127.0.0.1",)) -> list[Wire]:
    """Connections that send `first` and then nothing; from these addresses in turn."""
    wires = [Wire(port, address=addresses[n % len(addresses)]) for n in range(count)]
    for wire in wires:
        if first:
            try:
                wire.send(first)
            except ConnectionError:  # evicted already
                continue
    return wires
