"""The stock association: one of pynetdicom's behind ours, for messages that our own data path does not serve. It gets a request
that proposes only what it has to serve, and then the messages that are handed over. Its answers go to the peer."""

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any, cast

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.transport import AddressInformation, AssociationSocket

from node.config.settings import SCPSettings
from node.dimse import pdu
from node.dimse.associations import application_entity, keep_answers
from node.dimse.negotiation import Context, Proposal, Request, encode_request
from node.dimse.pdu import PDUType
from node.dimse.status import EchoStatus, StoreStatus
from node.dimse.stream import Stream, StreamClosedError, StreamTimeoutError
from node.errors import NodeError
from node.receive.commitment_scp import Commitments
from node.receive.contexts import BOTH_ROLES, supported_contexts
from node.receive.store import StoreRequest

PATIENCE_S = 30.0
"""For pynetdicom to take what it is given; it only has to read it."""
_LONGEST = 0xFFFFFFFF
_A_YEAR_S = 365 * 86400.0
"""Our own upper layer watches the time limits of the peer, so the association behind it has none."""


class StockAssociationError(NodeError):
    """pynetdicom did not take what was handed over to it."""


class StockAssociation:
    """One association of pynetdicom's, on a pair of connected sockets."""

    def __init__(self, association: Association, ours: socket.socket, heard: Callable[[Association], None]) -> None:
        self._association = association
        self._stream = Stream(ours)
        self._heard = heard
        self._pump = threading.Thread(target=lambda: None)

    def enter(self, request: Request, contexts: Sequence[Context], relay: Callable[[bytes], None]) -> None:
        """Associate, and from then on give each PDU that comes out to `relay`."""
        self._association.start()
        proposals = [Proposal(c.context_id, c.abstract_syntax, (c.transfer_syntax,)) for c in contexts]
        inside = Request(
            called=request.called,
            calling=request.calling,
            proposals=proposals,
            max_length=request.max_length,
            implementation_class_uid=request.implementation_class_uid,
            implementation_version=request.implementation_version,
            roles={uid: roles for uid, roles in request.roles.items() if uid in BOTH_ROLES},
        )
        self._stream.write(encode_request(inside), PATIENCE_S)
        answer = self._read()
        if answer is None or answer[0] != PDUType.ASSOCIATE_AC:
            raise StreamClosedError
        self._pump = threading.Thread(target=self._run, args=(relay,), name="stock-association", daemon=True)
        self._pump.start()

    def give(self, context_id: int, command_set: bytes, data_set: memoryview | None) -> None:
        """Hand a message over. StockAssociationError when it is not taken."""
        try:
            self._stream.write(pdu.p_data(context_id, command_set, command=True), PATIENCE_S)
            if data_set is not None:
                self._stream.write(pdu.p_data(context_id, bytes(data_set), command=False), PATIENCE_S)
        except (StreamClosedError, StreamTimeoutError):
            raise StockAssociationError from None

    def heard(self) -> None:
        """Say that the peer has sent a message that our own data path serves."""
        self._heard(self._association)

    def close(self) -> None:
        """End it, as if the peer had left."""
        self._stream.cut()
        if self._pump.ident is not None:
            self._pump.join(PATIENCE_S)
        self._stream.close()

    def _run(self, relay: Callable[[bytes], None]) -> None:
        with suppress(StreamClosedError, StreamTimeoutError):
            while (answer := self._read()) is not None:
                relay(answer)

    def _read(self) -> bytes | None:
        buffer = memoryview(bytearray(pdu.HEADER_LENGTH))
        header = pdu.read_header(self._stream, buffer, _LONGEST, _A_YEAR_S)
        if header is None:
            return None
        whole = memoryview(bytearray(6 + header.length))
        whole[: pdu.HEADER_LENGTH] = buffer
        self._stream.fill(whole[pdu.HEADER_LENGTH :], PATIENCE_S)
        return bytes(whole)


class StockAssociations:
    """Makes stock associations; one object for all associations of peers."""

    def __init__(self, settings: SCPSettings, commitments: Commitments) -> None:
        self._settings = settings
        self._commitments = commitments
        self._handlers: list[tuple[Any, Callable[..., Any]]] = [
            (evt.EVT_C_ECHO, lambda event: EchoStatus.SUCCESS),
            (evt.EVT_DIMSE_RECV, lambda event: commitments.heard(event.assoc)),
            (evt.EVT_N_ACTION, commitments.requested),
            (evt.EVT_N_EVENT_REPORT, commitments.reported),
        ]
        self._ae: AE = application_entity(settings.ae_title)
        self._ae.acse_timeout = PATIENCE_S
        self._ae.dimse_timeout = settings.dimse_timeout_s
        self._ae.network_timeout = None

    def open(
        self,
        request: Request,
        contexts: Sequence[Context],
        address: str,
        relay: Callable[[bytes], None],
        put: Callable[[StoreRequest], StoreStatus],
    ) -> StockAssociation:
        """A stock association for these accepted contexts. `relay` gets what it answers, `put` keeps an instance.
        StockAssociationError when pynetdicom does not answer."""
        ours, theirs = socket.socketpair()
        association = Association(self._ae, "acceptor")
        association.name = f"stock@{address}"
        association.set_socket(AssociationSocket(association, client_socket=theirs))
        acceptor = association.acceptor
        acceptor.maximum_length = self._settings.max_pdu
        acceptor.ae_title = self._settings.ae_title
        acceptor.address_info = AddressInformation(self._settings.host, self._settings.port)
        acceptor.implementation_class_uid = self._ae.implementation_class_uid
        acceptor.implementation_version_name = self._ae.implementation_version_name
        acceptor.supported_contexts = supported_contexts({context.abstract_syntax for context in contexts})
        association.requestor.address_info = AddressInformation(address, 104)
        keep_answers(association)
        association.bind(evt.EVT_C_STORE, take_instance, [put])
        for event, handler in self._handlers:
            association.bind(event, handler)
        stock = StockAssociation(association, ours, self._commitments.heard)
        try:
            stock.enter(request, contexts, relay)
        except (StreamClosedError, StreamTimeoutError):
            stock.close()
            raise StockAssociationError from None
        return stock


def take_instance(event: Event, put: Callable[[StoreRequest], StoreStatus]) -> StoreStatus:
    """Keep the instance of a C-STORE request, whether the peer opened the association or answers our C-GET on it."""
    association, request = event.assoc, cast(C_STORE, event.request)
    peer = association.acceptor if association.is_requestor else association.requestor
    context = event.context
    return put(
        StoreRequest(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(context.transfer_syntax),
            implementation_class_uid=str(peer.implementation_class_uid),
            calling_ae_title=peer.ae_title.strip(),
            data_set=cast(BytesIO, request.DataSet).getvalue(),
            abstract_syntax_uid=str(UID(context.abstract_syntax)),
        )
    )
