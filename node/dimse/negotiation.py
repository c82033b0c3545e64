"""A-ASSOCIATE-RQ and A-ASSOCIATE-AC (PS3.8 section 9.3.2, PS3.7 annex D), and how an acceptor chooses.

pynetdicom would do the same, but needs 65 ms for a request of 128 presentation contexts and 3.4 s for one of a megabyte,
which any stranger may send."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from pydicom.uid import ImplicitVRLittleEndian

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
"""DICOM's only application context name (PS3.7 A.2.1)."""

VERIFICATION = "1.2.840.10008.1.1"
"""SOP class of C-ECHO (PS3.4 annex A)."""

MAX_REQUEST = 1 << 20
"""Bytes of an A-ASSOCIATE-RQ: 128 contexts of thirty transfer syntaxes are a tenth of it."""

P_DATA_OVERHEAD = 6
"""Bytes of a P-DATA PDU's body before the first byte of its value."""

_FIXED = struct.Struct(">H2x16s16s32x")


class MalformedError(Exception):
    """The body of an A-ASSOCIATE PDU is malformed; the message says where."""


class ContextResult(IntEnum):
    """Of a presentation context (PS3.8 table 9-18)."""

    ACCEPTED = 0
    USER_REJECTION = 1
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True)
class Proposal:
    """A presentation context as a requestor proposes it."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """An A-ASSOCIATE-RQ."""

    called: str
    calling: str
    """AE titles as text; what no AE title may contain is escaped with a backslash, which none may contain either."""
    proposals: Sequence[Proposal]
    max_length: int
    """Of the P-DATA PDUs that the requestor accepts; 0 means no limit."""
    implementation_class_uid: str = ""
    implementation_version: str = ""
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    """SOP class: whether the requestor would be its (SCU, SCP) (PS3.7 D.3.3.4)."""
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1
    titles: bytes = b""
    """Called and calling AE title as they came, which the answer repeats."""
    outstanding: int = 1
    """Operations that the requestor would like to have under way at once (PS3.7 D.3.3.3); 1: it does not ask."""


@dataclass(frozen=True)
class Acceptance:
    """An A-ASSOCIATE-AC."""

    results: Mapping[int, ContextResult]
    """Of each presentation context."""
    max_length: int
    """Of the P-DATA PDUs that the acceptor takes; 0 means no limit."""
    outstanding: int
    """Operations that it lets the requestor have under way at once; 0 means no limit."""


@dataclass(frozen=True)
class Context:
    """A presentation context as it was negotiated."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    result: ContextResult


def decode_request(body: bytes) -> Request:
    """Read the body of an A-ASSOCIATE-RQ. MalformedError when it is not one."""
    if len(body) < _FIXED.size:
        raise MalformedError("it is too short")
    version, called, calling = _FIXED.unpack_from(body)
    application_context = ""
    proposals: dict[int, Proposal] = {}
    user: bytes = b""
    for kind, value in _items(body, _FIXED.size):
        if kind == 0x10:
            application_context = _uid(value)
        elif kind == 0x20:
            proposal = _proposal(value)
            if proposal.context_id in proposals:
                raise MalformedError(f"presentation context {proposal.context_id} is there twice")
            proposals[proposal.context_id] = proposal
        elif kind == 0x50:
            user = value
    max_length, class_uid, version_name, roles, _ = _user_information(user)
    return Request(
        called=_title(called),
        calling=_title(calling),
        proposals=tuple(proposals.values()),
        max_length=max_length,
        implementation_class_uid=class_uid,
        implementation_version=version_name,
        roles=roles,
        application_context=application_context,
        protocol_version=version,
        titles=called + calling,
    )


def negotiate(
    request: Request, supported: Mapping[str, Sequence[str]], both_roles: frozenset[str] = frozenset()
) -> list[Context]:
    """The answer to each proposal, with the first of our transfer syntaxes that is proposed. For the SOP classes of
    `both_roles` the requestor may select its roles; for the others it is the SCU, whatever it selects."""
    contexts = []
    for proposal in request.proposals:
        ours = supported.get(proposal.abstract_syntax)
        syntax, result = str(ImplicitVRLittleEndian), ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
        if ours is not None:
            proposed, roles = set(proposal.transfer_syntaxes), request.roles.get(proposal.abstract_syntax)
            taken = next((one for one in ours if one in proposed), None)
            if taken is None:
                result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
            elif proposal.abstract_syntax in both_roles and roles == (False, False):
                result = ContextResult.USER_REJECTION
            else:
                syntax, result = taken, ContextResult.ACCEPTED
        contexts.append(Context(proposal.context_id, proposal.abstract_syntax, syntax, result))
    return contexts


def encode_accept(
    request: Request,
    contexts: Sequence[Context],
    max_length: int,
    implementation: tuple[str, str],
    both_roles: frozenset[str] = frozenset(),
) -> bytes:
    """A-ASSOCIATE-AC. `implementation` is our (class UID, version name)."""
    items = _item(0x10, APPLICATION_CONTEXT.encode())
    for context in contexts:
        chosen = _item(0x40, context.transfer_syntax.encode())
        items += _item(0x21, bytes([context.context_id, 0, context.result, 0]) + chosen)
    accepted = {context.abstract_syntax for context in contexts if context.result is ContextResult.ACCEPTED}
    granted = {uid: roles for uid, roles in request.roles.items() if uid in accepted & both_roles}
    items += _item(0x50, _encode_user_information(max_length, implementation, granted))
    body = struct.pack(">H2x", 1) + request.titles + bytes(32) + items
    return struct.pack(">BxL", 2, len(body)) + body


