"""Associations that the node opens. When one is not granted, one line says with whom, what happened and what to check."""

import queue
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from node import __version__
from node.certificates import client_context
from node.config.base import TLSSettings
from node.config.settings import DestinationSettings, FetchSettings, SourceSettings
from node.errors import PeerError

IMPLEMENTATION_CLASS_UID = "2.25.190145043185233445724092555672737775169"
IMPLEMENTATION_VERSION_NAME = f"DIFFMSR_{__version__}"[:16]
"""The implementation identification of this node on associations (PS3.7 D.3.3.2)."""


def application_entity(ae_title: str) -> AE:
    """This node as an application entity with that AE title."""
    ae = AE(ae_title)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return ae


@dataclass(frozen=True)
class Peer:
    """A remote application entity, and how to connect to it."""

    entry: str
    """Its entry in the configuration, as people name it: 'destination pacs'."""
    ae_title: str
    host: str
    port: int
    timeout_s: float
    calling_ae_title: str
    tls: TLSSettings | None = None

    @classmethod
    def destination(cls, settings: DestinationSettings, calling_ae_title: str) -> "Peer":
        return cls._of(f"destination {settings.name}", settings, settings.host, settings.port, calling_ae_title)

    @classmethod
    def source(cls, settings: SourceSettings, calling_ae_title: str) -> "Peer | None":
        """None when the configuration has no host and port of the source."""
        if settings.host is None or settings.port is None:
            return None
        return cls._of(f"source {settings.name}", settings, settings.host, settings.port, calling_ae_title)

    @classmethod
    def fetch(cls, settings: FetchSettings, calling_ae_title: str) -> "Peer":
        return cls._of("the PACS configured in [fetch]", settings, settings.host, settings.port, calling_ae_title)

    @classmethod
    def _of(
        cls,
        entry: str,
        settings: DestinationSettings | SourceSettings | FetchSettings,
        host: str,
        port: int,
        calling_ae_title: str,
    ) -> "Peer":
        return cls(entry, settings.ae_title, host, port, settings.timeout_s, calling_ae_title, settings.tls)

    def error(self, what: str, check: str) -> PeerError:
        """One line: the peer, what happened, what to check."""
        where = f"{self.ae_title} at {self.host}:{self.port}"
        return PeerError(f"{self.entry} ({where}, calling as {self.calling_ae_title}): {what}; {check}")


class associate:  # noqa: N801  # used as a function: with associate(…) as association
    """An association as a context manager: PeerError when it is not granted; it is released at the end.

    `contexts` are (abstract syntax, transfer syntax), with one presentation context per transfer syntax. Within one
    context the peer would choose, and some peers choose what they cannot decode. `roles` and `handlers` are those of
    pynetdicom.
    """

    def __init__(
        self,
        peer: Peer,
        contexts: Iterable[tuple[str, str]],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        handlers: Sequence[tuple[Any, ...]] = (),
    ) -> None:
        self._peer, self._roles, self._handlers = peer, roles, handlers
        self._connected = False
        self._rejection: Any = None
        self._ae = application_entity(peer.calling_ae_title)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.connection_timeout = peer.timeout_s
        self._ae.network_timeout = 2 * peer.timeout_s
        for abstract_syntax, transfer_syntax in contexts:
            self._ae.add_requested_context(abstract_syntax, transfer_syntax)

    def __enter__(self) -> Association:
        peer = self._peer
        tls = (client_context(peer.tls, f"{peer.entry}: tls"), peer.host) if peer.tls else None
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._on_connection), (evt.EVT_DATA_SENT, _acknowledge_at_once),
            (evt.EVT_PDU_RECV, self._on_pdu), *self._handlers,
        ]  # fmt: skip
        started = time.monotonic()
        try:
            self.association = self._ae.associate(
                peer.host,
                peer.port,
                ae_title=peer.ae_title,
                tls_args=tls,
                ext_neg=list(self._roles),
                evt_handlers=handlers,
            )
        except socket.gaierror as error:
            raise peer.error(*host_not_found(error)) from None
        if not self.association.is_established:
            raise peer.error(*self._why_not(time.monotonic() - started))
        keep_answers(self.association)
        return self.association

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.association.is_established and error is None:
            self.association.release()
        elif self.association.is_established:
            self.association.abort()  # in the middle of an operation: a release would have to wait for its end
        elif isinstance(error, RuntimeError):  # raised by pynetdicom for a request on an association that has ended
            raise self._peer.error("the association ended before the request was answered", "check the peer's log")

    def _on_connection(self, event: evt.Event) -> None:
        self._connected = True
        # An instance is sent in many small writes. Nagle's algorithm would wait 40 ms for the acknowledgement of each.
        connection: Any = event.assoc.dul.socket
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_pdu(self, event: evt.Event) -> None:
        """Keep a rejection. When it comes fast, pynetdicom finds the connection closed again, and takes that for no connection."""
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            self._rejection = event.pdu.to_primitive()

    def _why_not(self, after_s: float) -> "WhyNot":
        """(what happened, what to check) for an association that was not granted, after that many seconds."""
        peer = self._peer
        if (answer := self._rejection) is not None:
            return rejected(f"{answer.result_str.lower()}: {answer.reason_str.lower()}")
        if self._connected and self.association.rejected_contexts:
            return none_accepted(context.abstract_syntax or "" for context in self.association.rejected_contexts)
        if self._connected:
            return no_answer(peer)
        if after_s >= peer.timeout_s:
            return no_connection(peer)
        try:  # pynetdicom does not tell the reason, so connect once more
            socket.create_connection((peer.host, peer.port), timeout=peer.timeout_s).close()
        except OSError as error:
            return cannot_connect(error)
        return TLS_FAILED if peer.tls else CLOSED_AT_ONCE


