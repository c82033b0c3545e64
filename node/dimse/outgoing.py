"""An association on which the node stores instances, from the connection to the release: PS3.8 as the requestor, with data
sets sent as the bytes they are kept in.

pynetdicom decodes every data set and encodes it again, and its reactor wakes every few milliseconds: that takes several times
as long as the wire does. Commitment, queries and retrieval still use it, see associations.py."""

import socket
import ssl
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from pynetdicom.pdu_primitives import A_ASSOCIATE

from node.certificates import client_context
from node.dimse import pdu
from node.dimse.associations import (
    CLOSED_AT_ONCE,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    TLS_FAILED,
    Peer,
    cannot_connect,
    host_not_found,
    no_answer,
    no_connection,
    none_accepted,
    rejected,
)
from node.dimse.command import (
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    MESSAGE_ID,
    MESSAGE_ID_RESPONDED_TO,
    NO_DATA_SET,
    PRIORITY,
    RESPONSE,
    STATUS,
    Field,
    MalformedCommandError,
    encode,
)
from node.dimse.message import Incoming, InvalidDataError, TooLargeError
from node.dimse.negotiation import (
    MAX_REQUEST,
    P_DATA_OVERHEAD,
    VERIFICATION,
    ContextResult,
    MalformedError,
    Proposal,
    Request,
    decode_accept,
    encode_request,
)
from node.dimse.pdu import AbortSource, PDUType
from node.dimse.stream import Stream, StreamClosedError, StreamTimeoutError, TLSStream

_OUR_PDU = 1 << 16
"""Longest P-DATA PDU that we take; answers are a few hundred bytes."""
_LARGEST_PDU = 1 << 17
"""Longest that we send, also to a peer that takes longer ones."""
_WRITTEN_AT_ONCE = 1 << 18
_UNSIGNED = struct.Struct("<H")
_HAS_DATA_SET = 0x0001
_MEDIUM_PRIORITY = 0x0000