def encode_request(request: Request) -> bytes:
    """A-ASSOCIATE-RQ."""
    items = _item(0x10, request.application_context.encode())
    for proposal in request.proposals:
        syntaxes = b"".join(_item(0x40, syntax.encode()) for syntax in proposal.transfer_syntaxes)
        abstract = _item(0x30, proposal.abstract_syntax.encode())
        items += _item(0x20, bytes([proposal.context_id, 0, 0, 0]) + abstract + syntaxes)
    implementation = request.implementation_class_uid, request.implementation_version
    user = _encode_user_information(request.max_length, implementation, request.roles, request.outstanding)
    items += _item(0x50, user)
    titles = request.called.encode().ljust(16) + request.calling.encode().ljust(16)
    body = struct.pack(">H2x", request.protocol_version) + titles + bytes(32) + items
    return struct.pack(">BxL", 1, len(body)) + body


def decode_accept(body: bytes) -> Acceptance:
    """Read the body of an A-ASSOCIATE-AC. MalformedError when it is not one. A result that the standard does not have counts
    as a rejection."""
    if len(body) < _FIXED.size:
        raise MalformedError("it is too short")
    results: dict[int, ContextResult] = {}
    user = b""
    for kind, value in _items(body, _FIXED.size):
        if kind == 0x21:
            if len(value) < 4:
                raise MalformedError("a presentation context is too short")
            results[value[0]] = ContextResult.ACCEPTED if value[2] == 0 else ContextResult.USER_REJECTION
        elif kind == 0x50:
            user = value
    max_length, *_, outstanding = _user_information(user)
    return Acceptance(results, max_length, outstanding)


def _items(body: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each item; MalformedError when one is longer than what holds it."""
    end = len(body)
    while at < end:
        if at + 4 > end:
            raise MalformedError("it ends within an item")
        length = int.from_bytes(body[at + 2 : at + 4], "big")
        if at + 4 + length > end:
            raise MalformedError(f"an item of type 0x{body[at]:02X} is longer than what holds it")
        yield body[at], body[at + 4 : at + 4 + length]
        at += 4 + length


def _proposal(value: bytes) -> Proposal:
    if len(value) < 4 or value[0] % 2 == 0:
        raise MalformedError("the ID of a presentation context is not an odd number")
    abstract_syntax = ""
    transfer_syntaxes = []
    for kind, uid in _items(value, 4):
        if kind == 0x30:
            abstract_syntax = _uid(uid)
        elif kind == 0x40:
            transfer_syntaxes.append(_uid(uid))
    if not abstract_syntax or not transfer_syntaxes:
        raise MalformedError(f"presentation context {value[0]} has no abstract or no transfer syntax")
    return Proposal(value[0], abstract_syntax, tuple(transfer_syntaxes))


def _user_information(body: bytes) -> tuple[int, str, str, dict[str, tuple[bool, bool]], int]:
    """(maximum length, implementation class UID, implementation version name, roles, operations under way at once)."""
    max_length, class_uid, version_name, outstanding = 0, "", "", 1
    roles: dict[str, tuple[bool, bool]] = {}
    for kind, value in _items(body):
        if kind == 0x51:
            if len(value) != 4:
                raise MalformedError("the maximum length is not four bytes")
            max_length = int.from_bytes(value, "big")
            if 0 < max_length <= P_DATA_OVERHEAD:
                raise MalformedError(f"no message fits into PDUs of {max_length} bytes")
        elif kind == 0x52:
            class_uid = _uid(value)
        elif kind == 0x53 and len(value) == 4:
            outstanding = int.from_bytes(value[:2], "big")
        elif kind == 0x54:
            length = int.from_bytes(value[:2], "big")
            if len(value) != length + 4:
                raise MalformedError("a role selection has another length than its UID says")
            roles[_uid(value[2:-2])] = value[-2] == 1, value[-1] == 1
        elif kind == 0x55:
            version_name = _title(value)
    return max_length, class_uid, version_name, roles, outstanding


def _encode_user_information(
    max_length: int, implementation: tuple[str, str], roles: Mapping[str, tuple[bool, bool]], outstanding: int = 1
) -> bytes:
    class_uid, version_name = implementation
    items = _item(0x51, max_length.to_bytes(4, "big"))
    if class_uid:
        items += _item(0x52, class_uid.encode())
    if outstanding > 1:
        items += _item(0x53, struct.pack(">HH", outstanding, 1))  # invoked and performed by us
    for uid, (scu, scp) in roles.items():
        items += _item(0x54, len(uid).to_bytes(2, "big") + uid.encode() + bytes([scu, scp]))
    if version_name:
        items += _item(0x55, version_name.encode())
    return items


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _uid(value: bytes) -> str:
    """A UID as text, whatever it is padded with. Of something else only what can be shown."""
    return value[:64].rstrip(b"\0 ").decode("ascii", "replace")


def _title(value: bytes) -> str:
    text = value[:64].rstrip(b"\0").decode("ascii", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text).strip(" ")
