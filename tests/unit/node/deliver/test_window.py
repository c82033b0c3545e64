"""Several instances under way at once, to an acceptor that grants it (PS3.7 D.3.3.3). No PACS that can be installed here does."""

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pynetdicom import evt

from node.config.settings import DestinationSettings
from node.deliver.scu import send
from node.dimse import pdu
from node.dimse.command import (
    AFFECTED_SOP_INSTANCE_UID,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    MESSAGE_ID,
    MESSAGE_ID_RESPONDED_TO,
    NO_DATA_SET,
    STATUS,
    Command,
    Field,
    encode,
)
from node.dimse.negotiation import Request, decode_request
from tests.dicom import in_files

from .sending import Serve

GRANTED = 3


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def acceptance(request: Request) -> bytes:
    items = item(0x10, b"1.2.840.10008.3.1.1.1")
    for proposal in request.proposals:
        taken = item(0x40, proposal.transfer_syntaxes[0].encode())
        items += item(0x21, bytes([proposal.context_id, 0, 0, 0]) + taken)
    items += item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x53, struct.pack(">HH", GRANTED, 1)))
    body = struct.pack(">H2x", 1) + request.titles + bytes(32) + items
    return struct.pack(">BxL", 2, len(body)) + body


class Acceptor:
    """Takes as many messages as it grants at once, and answers them from the last to the first."""

    def __init__(self, breaks: int = 0, refuses: str = "") -> None:
        """The first `breaks` associations end before anything is answered; one SOP instance is refused for lack of room."""
        self.arrived: list[list[str]] = []
        """SOP instances of each association, in their order."""
        self._breaks, self._refuses = breaks, refuses
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def destination(self, outstanding: int = 8) -> DestinationSettings:
        port = self._listening.getsockname()[1]
        return DestinationSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=300, outstanding=outstanding
        )

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection, connection.makefile("rb") as stream:
                self._converse(connection, stream)

    def _converse(self, connection: socket.socket, stream: BinaryIO) -> None:
        _, body = read_pdu(stream)
        connection.sendall(acceptance(decode_request(body)))
        self.arrived.append([])
        group: list[tuple[Command, int]] = []
        for command, context_id in messages(connection, stream):
            self.arrived[-1].append(command.uid(AFFECTED_SOP_INSTANCE_UID))
            group.append((command, context_id))
            if len(group) == GRANTED:
                if self._breaks:
                    self._breaks -= 1
                    return
                for answered, context in reversed(group):
                    connection.sendall(pdu.p_data(context, self._answer(answered), command=True))
                group = []

    def _answer(self, command: Command) -> bytes:
        sop_uid, number = command.uid(AFFECTED_SOP_INSTANCE_UID), struct.Struct("<H").pack
        return encode({
            COMMAND_FIELD: number(Field.C_STORE_RSP), MESSAGE_ID_RESPONDED_TO: number(command.number(MESSAGE_ID)),
            DATA_SET_TYPE: number(NO_DATA_SET), STATUS: number(0xA700 if sop_uid == self._refuses else 0),
            AFFECTED_SOP_INSTANCE_UID: sop_uid.encode(),
        })  # fmt: skip


def read_pdu(stream: BinaryIO) -> tuple[int, bytes]:
    kind, length = struct.unpack(">BxL", stream.read(6).ljust(6, b"\0"))
    return kind, stream.read(length)


def messages(connection: socket.socket, stream: BinaryIO) -> Iterator[tuple[Command, int]]:
    """The command set of each message whose data set is there, with its presentation context; until the release."""
    command = b""
    while True:
        kind, body = read_pdu(stream)
        if kind == pdu.PDUType.RELEASE_RQ:
            connection.sendall(struct.pack(">BxL4x", pdu.PDUType.RELEASE_RP, 4))
        if kind != pdu.PDUType.P_DATA:
            return
        at = 0
        while at < len(body):
            length, context_id, control = struct.unpack_from(">LBB", body, at)
            if control & 1:
                command += body[at + 6 : at + 4 + length]
            elif control & 2:
                yield Command(command), context_id
                command = b""
            at += 4 + length


def test_each_answer_goes_to_its_instance(files: list[Path]) -> None:
    acceptor = Acceptor(refuses=files[1].stem)
    sent = list(send(in_files(files), acceptor.destination(), "DIFFMSR"))
    assert [s.sop_uid for s in sent] == [path.stem for path in reversed(files)]
    assert {s.sop_uid: s.accepted for s in sent} == {path.stem: path != files[1] for path in files}
    assert acceptor.arrived == [[path.stem for path in files]]


def test_what_is_under_way_when_an_association_breaks_is_sent_again(files: list[Path]) -> None:
    acceptor = Acceptor(breaks=1)
    assert all(s.accepted for s in send(in_files(files), acceptor.destination(), "DIFFMSR"))
    first, *others = (path.stem for path in files)
    assert acceptor.arrived == [[first, *others], [*others, first]]


def test_a_peer_that_grants_nothing_gets_one_at_a_time(files: list[Path], serve: Serve) -> None:
    """pynetdicom answers the proposal with one operation."""
    asked: list[tuple[int, int]] = []

    def negotiated(event: evt.Event) -> tuple[int, int]:
        asked.append((event.nr_invoked, event.nr_performed))
        return 8, 8

    destination = serve(handlers=[(evt.EVT_ASYNC_OPS, negotiated)])
    assert all(s.accepted for s in send(in_files(files), destination, "DIFFMSR"))
    assert asked == [(8, 1)]
    only_one = destination.model_copy(update={"outstanding": 1})
    assert all(s.accepted for s in send(in_files(files), only_one, "DIFFMSR"))
    assert asked == [(8, 1)], "nothing is proposed"