class OutgoingAssociation:
    """An established association as a context manager: released at the end, aborted after an error.

    `contexts` are (abstract syntax, transfer syntax), with one presentation context per transfer syntax: within one context
    the peer would choose, and some peers choose what they cannot decode. Raises PeerError when it is not granted, ConfigError
    for certificates that cannot be used.
    """

    def __init__(self, peer: Peer, contexts: Iterable[tuple[str, str]], outstanding: int = 1) -> None:
        """`outstanding` operations are asked for to be under way at once; `window` says how many may be."""
        self._peer = peer
        self._header = memoryview(bytearray(pdu.HEADER_LENGTH))
        self._incoming = Incoming(_OUR_PDU)
        self._messages = 0
        self._unanswered: set[int] = set()
        self.window = outstanding
        self.is_established = False
        proposals = [Proposal(2 * i + 1, abstract, (syntax,)) for i, (abstract, syntax) in enumerate(contexts)]
        self._stream = _connect(peer)
        try:
            self._negotiate(proposals)
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.is_established:
                self._release() if error is None else self._write_farewell(pdu.abort(AbortSource.USER))
        finally:
            self.is_established = False
            self._stream.close()

    def accepted_syntaxes(self, sop_class_uid: str) -> dict[str, int]:
        """The presentation contexts that the peer accepted for a SOP class, by transfer syntax."""
        return self._accepted.get(sop_class_uid, {})

    def echo(self, context_id: int) -> int | None:
        """C-ECHO (PS3.7 9.3.5): the status; None when the association ended before the answer."""
        self._ask(Field.C_ECHO_RQ, context_id, VERIFICATION)
        answer = self._answer_to(Field.C_ECHO_RQ)
        return None if answer is None else answer[1]

    def store(self, context_id: int, sop_class_uid: str, sop_uid: str, data_set: memoryview) -> int:
        """C-STORE (PS3.7 9.3.1) of a data set that is encoded in the transfer syntax of that context: the message's ID, to
        which `stored` has the answer. No more than `window` of them may be without an answer."""
        return self._ask(Field.C_STORE_RQ, context_id, sop_class_uid, sop_uid, data_set)

    def stored(self) -> tuple[int, int] | None:
        """The next answer to a C-STORE: (message ID, status); None when the association ended before."""
        return self._answer_to(Field.C_STORE_RQ)

    def _negotiate(self, proposals: list[Proposal]) -> None:
        peer = self._peer
        request = Request(
            called=peer.ae_title,
            calling=peer.calling_ae_title,
            proposals=proposals,
            max_length=_OUR_PDU,
            outstanding=self.window,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version=IMPLEMENTATION_VERSION_NAME,
        )
        try:
            self._stream.write(encode_request(request), peer.timeout_s)
            header = pdu.read_header(self._stream, self._header, MAX_REQUEST, peer.timeout_s)
            body = b"" if header is None else self._rest_of(header)
        except StreamTimeoutError:
            raise peer.error(*no_answer(peer)) from None
        except StreamClosedError:
            header = None
        if header is None:
            raise peer.error(*(TLS_FAILED if peer.tls else CLOSED_AT_ONCE))  # TLS 1.3 refuses a certificate only now
        if header.kind == PDUType.ASSOCIATE_RJ:
            raise peer.error(*rejected(_reason_of(body)))
        try:
            if header.kind != PDUType.ASSOCIATE_AC:
                raise MalformedError("it is not one")
            accepted = decode_accept(body)
        except MalformedError:
            self._write_farewell(pdu.abort(AbortSource.USER))
            raise peer.error(
                "the answer to the association request is not DICOM", "check that it is a DICOM port"
            ) from None
        self._longest_value = min(accepted.max_length or _LARGEST_PDU, _LARGEST_PDU) - P_DATA_OVERHEAD
        self.window = min(accepted.outstanding or self.window, self.window)
        self._accepted: dict[str, dict[str, int]] = {}
        for proposal in proposals:
            if accepted.results.get(proposal.context_id) is ContextResult.ACCEPTED:
                of_class = self._accepted.setdefault(proposal.abstract_syntax, {})
                of_class[proposal.transfer_syntaxes[0]] = proposal.context_id
        if not self._accepted:
            self._write_farewell(pdu.abort(AbortSource.USER))
            raise peer.error(*none_accepted(proposal.abstract_syntax for proposal in proposals))
        self.is_established = True

    def _ask(
        self,
        field: Field,
        context_id: int,
        sop_class_uid: str,
        sop_uid: str = "",
        data_set: memoryview | None = None,
    ) -> int:
        """Send a request; its message ID. When the association breaks over it, there is no answer."""
        self._messages = self._messages % 0xFFFF + 1
        self._unanswered.add(self._messages)
        command = {
            AFFECTED_SOP_CLASS_UID: sop_class_uid.encode("ascii", "replace"),
            COMMAND_FIELD: _UNSIGNED.pack(field),
            MESSAGE_ID: _UNSIGNED.pack(self._messages),
        }
        if data_set is None:
            command[DATA_SET_TYPE] = _UNSIGNED.pack(NO_DATA_SET)
        else:
            command[PRIORITY] = _UNSIGNED.pack(_MEDIUM_PRIORITY)
            command[DATA_SET_TYPE] = _UNSIGNED.pack(_HAS_DATA_SET)
            command[AFFECTED_SOP_INSTANCE_UID] = sop_uid.encode("ascii", "replace")
        try:
            for block in self._blocks(context_id, encode(command), data_set):
                self._stream.write(block, self._peer.timeout_s)
        except (StreamClosedError, StreamTimeoutError):
            self._break()
        return self._messages

    def _answer_to(self, field: Field) -> tuple[int, int] | None:
        """(message ID, status) of the next response to a request of that kind."""
        answer = None
        if self.is_established:
            with suppress(
                StreamClosedError, StreamTimeoutError, InvalidDataError, TooLargeError, MalformedCommandError
            ):
                answer = self._answer(field | RESPONSE)
            if answer is None:
                self._break()
        return answer

    def _break(self) -> None:
        self.is_established = False
        self._write_farewell(pdu.abort(AbortSource.USER))

    def _blocks(self, context_id: int, command: bytes, data_set: memoryview | None) -> Iterator[bytes]:
        """The PDUs of a message, several in one block: each block is one system call, and no more memory than that."""
        block: list[bytes | memoryview] = [pdu.p_data(context_id, command, command=True)]
        size, most = len(block[0]), self._longest_value
        for at in range(0, 0 if data_set is None else len(data_set), most):
            assert data_set is not None
            value = data_set[at : at + most]
            block += [pdu.p_data_head(context_id, len(value), command=False, last=at + most >= len(data_set)), value]
            size += len(value)
            if size >= _WRITTEN_AT_ONCE:
                yield b"".join(block)
                block, size = [], 0
        if block:
            yield b"".join(block)

    def _answer(self, wanted: int) -> tuple[int, int] | None:
        """(message ID, status) of the next response; None when the peer ends the association instead."""
        while True:
            header = pdu.read_header(self._stream, self._header, _OUR_PDU + P_DATA_OVERHEAD, self._peer.timeout_s)
            self._stream.acknowledge_at_once()  # a peer with Nagle's algorithm keeps the rest of its answer until then
            if header is None or header.kind != PDUType.P_DATA:
                return None
            if self._incoming.read(self._stream, header, self._peer.timeout_s):
                command = self._incoming.command
                if command is None or command.field != wanted:
                    return None
                # Without a window there is one request, whatever the number that it is answered under.
                message = self._messages if self.window == 1 else command.number(MESSAGE_ID_RESPONDED_TO)
                status = command.number(STATUS)
                self._incoming.proceed()
                if message not in self._unanswered:
                    return None
                self._unanswered.remove(message)
                return message, status

    def _rest_of(self, header: pdu.Header) -> bytes:
        """The body of the PDU whose header was read last; nothing of one that is too long to be an answer."""
        if not 4 <= header.length <= MAX_REQUEST:
            return b""
        rest = memoryview(bytearray(header.length - 4))
        self._stream.fill(rest, self._peer.timeout_s)
        return bytes(self._header[6:]) + bytes(rest)

    def _release(self) -> None:
        """A-RELEASE: what the peer still sends before its answer is not awaited for long."""
        with suppress(StreamClosedError, StreamTimeoutError):
            self._stream.write(pdu.RELEASE_RQ, self._peer.timeout_s)
            pdu.read_header(self._stream, self._header, _OUR_PDU + P_DATA_OVERHEAD, self._peer.timeout_s)

    def _write_farewell(self, last: bytes) -> None:
        with suppress(StreamClosedError, StreamTimeoutError):
            self._stream.write(last, 1.0)


