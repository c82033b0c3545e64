"""The services on an established association. C-STORE and C-ECHO are served here. Storage commitment goes to a stock
association (see stock.py), and so does, with `[scp] data_path = "stock"`, everything but instances that are not MR."""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.config.settings import SCPSettings
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

_STOCK_MESSAGES = frozenset({Field.N_ACTION_RQ, Field.N_EVENT_REPORT_RQ, Field.N_EVENT_REPORT_RSP})
_STOCK_CLASSES = MR | {VERIFICATION, COMMITMENT}
"""pynetdicom serves no SOP class that it does not know, so what is not MR is served here on both data paths."""
_UNRECOGNIZED_OPERATION, _SOP_CLASS_NOT_SUPPORTED = 0x0211, 0x0122
"""Statuses of PS3.7 annex C for requests that no service here takes."""


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
        others = context.abstract_syntax not in _STOCK_CLASSES
        if self._shared.settings.data_path == "stock" and not others:
            self._hand_over(message, request)
        elif request.field == Field.C_STORE_RQ and (others or context.abstract_syntax in MR):
            self._respond(context, request, self._store(context, request, message))
        elif request.field == Field.C_ECHO_RQ and context.abstract_syntax == VERIFICATION:
            self._respond(context, request, 0x0000)
        elif request.field in _STOCK_MESSAGES and context.abstract_syntax == COMMITMENT:
            self._hand_over(message, request)
        elif request.field == Field.C_CANCEL_RQ:
            pass  # nothing that could be cancelled runs longer than its request
        elif request.field & dimse.RESPONSE:
            raise InvalidDataError(f"a response (command field {request.field:#06x}) that nobody waits for")
        else:
            known = request.field in (Field.C_STORE_RQ, Field.C_ECHO_RQ)
            self._respond(context, request, _SOP_CLASS_NOT_SUPPORTED if known else _UNRECOGNIZED_OPERATION)

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
