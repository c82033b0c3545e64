"""One association from its first byte to its last: the acceptor's side of the upper layer (PS3.8 section 9.2). services.py
does what the messages ask for.

States: awaiting a request (Sta2), established (Sta6), awaiting the peer to close (Sta13)."""

import math
import time

import structlog
from pydicom.uid import UID

from node.dimse import pdu
from node.dimse.associations import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dimse.command import MalformedCommandError
from node.dimse.message import Incoming, InvalidDataError, TooLargeError
from node.dimse.negotiation import (
    MAX_REQUEST,
    VERIFICATION,
    ContextResult,
    MalformedError,
    Request,
    decode_request,
    encode_accept,
    negotiate,
)
from node.dimse.pdu import AbortReason, AbortSource, Header, PDUType
from node.dimse.stream import Stream, StreamClosedError, StreamTimeoutError
from node.receive.contexts import BOTH_ROLES, COMMITMENT, supported
from node.receive.policy import Caller, Refusal, Rejection
from node.receive.services import Services, Shared
from node.receive.slots import Visitor
from node.telemetry.log import place_of

log = structlog.get_logger()

LINGER_S = 1.0
"""How long a peer that was rejected or aborted has to close the connection."""
SLACK = 12
"""Some peers count the headers into the length of a PDU, others do not: a P-DATA may be this many bytes longer than agreed."""


_WHOSE = {"max_associations_per_address": " from its address", "max_associations_per_ae_title": " under its AE title"}
"""Which associations a limit counts."""


class _AbortError(Exception):
    """The association is to be aborted by us."""

    def __init__(self, reason: AbortReason, words: str, check: str, source: AbortSource = AbortSource.PROVIDER) -> None:
        super().__init__(words)
        self.pdu = pdu.abort(source, reason)
        self.check = check


class _PeerAbortError(Exception):
    """The peer has aborted."""