def _connect(peer: Peer) -> Stream:
    context = client_context(peer.tls, f"{peer.entry}: tls") if peer.tls else None
    try:
        connection = socket.create_connection((peer.host, peer.port), timeout=peer.timeout_s)
    except socket.gaierror as error:
        raise peer.error(*host_not_found(error)) from None
    except TimeoutError:
        raise peer.error(*no_connection(peer)) from None
    except OSError as error:
        raise peer.error(*cannot_connect(error)) from None
    stream = Stream(connection)
    stream.prepare()
    if context is None:
        return stream
    secured = context.wrap_socket(connection, server_hostname=peer.host, do_handshake_on_connect=False)
    stream = TLSStream(secured)
    try:
        stream.handshake(peer.timeout_s)
    except (ssl.SSLError, StreamClosedError, StreamTimeoutError) as error:
        stream.close()
        what, check = TLS_FAILED
        why = getattr(error, "verify_message", "")
        raise peer.error(f"{what} ({why})" if why else what, check) from None
    return stream


def _reason_of(body: bytes) -> str:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21) in words."""
    answer = A_ASSOCIATE()
    try:
        answer.result, answer.result_source, answer.diagnostic = body[1], body[2], body[3]
        return f"{answer.result_str.lower()}: {answer.reason_str.lower()}"
    except (IndexError, ValueError, KeyError):  # values that the standard does not have
        return "for a reason that the standard does not have"
