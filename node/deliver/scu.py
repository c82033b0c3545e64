"""The storage SCU: send derived instances to a destination, and say in words what became of each."""

import socket
import ssl
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import time

from node.config import DestinationSettings, TLSSettings
from node.errors import ConfigError, PeerError, StorageError

_BREAKS = 3
"""Associations in a row that may end without an answer to any instance before the peer is given up for now."""


class Verdict(Enum):
    """What a status means for the instance."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    REFUSED = "refused"
    """Sending the same instance again will be refused again."""


@dataclass(frozen=True)
class Sent:
    """What the peer answered for one instance. `status` is None where it was never asked."""

    path: Path
    sop_uid: str
    status: int | None
    words: str
    verdict: Verdict

    @property
    def accepted(self) -> bool:
        return self.verdict is Verdict.ACCEPTED


def echo(destination: DestinationSettings, ae_title: str) -> None:
    """C-ECHO (PS3.7 9.1.5). Raises PeerError when the destination does not answer it with success."""
    with _association(destination, ae_title, [(Verification, ImplicitVRLittleEndian)]) as association:
        status = association.send_c_echo().get("Status")
    if status != 0x0000:
        answer = "no answer to the C-ECHO" if status is None else f"C-ECHO answered {words(status)}"
        raise PeerError(_line(destination, ae_title, answer, "check the peer's log"))


def send(paths: Sequence[Path], destination: DestinationSettings, ae_title: str) -> Iterator[Sent]:
    """C-STORE instances (PS3.4 B), yielding what became of each as soon as it is known.

    When an association breaks, what is unanswered goes out on a new one, the instance it broke at last, so that one
    poisonous instance cannot hold up the others. An instance may thus be sent twice; the peer knows it by its UID.
    Raises PeerError when no association can be had, or too many break without an answer; StorageError when a file
    cannot be read.
    """
    waiting = deque(_header(path) for path in paths)
    breaks = 0
    while waiting:
        contexts = dict.fromkeys(
            (header.SOPClassUID, syntax)
            for header in waiting
            for syntax in (header.file_meta.TransferSyntaxUID, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
        )
        with _association(destination, ae_title, contexts) as association:
            while waiting and association.is_established:
                sent = _store(association, waiting[0])
                if sent is None:
                    break
                waiting.popleft()
                breaks = 0
                yield sent
        if waiting:
            waiting.rotate(-1)
            breaks += 1
            if breaks == _BREAKS:
                what = f"the association broke {breaks} times without an answer, {len(waiting)} instances are not sent"
                raise PeerError(
                    _line(destination, ae_title, what, "check the peer's log, and [[destinations]] timeout_s")
                )


def words(status: int) -> str:
    """A C-STORE or C-ECHO status with its meaning, e.g. '0xA700 (out of resources)' (PS3.4 B.2.3, PS3.7 C)."""
    return f"0x{status:04X} ({_meaning(status)[0]})"


def _meaning(status: int) -> tuple[str, Verdict]:
    match status:
        case 0x0000:
            return "success", Verdict.ACCEPTED
        case 0xB000:
            return "stored with coerced attributes", Verdict.ACCEPTED
        case 0xB006:
            return "stored with discarded attributes", Verdict.ACCEPTED
        case 0xB007:
            return "stored, but does not match its SOP class", Verdict.ACCEPTED
        case 0x0111:
            return "the peer has this instance already", Verdict.ACCEPTED
        case 0x0110:
            return "processing failure", Verdict.RETRY
        case 0x0122:
            return "SOP class not supported", Verdict.REFUSED
        case 0x0124:
            return "not authorised", Verdict.RETRY  # an administrator can change that
    match status >> 8:
        case 0xA7:
            return "out of resources", Verdict.RETRY
        case 0xA9:
            return "data set does not match its SOP class", Verdict.REFUSED
    match status >> 12:
        case 0xB:
            return "stored with a warning", Verdict.ACCEPTED
        case 0xC:
            return "cannot understand the data set", Verdict.REFUSED
    return "a status that C-STORE does not define", Verdict.RETRY


def _header(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    except (OSError, InvalidDicomError) as error:
        raise StorageError(f"cannot read {path} to send it: {error}") from None


def _store(association: Association, header: Dataset) -> Sent | None:
    """Send one instance; None when the association broke before the answer."""
    path, uid = Path(header.filename), str(header.SOPInstanceUID)
    if not any(context.abstract_syntax == header.SOPClassUID for context in association.accepted_contexts):
        return Sent(path, uid, None, f"the peer takes no {header.SOPClassUID.name}", Verdict.REFUSED)
    try:
        answer = association.send_c_store(path)
    except ValueError:
        syntax = header.file_meta.TransferSyntaxUID.name
        return Sent(path, uid, None, f"the peer takes no {header.SOPClassUID.name} in {syntax}", Verdict.REFUSED)
    except RuntimeError:  # ended between two instances
        return None
    if "Status" not in answer:
        return None
    return Sent(path, uid, answer.Status, words(answer.Status), _meaning(answer.Status)[1])


class _association:  # noqa: N801  # used as a function: with _association(…) as association
    """An association as a context manager: PeerError when it is not granted, released at the end."""

    def __init__(self, destination: DestinationSettings, ae_title: str, contexts: Iterable[tuple[str, str]]) -> None:
        self._destination, self._ae_title = destination, ae_title
        self._connected = False
        self._ae = AE(ae_title)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.connection_timeout = destination.timeout_s
        self._ae.network_timeout = 2 * destination.timeout_s
        for abstract_syntax, transfer_syntax in contexts:
            # One context a syntax: within one context the peer would choose, and some choose what they cannot decode.
            self._ae.add_requested_context(abstract_syntax, transfer_syntax)

    def __enter__(self) -> Association:
        destination = self._destination
        tls = (_client_context(destination.tls), destination.host) if destination.tls else None
        self.association = self._ae.associate(
            destination.host, destination.port, ae_title=destination.ae_title, tls_args=tls,
            evt_handlers=[(evt.EVT_CONN_OPEN, self._on_connection), (evt.EVT_DATA_SENT, _acknowledge_at_once)],
        )  # fmt: skip
        if not self.association.is_established:
            raise PeerError(_line(destination, self._ae_title, *self._why_not()))
        _hand_back_stolen_answers(self.association)
        return self.association

    def __exit__(self, *_: object) -> None:
        if self.association.is_established:
            self.association.release()

    def _on_connection(self, event: evt.Event) -> None:
        self._connected = True
        # An instance goes out in many small writes; Nagle's algorithm would wait 40 ms for an acknowledgement of each.
        connection: Any = event.assoc.dul.socket
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _why_not(self) -> tuple[str, str]:
        """(what happened, what to check) for an association that was not granted."""
        destination = self._destination
        if self.association.is_rejected:
            answer: Any = self.association.acceptor.primitive
            return (
                f"association rejected ({answer.result_str.lower()}: {answer.reason_str.lower()})",
                "check that the peer knows both AE titles, and this host's address",
            )
        if self._connected and self.association.rejected_contexts:
            names = sorted({UID(context.abstract_syntax or "").name for context in self.association.rejected_contexts})
            return f"the peer takes no {' nor '.join(names)}", "check the SOP classes and transfer syntaxes it accepts"
        if self._connected:
            return (
                f"no answer to the association request within {destination.timeout_s:g} s",
                "check that it is a DICOM port",
            )
        try:  # pynetdicom keeps the reason to itself: knock once more
            socket.create_connection((destination.host, destination.port), timeout=destination.timeout_s).close()
        except OSError as error:
            reason = (error.strerror or str(error) or type(error).__name__).lower()
            return (
                f"cannot connect ({reason})",
                "check host and port, that the peer is running, and the firewalls between",
            )
        if destination.tls:
            return (
                "the TLS handshake failed",
                "check both sides' certificates, and that the peer expects TLS on this port",
            )
        return "the connection was closed at once", "check that it is a DICOM port, and does not expect TLS"


def _acknowledge_at_once(event: evt.Event) -> None:
    """Many peers send an answer in two small writes and hold the second back until the first is acknowledged, which
    Linux delays by 40 ms unless told otherwise, and it has to be told again after each exchange."""
    connection: Any = event.assoc.dul.socket
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _hand_back_stolen_answers(association: Association) -> None:
    """Close a race in pynetdicom 3.0: its reactor thread pauses while a request waits for its answer, but takes itself
    for paused a moment before it is, and may then take the answer off the queue and drop it as unexpected; the request
    waits until the DIMSE timeout. Give such an answer back: the reactor pauses before it looks at the queue again."""
    serve = association._serve_request

    def serve_or_hand_back(msg: Any, context_id: int) -> None:
        if msg.is_valid_response:
            association.dimse.msg_queue.put((context_id, msg))
        else:
            serve(msg, context_id)

    association._serve_request = serve_or_hand_back  # type: ignore[method-assign]


def _client_context(tls: TLSSettings) -> ssl.SSLContext:
    """Mutual authentication (PS3.15 B.9, BCP 195): our certificate, and the peer's checked against `ca_file` or the
    system's authorities, and against the host name."""
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.ca_file)
        context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(file) for file in (tls.cert_file, tls.key_file, tls.ca_file) if file)
        raise ConfigError(f"[[destinations]] tls: cannot use {files}: {error.strerror or error}") from None
    return context


def _line(destination: DestinationSettings, ae_title: str, what: str, check: str) -> str:
    where = f"{destination.ae_title} at {destination.host}:{destination.port}"
    return f"destination {destination.name} ({where}, calling as {ae_title}): {what}; {check}"
