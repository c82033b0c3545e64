"""The storage SCU: send derived instances to a destination, and say in words what became of each."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import time

from node.config.settings import DestinationSettings
from node.dicom.read import Readable
from node.dicom.text import keep_bytes
from node.dicom.transfer_syntax import recode
from node.dimse.associations import Peer, associate
from node.dimse.status import C_ECHO, C_STORE, Verdict, meaning, words

ECHO_CONTEXTS = [(str(Verification), str(ImplicitVRLittleEndian))]

_SILENCES = 2
"""So many instances without an answer in time, and the peer is taken to be stuck, not to stumble over one of them."""
_BREAKS = 3
"""Associations in a row that may end without an answer to any instance before the attempt ends."""


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
    with associate(peer, ECHO_CONTEXTS) as association:
        status = association.send_c_echo().get("Status")
    if status != 0x0000:
        answer = "no answer to the C-ECHO" if status is None else f"C-ECHO answered {words(C_ECHO, status)}"
        raise peer.error(answer, "check the peer's log")


def send(instances: Sequence[Readable], destination: DestinationSettings, ae_title: str) -> Iterator[SendResult]:
    """C-STORE instances (PS3.4 B), yielding what became of each as soon as it is known. A compressed instance is sent
    as it is kept to a peer that accepts that, else uncompressed.

    When an association breaks, the unanswered instances are sent on a new one. The instance at which it broke goes
    last, so that one faulty instance cannot delay the others. An instance may thus be sent twice; the peer knows it by
    its UID. Raises PeerError when no association is granted, or too many break without an answer, and every error of
    reading an instance. All are read before the first is sent, so that nothing leaves when one of them is lost.
    """
    peer = Peer.destination(destination, ae_title)
    waiting = deque((instance, instance.read_header()) for instance in instances)
    breaks = silences = 0
    while waiting:
        with associate(peer, storage_contexts(header for _, header in waiting)) as association:
            while waiting and association.is_established:
                asked_at = time.monotonic()
                sent = _store(association, *waiting[0])
                if sent is None:
                    silences += time.monotonic() - asked_at >= destination.timeout_s
                    break
                waiting.popleft()
                breaks = silences = 0
                yield sent
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


def storage_contexts(headers: Iterable[Dataset]) -> list[tuple[str, str]]:
    """The presentation contexts to send instances with these headers: as they are kept and in both uncompressed
    syntaxes, each in a context of its own."""
    contexts = dict.fromkeys(
        (str(header.SOPClassUID), str(syntax))
        for header in headers
        for syntax in (header.file_meta.TransferSyntaxUID, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    )
    return list(contexts)


def _store(association: Association, instance: Readable, header: Dataset) -> SendResult | None:
    """Send one instance; None when the association broke before the answer."""
    named = instance, str(header.SOPClassUID), str(header.SOPInstanceUID)
    kept = header.file_meta.TransferSyntaxUID
    taken = [c.transfer_syntax[0] for c in association.accepted_contexts if c.abstract_syntax == header.SOPClassUID]
    if not taken:
        return SendResult(*named, None, f"the peer does not accept {header.SOPClassUID.name}", Verdict.REFUSED)
    data_set = instance.read_instance()
    keep_bytes(data_set)  # pynetdicom encodes it again
    try:
        if kept not in taken and kept.is_compressed:
            # pynetdicom makes it implicit where the peer accepts nothing else.
            data_set = recode(data_set, ExplicitVRLittleEndian)
        answer = association.send_c_store(data_set)
    except ValueError:
        return SendResult(
            *named, None, f"the peer does not accept {header.SOPClassUID.name} in {kept.name}", Verdict.REFUSED
        )
    except RuntimeError:  # ended between two instances
        return None
    if "Status" not in answer:
        return None
    return SendResult(*named, answer.Status, words(C_STORE, answer.Status), meaning(C_STORE, answer.Status).verdict)