# Why an association is not granted: (what happened, what to check).

WhyNot = tuple[str, str]

TLS_FAILED: WhyNot = (
    "the TLS handshake failed",
    "check the certificates of both sides, and that the peer expects TLS on this port",
)
CLOSED_AT_ONCE: WhyNot = "the connection was closed at once", "check that it is a DICOM port and does not expect TLS"


def host_not_found(error: socket.gaierror) -> WhyNot:
    said = (error.strerror or str(error)).lower()
    return f"cannot find the host ({said})", "check the host name, and the name server"


def cannot_connect(error: OSError) -> WhyNot:
    said = (error.strerror or str(error) or type(error).__name__).lower()
    return f"cannot connect ({said})", "check host and port, that the peer is running, and the firewalls in between"


def no_connection(peer: Peer) -> WhyNot:
    return f"no connection within {peer.timeout_s:g} s", "check host and port, and the firewalls in between"


def no_answer(peer: Peer) -> WhyNot:
    return f"no answer to the association request within {peer.timeout_s:g} s", "check that it is a DICOM port"


def rejected(reason: str) -> WhyNot:
    return f"association rejected ({reason})", "check that the peer knows both AE titles, and this host's address"


def none_accepted(sop_class_uids: Iterable[str]) -> WhyNot:
    names = sorted({UID(uid).name for uid in sop_class_uids})
    return f"the peer does not accept {' or '.join(names)}", "check which SOP classes and transfer syntaxes it accepts"


def _acknowledge_at_once(event: evt.Event) -> None:
    """Many peers send an answer in two small writes and delay the second until the first is acknowledged. Linux delays
    that by 40 ms unless this option is set, and it has to be set again after each exchange."""
    connection: Any = event.assoc.dul.socket
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def keep_answers(association: Association) -> None:
    """Close a race in pynetdicom 3.0, before anything is received. Its reactor thread pauses while a request waits for its
    answer, but it reports that it is paused a moment too early. It may then take the answer off the queue of messages and drop it
    as unexpected, and the request waits until the DIMSE timeout."""
    association.dimse.msg_queue = _Messages()


class _Messages(queue.Queue[Any]):
    """The reactor never waits for a message, and gets none that answers a request; a request waits for its answer."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if block:
            return super().get(block, timeout)
        with self.mutex:
            for index, item in enumerate(self.queue):
                if item[1] is None or not item[1].is_valid_response:
                    del self.queue[index]
                    return item
        raise queue.Empty
