"""A storage SCU that sends whatever bytes it is given: a C-STORE request written by hand (PS3.7 section 9.3.1, PS3.8
section 9.3), since a proper one refuses to send what is malformed."""

import socket
from collections.abc import Sequence

PATIENCE_S = 600
"""To a node that says nothing, such as a slow one; one that hangs is found by it."""


def _item(kind: int, body: bytes) -> bytes:
    return bytes([kind, 0]) + len(body).to_bytes(2, "big") + body


def _element(element: int, value: bytes) -> bytes:
    """A command element, implicit VR little endian, group 0000."""
    value += b"\0" * (len(value) % 2)
    return b"\0\0" + element.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


class Peer:
    """One association; every presentation context proposes one (SOP class, transfer syntax)."""

    def __init__(self, port: int, contexts: Sequence[tuple[str, str]]) -> None:
        self._ids = {pair: 2 * n + 1 for n, pair in enumerate(contexts)}
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        proposals = b"".join(
            _item(0x20, bytes([number, 0, 0, 0]) + _item(0x30, sop_class.encode()) + _item(0x40, syntax.encode()))
            for (sop_class, syntax), number in self._ids.items()
        )
        user = _item(0x51, (16382).to_bytes(4, "big")) + _item(0x52, b"1.2.3")
        body = b"\0\1\0\0" + b"DIFFMSR".ljust(16) + b"FUZZ".ljust(16) + bytes(32)
        body += _item(0x10, b"1.2.840.10008.3.1.1.1") + proposals + _item(0x50, user)
        self._send(1, body)
        kind, _ = self._receive()
        assert kind == 2, f"association not accepted: PDU type {kind}"

    def store(self, sop_class: str, syntax: str, sop_uid: bytes, data_set: bytes) -> int | None:
        """Send one instance; the status of the answer, None when the peer aborted instead."""
        number = self._ids[sop_class, syntax]
        fields = _element(0x0002, sop_class.encode()) + _element(0x0100, b"\1\0") + _element(0x0110, b"\7\0")
        fields += _element(0x0700, b"\0\0") + _element(0x0800, b"\0\0") + _element(0x1000, sop_uid)
        command = _element(0x0000, len(fields).to_bytes(4, "little")) + fields
        try:
            self._data(number, command, is_command=True)
            self._data(number, data_set, is_command=False)
            return self._status()
        except (ConnectionError, EOFError):
            return None

    def release(self) -> None:
        with self._socket:
            self._send(5, bytes(4))
            self._receive()

    def close(self) -> None:
        self._socket.close()

    def _data(self, number: int, content: bytes, *, is_command: bool) -> None:
        pieces = [content[at : at + 16000] for at in range(0, len(content), 16000)] or [b""]
        for n, piece in enumerate(pieces):
            control = int(is_command) | (2 if n == len(pieces) - 1 else 0)
            self._send(4, (len(piece) + 2).to_bytes(4, "big") + bytes([number, control]) + piece)

    def _status(self) -> int | None:
        command = b""
        while True:
            kind, body = self._receive()
            if kind != 4:  # A-ABORT, or something that has no place here
                return None
            command += body[6:]
            if body[5] & 2:
                break
        at = command.index(b"\0\0\0\x09\2\0\0\0") + 8
        return int.from_bytes(command[at : at + 2], "little")

    def _send(self, kind: int, body: bytes) -> None:
        self._socket.sendall(bytes([kind, 0]) + len(body).to_bytes(4, "big") + body)

    def _receive(self) -> tuple[int, bytes]:
        head = self._read(6)
        return head[0], self._read(int.from_bytes(head[2:], "big"))

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = self._socket.recv(count - len(found))
            if not piece:
                raise EOFError
            found += piece
        return found
