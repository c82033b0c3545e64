"""The storage SCU: send derived instances to a destination, and say in words what became of each."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.config.settings import DestinationSettings
from node.dicom.part10 import Named, data_set_of, names_of
from node.dicom.read import Readable
from node.dicom.transfer_syntax import recode, to_bytes
from node.dimse.associations import Peer
from node.dimse.negotiation import VERIFICATION
from node.dimse.outgoing import OutgoingAssociation
from node.dimse.status import C_ECHO, C_STORE, Verdict, meaning, words

ECHO_CONTEXTS = [(VERIFICATION, str(ImplicitVRLittleEndian))]

_SILENCES = 2
"""So many instances without an answer in time, and the peer is taken to be stuck, not to stumble over one of them."""
_BREAKS = 3
"""Associations in a row that may end without an answer to any instance before the attempt ends."""
_KEPT_IN_MEMORY = 128 << 20
"""So many bytes of a delivery are not read again after all was read."""


@dataclass(frozen=True)
class SendResult:
    """What the peer answered for one instance. `status` is None where it was never asked."""

    instance: Readable
    sop_class_uid: str
    sop_uid: str
    status: int | None
    words: str
    verdict: Verdict

    @property
    def accepted(self) -> bool:
        return self.verdict is Verdict.ACCEPTED


def echo(destination: DestinationSettings, ae_title: str) -> None:
    """C-ECHO (PS3.7 9.1.5). Raises PeerError when the destination does not answer it with success."""
    peer = Peer.destination(destination, ae_title)
    with OutgoingAssociation(peer, ECHO_CONTEXTS) as association:
        status = association.echo(association.accepted_syntaxes(VERIFICATION)[str(ImplicitVRLittleEndian)])
    if status != 0x0000:
        answer = "no answer to the C-ECHO" if status is None else f"C-ECHO answered {words(C_ECHO, status)}"
        raise peer.error(answer, "check the peer's log")


def send(instances: Sequence[Readable], destination: DestinationSettings, ae_title: str) -> Iterator[SendResult]:
    """C-STORE instances (PS3.4 B), yielding what became of each as soon as it is known. A compressed instance is sent
    as it is kept to a peer that accepts that, else uncompressed. As many are under way at once as the peer grants and the
    destination's settings allow.

    When an association breaks, the unanswered instances are sent on a new one. The instance at which it broke goes
    last, so that one faulty instance cannot delay the others. An instance may thus be sent twice; the peer knows it by
    its UID. Raises PeerError when no association is granted, or too many break without an answer, and every error of
    reading an instance. All are read before the first is sent, so that nothing leaves when one of them is lost.
    """
    peer = Peer.destination(destination, ae_title)
    waiting = deque(_read(instances))
    breaks = silences = 0
    while waiting:
        contexts = storage_contexts(one.named for one in waiting)
        with OutgoingAssociation(peer, contexts, destination.outstanding) as association:
            asked: dict[int, _Waiting] = {}
            while association.is_established and (waiting or asked):
                asked_at = time.monotonic()
                while waiting and association.is_established and len(asked) < association.window:
                    one = waiting.popleft()
                    named = one.named
                    syntax, said = _syntax_for(association, named)
                    if syntax is None:
                        yield SendResult(one.instance, named.sop_class_uid, named.sop_uid, None, said, Verdict.REFUSED)
                        continue
                    context_id = association.accepted_syntaxes(named.sop_class_uid)[syntax]
                    data_set = _encoded(one, syntax)
                    asked[association.store(context_id, named.sop_class_uid, named.sop_uid, data_set)] = one
                answer = association.stored() if asked else None
                if answer is None:
                    silences += bool(asked) and time.monotonic() - asked_at >= destination.timeout_s
                    break
                message, status = answer
                one = asked.pop(message)
                breaks = silences = 0
                verdict, said = meaning(C_STORE, status).verdict, words(C_STORE, status)
                yield SendResult(one.instance, one.named.sop_class_uid, one.named.sop_uid, status, said, verdict)
            waiting.extendleft(reversed(asked.values()))
        if waiting:
            waiting.rotate(-1)
            breaks += 1
            if silences >= min(_SILENCES, len(waiting)):
                what = (
                    f"no answer to a C-STORE within {destination.timeout_s:g} s, {len(waiting)} instances are not sent"
                )
                raise peer.error(what, "check the peer's log, and [[destinations]] timeout_s")
            if breaks == _BREAKS:
                what = f"the association broke {breaks} times without an answer, {len(waiting)} instances are not sent"
                raise peer.error(what, "check the peer's log, and [[destinations]] timeout_s")


def storage_contexts(instances: Iterable[Named]) -> list[tuple[str, str]]:
    """The presentation contexts to send these instances: as they are kept and in both uncompressed syntaxes, each in a
    context of its own."""
    contexts = dict.fromkeys(
        (named.sop_class_uid, str(syntax))
        for named in instances
        for syntax in (named.transfer_syntax_uid, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    )
    return list(contexts)


@dataclass(frozen=True)
class _Waiting:
    """An instance to be sent."""

    instance: Readable
    named: Named
    content: bytes | None
    """Its file, where it is kept in memory from the first reading."""


def _read(instances: Iterable[Readable]) -> Iterator[_Waiting]:
    left = _KEPT_IN_MEMORY
    for instance in instances:
        content = instance.content()
        left -= len(content)
        yield _Waiting(instance, _named(instance, content), content if left >= 0 else None)


def _named(instance: Readable, content: bytes) -> Named:
    """By its file meta information, else by its data set."""
    named = names_of(content)
    if named is None:
        header = instance.read_header()
        syntax = header.file_meta.TransferSyntaxUID
        named = Named(str(header.SOPClassUID), str(header.SOPInstanceUID), str(syntax))
    return named


def _syntax_for(association: OutgoingAssociation, named: Named) -> tuple[UID | None, str]:
    """The transfer syntax in which to send an instance; None, and why, when the peer takes it in none."""
    sop_class, kept = UID(named.sop_class_uid), UID(named.transfer_syntax_uid)
    taken = association.accepted_syntaxes(named.sop_class_uid)
    if not taken:
        return None, f"the peer does not accept {sop_class.name}"
    for syntax in (kept, ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        if syntax in taken:
            return syntax, ""
    return None, f"the peer does not accept {sop_class.name} in {kept.name}"


def _encoded(one: _Waiting, syntax: UID) -> memoryview:
    """The data set in a transfer syntax: the bytes that are kept where it is theirs."""
    data_set = data_set_of(one.content or one.instance.content()) if syntax == one.named.transfer_syntax_uid else None
    if data_set is None:
        data_set = data_set_of(to_bytes(recode(one.instance.read_instance(), syntax)))
        assert data_set is not None  # pydicom writes the group length
    return data_set
