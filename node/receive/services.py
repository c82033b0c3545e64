"""The services on an established association. C-STORE and C-ECHO are served here. Storage commitment goes to a stock
association (see stock.py), and so does, with `[scp] data_path = "stock"`, everything but instances that are not MR."""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from pydicom.uid import UID

from node.config.settings import SCPSettings
from node.dicom.uid import is_uid
from node.dimse import command as dimse
from node.dimse import pdu
from node.dimse.command import Command, Field
from node.dimse.message import Incoming, InvalidDataError
from node.dimse.negotiation import P_DATA_OVERHEAD, VERIFICATION, Context, Request
from node.dimse.pdu import PDUType
from node.dimse.status import StoreStatus
from node.dimse.stream import Stream, StreamClosedError, StreamTimeoutError
from node.receive.contexts import COMMITMENT, MR
from node.receive.policy import Policy
from node.receive.slots import Slots, Visitor
from node.receive.stock import StockAssociation
from node.receive.store import Store, StoreRequest

_STOCK_CLASSES = MR | {VERIFICATION, COMMITMENT}
"""pynetdicom serves no SOP class that it does not know, so what is not MR is served here on both data paths."""
log = structlog.get_logger()

COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The well-known SOP instance of storage commitment (PS3.4 J.3.5)."""
_UNRECOGNIZED_OPERATION, _SOP_CLASS_NOT_SUPPORTED = 0x0211, 0x0122
_NO_SUCH_SOP_INSTANCE, _NO_SUCH_EVENT, _NO_SUCH_SOP_CLASS, _NO_SUCH_ACTION = 0x0112, 0x0113, 0x0118, 0x0123
"""Statuses of PS3.7 annex C for requests that no service here takes."""

_COMMITMENT_REQUESTS: dict[int, tuple[int, int, int, set[int], int]] = {
    Field.N_ACTION_RQ: (
        dimse.REQUESTED_SOP_CLASS_UID, dimse.REQUESTED_SOP_INSTANCE_UID, dimse.ACTION_TYPE_ID, {1}, _NO_SUCH_ACTION,
    ),
    Field.N_EVENT_REPORT_RQ: (
        dimse.AFFECTED_SOP_CLASS_UID, dimse.AFFECTED_SOP_INSTANCE_UID, dimse.EVENT_TYPE_ID, {1, 2}, _NO_SUCH_EVENT,
    ),
}  # fmt: skip
"""Of each request of storage commitment: where it names SOP class, SOP instance and its type, the types there are, and the status
of another one (PS3.4 J.3)."""


@dataclass(frozen=True)
class Shared:
    """What all associations share."""

    settings: SCPSettings
    policy: Policy
    slots: Slots
    store: Store
    open_stock_association: Callable[
        [Request, Sequence[Context], str, Callable[[bytes], None], Callable[[StoreRequest], StoreStatus]],
        StockAssociation,
    ]
    is_draining: Callable[[], bool]


class Services:
    """Serves the messages of one association, one at a time."""

    def __init__(
        self, shared: Shared, stream: Stream, visitor: Visitor, request: Request, accepted: Sequence[Context]
    ) -> None:
        self._shared = shared
        self._stream = stream
        self._visitor = visitor
        self._request = request
        self._contexts = {context.context_id: context for context in accepted}
        self._stock: StockAssociation | None = None
        self._brought: Counter[StoreStatus] = Counter()
        self._dropped = 0
        self._name = str(uuid.uuid4())

    def serve(self, message: Incoming) -> None:
        """Do what a whole message asks, and answer it. InvalidDataError when it makes no sense; MalformedCommandError when
        it lacks what an answer needs."""
        request = message.command
        assert request is not None and message.context_id is not None
        context = self._contexts.get(message.context_id)
        if context is None:
            raise InvalidDataError(f"presentation context {message.context_id} was not accepted")
        status = _refusal(context, request)
        if request.field == Field.C_CANCEL_RQ:
            pass  # nothing that could be cancelled runs longer than its request
        elif status is not None:
            facts = {"host": self._visitor.address, "source": self._request.calling, "status": f"0x{status:04X}"}
            reason = f"command field 0x{request.field:04X} on {UID(context.abstract_syntax).name}"
            log.warning("message.refused", reason=reason, check="this node does not offer it, or not so", **facts)
            self._respond(context, request, status)
        elif context.abstract_syntax == COMMITMENT or self._is_for_stock(context, request):
            self._hand_over(message, request)
        elif request.field == Field.C_STORE_RQ:
            self._respond(context, request, self._store(context, request, message))
        else:
            self._respond(context, request, 0x0000)

    def _is_for_stock(self, context: Context, request: Command) -> bool:
        """Whether pynetdicom is to serve a C-STORE or C-ECHO. It does not answer a request in which something is missing. Such a
        request is served here on both data paths."""
        if self._shared.settings.data_path != "stock" or context.abstract_syntax not in _STOCK_CLASSES:
            return False
        if request.uid(dimse.AFFECTED_SOP_CLASS_UID) != context.abstract_syntax:
            return False
        if request.field == Field.C_ECHO_RQ:
            return not request.has_data_set
        is_named = is_uid(request.uid(dimse.AFFECTED_SOP_INSTANCE_UID))
        return is_named and request.has_data_set and request.has(dimse.PRIORITY) and request.number(dimse.PRIORITY) < 3

    def close(self) -> None:
        """The association has ended."""
        if self._stock is not None:
            self._stock.close()
        if self._brought:
            stored = self._brought[StoreStatus.SUCCESS]
            refused = self._brought.total() - stored
            peer, called, host = self._request.calling, self._request.called, self._visitor.address
            self._shared.store.ended(peer, called, host, stored - self._dropped, refused, self._dropped, self._name)

    def drops(self, context_id: int) -> bool:
        """Whether the data sets of that presentation context are instances that are not kept."""
        context = self._contexts.get(context_id)
        if context is None or context.abstract_syntax in _STOCK_CLASSES:
            return False
        return self._shared.store.drops(context.abstract_syntax)

    def _put(self, sent: StoreRequest) -> StoreStatus:
        status = self._shared.store.put(sent, self._name)
        self._brought[status] += 1
        self._dropped += status is StoreStatus.SUCCESS and self._shared.store.drops(sent.sop_class_uid)
        return status

    def _store(self, context: Context, request: Command, message: Incoming) -> int:
        if self._stock is not None:
            self._stock.heard()
        return self._put(
            StoreRequest(
                sop_class_uid=request.uid(dimse.AFFECTED_SOP_CLASS_UID),
                sop_uid=request.uid(dimse.AFFECTED_SOP_INSTANCE_UID),
                transfer_syntax_uid=context.transfer_syntax,
                implementation_class_uid=self._request.implementation_class_uid,
                calling_ae_title=self._request.calling,
                data_set=message.data_set,
                abstract_syntax_uid=context.abstract_syntax,
            )
        )

    def _respond(self, context: Context, request: Command, status: int) -> None:
        response = dimse.response(request, status)
        longest = self._request.max_length - P_DATA_OVERHEAD if self._request.max_length else len(response)
        answer = b""
        for at in range(0, len(response), longest):
            value = response[at : at + longest]
            answer += pdu.p_data(context.context_id, value, command=True, last=at + longest >= len(response))
        self._stream.write(answer, self._shared.settings.dimse_timeout_s)

    def _hand_over(self, message: Incoming, request: Command) -> None:
        assert message.context_id is not None
        if self._stock is None:
            contexts = [one for one in self._contexts.values() if one.abstract_syntax in _STOCK_CLASSES]
            self._stock = self._shared.open_stock_association(
                self._request, contexts, self._visitor.address, self._relay, self._put
            )
        self._stock.give(message.context_id, request.encoded, message.data_set if request.has_data_set else None)

    def _relay(self, data: bytes) -> None:
        """Pass a PDU from the stock association on to the peer, in the thread of that association."""
        try:
            self._stream.write(data, self._shared.settings.dimse_timeout_s)
        except (StreamClosedError, StreamTimeoutError):
            self._visitor.evict("it did not take what was answered")
        if data[0] == PDUType.ABORT:
            self._visitor.evict("a message could not be served")


def _refusal(context: Context, request: Command) -> int | None:
    """The status that answers a request which no service here takes; None when there is one. InvalidDataError for a response
    that nobody waits for, MalformedCommandError when the message has no ID."""
    field, served = request.field, context.abstract_syntax
    if served == COMMITMENT and field == Field.N_EVENT_REPORT_RSP:
        request.number(dimse.MESSAGE_ID_RESPONDED_TO)
        request.number(dimse.STATUS)
        return None
    if field & dimse.RESPONSE:
        raise InvalidDataError(f"a response (command field {field:#06x}) that nobody waits for")
    if field == Field.C_CANCEL_RQ:
        return None
    request.number(dimse.MESSAGE_ID)
    if served == COMMITMENT and field in _COMMITMENT_REQUESTS:
        sop_class, sop_instance, kind, known, status = _COMMITMENT_REQUESTS[field]
        if request.uid(sop_class) != COMMITMENT:
            return _NO_SUCH_SOP_CLASS
        if request.uid(sop_instance) != COMMITMENT_INSTANCE:
            return _NO_SUCH_SOP_INSTANCE
        return None if request.has(kind) and request.number(kind) in known else status
    is_store, is_echo = field == Field.C_STORE_RQ, field == Field.C_ECHO_RQ
    if (is_store and served not in (VERIFICATION, COMMITMENT)) or (is_echo and served == VERIFICATION):
        return None
    return _SOP_CLASS_NOT_SUPPORTED if is_store or is_echo else _UNRECOGNIZED_OPERATION