class Association:
    """The acceptor's side of one association. `serve` does all of it, in the thread that calls it."""

    def __init__(self, shared: Shared, stream: Stream, visitor: Visitor) -> None:
        self._shared = shared
        self._settings = shared.settings
        self._stream = stream
        self._visitor = visitor
        self._header = memoryview(bytearray(pdu.HEADER_LENGTH))
        self._log = log.bind(host=visitor.address)
        self._services: Services | None = None

    def serve(self) -> None:
        """Negotiate, take what is sent, and end in order, whatever the peer does. Raises nothing."""
        try:
            if self._negotiate():
                self._transfer()
        except _AbortError as abort:
            self._end_by_abort(abort.pdu, str(abort), abort.check)
        except _PeerAbortError:
            if self._visitor.associated:
                check = "acknowledged instances are kept; if the peer aborted, its log has the reason"
                self._log.warning("association.ended_by_abort", check=check)
        except StreamTimeoutError:
            self._end_late()
        except StreamClosedError:
            self._end_cut()
        except Exception as error:  # a mistake of ours: it costs this association, no other
            self._log.error("association.crashed", error=type(error).__name__, where=place_of(error))
            self._answer(pdu.abort(AbortSource.PROVIDER))
        finally:
            if self._services is not None:
                self._services.close()
            self._shared.slots.part(self._visitor)
            self._stream.finish(LINGER_S)

    # ------------------------------------------------------------------ Sta2: awaiting a request

    def _negotiate(self) -> bool:
        header = pdu.read_header(self._stream, self._header, MAX_REQUEST, self._settings.acse_timeout_s)
        if header is None:
            if self._visitor.evicted:
                raise StreamClosedError
            return False  # a load balancer's probe connects and leaves
        if header.kind == PDUType.ABORT:
            raise _PeerAbortError
        if header.kind != PDUType.ASSOCIATE_RQ:
            # AA-1 of PS3.8 table 9-9: the source is the user, whatever came.
            check = "check that the peer speaks DICOM, and uses TLS on both sides or on neither"
            words = f"it began with {_first_bytes(header)}, not with an association request"
            raise _AbortError(AbortReason.NOT_SPECIFIED, words, check, AbortSource.USER)
        if header.length > MAX_REQUEST:
            words = f"its association request claims {header.length} bytes"
            check = f"more than {MAX_REQUEST} are not read; check that the peer speaks DICOM"
            raise _AbortError(AbortReason.NOT_SPECIFIED, words, check, AbortSource.USER)
        rest = memoryview(bytearray(max(0, header.length - 4)))
        self._stream.fill(rest, self._settings.acse_timeout_s)
        try:
            request = decode_request(bytes(self._header[6:]) + bytes(rest))
        except MalformedError as error:
            words, check = f"its association request is malformed: {error}", "check that the peer speaks DICOM"
            raise _AbortError(AbortReason.NOT_SPECIFIED, words, check, AbortSource.USER) from None
        self._log = self._log.bind(source=request.calling)
        caller = self._shared.policy.judge(request, self._visitor.address, self._stream.certificate())
        if not isinstance(caller, Refusal):
            caller = self._take_slot(request) or caller
        if isinstance(caller, Refusal):
            self._log.warning("association.rejected", reason=caller.reason, check=caller.check)
            self._answer(pdu.reject(*caller.rejection.value))
            self._shared.store.rejected(request.calling, self._visitor.address, caller.reason)
            return False
        self._accept(request, caller)
        return True

    def _take_slot(self, request: Request) -> Refusal | None:
        if self._shared.is_draining():
            return Refusal(Rejection.TEMPORARY_CONGESTION, "the service is stopping", "the peer may try again later")
        brings = any(proposal.abstract_syntax not in (VERIFICATION, COMMITMENT) for proposal in request.proposals)
        if brings and (full := self._shared.store.full()):
            return Refusal(Rejection.TEMPORARY_CONGESTION, full, "free some space; the peer may try again later")
        limit = self._shared.slots.associate(self._visitor, request.calling)
        if limit is None:
            return None
        count = getattr(self._settings, limit)
        where = _WHOSE.get(limit, "")
        return Refusal(
            Rejection.LOCAL_LIMIT_EXCEEDED,
            f"{count} associations{where} are open already",
            f"the peer may try again; raise [scp] {limit} if this happens often",
        )

    def _accept(self, request: Request, caller: Caller | None) -> None:
        may_commit = caller is not None and caller.commits
        offered = supported((proposal.abstract_syntax for proposal in request.proposals), self._settings)
        if not may_commit:
            del offered[COMMITMENT]
        contexts = negotiate(request, offered, BOTH_ROLES)
        implementation = IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
        answer = encode_accept(request, contexts, self._settings.max_pdu, implementation, BOTH_ROLES)
        accepted = [context for context in contexts if context.result is ContextResult.ACCEPTED]
        self._services = Services(self._shared, self._stream, self._visitor, request, accepted)
        self._incoming = Incoming(self._settings.max_instance_mb * 1_000_000, self._services.drops)
        self._stream.write(answer, self._settings.acse_timeout_s)
        taken = {context.abstract_syntax for context in accepted}
        others = sorted({UID(c.abstract_syntax).name for c in contexts if c.abstract_syntax not in taken})
        if taken:
            self._log.info("association.accepted", called=request.called, other_sop_classes=len(others))
            self._log.debug("association.other_sop_classes", names=others)
        else:
            check = "send MR from this peer; diffmsr-node conformance lists what is accepted"
            self._log.warning("association.without_use", names=others[:5], check=check)

    # ------------------------------------------------------------------ Sta6: established

    def _transfer(self) -> None:
        settings, stream, incoming = self._settings, self._stream, self._incoming
        longest = settings.max_pdu + SLACK
        while True:
            within_s = settings.network_timeout_s if incoming.context_id is None else settings.dimse_timeout_s
            header = pdu.read_header(stream, self._header, longest, within_s)
            if header is None:
                raise StreamClosedError
            if header.kind == PDUType.P_DATA:
                if header.length > longest:
                    words = f"a P-DATA PDU of {header.length} bytes, where {settings.max_pdu} were agreed"
                    raise _AbortError(AbortReason.INVALID_PARAMETER, words, "report it to the vendor of the peer")
                self._take(header)
                stream.acknowledge_at_once()
            elif header.kind == PDUType.RELEASE_RQ:
                self._answer(pdu.RELEASE_RP)
                self._log.debug("association.released")
                return
            elif header.kind == PDUType.ABORT:
                raise _PeerAbortError
            else:
                known = PDUType.ASSOCIATE_RQ <= header.kind <= PDUType.ABORT
                reason = AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNIZED_PDU
                words = f"{_first_bytes(header)} within an association"
                raise _AbortError(reason, words, "report it to the vendor of the peer")

    def _take(self, header: Header) -> None:
        """A P-DATA PDU, and each message that ends in it."""
        assert self._services is not None
        self._visitor.idle_since = math.inf
        try:
            whole = self._incoming.read(self._stream, header, self._settings.dimse_timeout_s)
            while whole:
                self._services.serve(self._incoming)
                whole = self._incoming.proceed()
                if self._incoming.context_id is None:
                    self._visitor.idle_since = time.monotonic()
        except (InvalidDataError, MalformedCommandError) as error:
            check = "report it to the vendor of the peer"
            raise _AbortError(AbortReason.INVALID_PARAMETER, str(error), check) from None
        except TooLargeError:
            limit = self._settings.max_instance_mb
            words = f"an instance is larger than [scp] max_instance_mb = {limit}"
            check = "raise it if such instances are to be received"
            raise _AbortError(AbortReason.NOT_SPECIFIED, words, check, AbortSource.USER) from None

    # ------------------------------------------------------------------ the ends

    def _end_by_abort(self, answer: bytes, reason: str, check: str) -> None:
        self._log.warning("association.aborted", reason=reason, check=check)
        self._answer(answer)

    def _end_late(self) -> None:
        if not self._visitor.associated:
            # AA-2 of PS3.8 table 9-9: closed without a word.
            limit = self._settings.acse_timeout_s
            reason = f"no whole association request within {limit:g} s"
            self._log.warning("connection.closed", reason=reason, check="check what connects from there")
            return
        if self._incoming.context_id is None:
            reason = f"idle for {self._settings.network_timeout_s:g} s"
            check = "the peer may associate again; raise [scp] network_timeout_s if this happens often"
        else:
            reason = f"a message that was not continued within {self._settings.dimse_timeout_s:g} s"
            check = "check the peer, and the network between"
        self._end_by_abort(pdu.abort(AbortSource.PROVIDER), reason, check)

    def _end_cut(self) -> None:
        if self._visitor.evicted:
            self._log.warning("connection.closed", reason=self._visitor.evicted, check="see [scp] in the configuration")
        elif self._visitor.associated:
            check = "what was acknowledged is kept; check the peer, and the network between"
            self._log.warning("association.cut", reason="the connection ended without a release", check=check)
        else:
            reason = "the connection ended within an association request"
            self._log.warning("connection.closed", reason=reason, check="check what connects from there")

    def _answer(self, answer: bytes) -> None:
        """The last PDU of an association; a peer that has left misses nothing."""
        try:
            self._stream.write(answer, LINGER_S)
        except (StreamClosedError, StreamTimeoutError):
            return


def _first_bytes(header: Header) -> str:
    if header.kind == 0x16:
        return "a TLS handshake"
    names = {kind.value: f"an {kind.name.replace('_', '-')} PDU" for kind in PDUType}
    return names.get(header.kind, f"PDU type 0x{header.kind:02X} (unknown)")
