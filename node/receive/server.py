"""The storage SCP: it accepts associations, and `Store` keeps what they bring. Handlers are plain functions."""

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any, cast
from weakref import WeakKeyDictionary

import structlog
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import ThreadedAssociationServer

from node.config.base import TLSSettings
from node.config.settings import SCPSettings, SourceSettings
from node.dimse.associations import application_entity
from node.dimse.status import EchoStatus, StoreStatus
from node.errors import ConfigError, NodeError
from node.receive.commitment_scp import Commitments
from node.receive.contexts import supported_contexts
from node.receive.store import Store, StoreRequest

log = structlog.get_logger()


class Receiver:
    """The listening storage SCP."""

    def __init__(
        self,
        settings: SCPSettings,
        sources: list[SourceSettings],
        store: Store,
        commitments: Commitments,
        peers: Sequence[str] = (),
    ) -> None:
        """`peers` are AE titles that may call besides the sources, because they answer requests of this node."""
        self._settings = settings
        self._sources = sources
        self._store = store
        self._commitments = commitments
        self._server: ThreadedAssociationServer | None = None
        self._draining = threading.Event()
        self._arrived: WeakKeyDictionary[Association, int] = WeakKeyDictionary()
        self._brought: WeakKeyDictionary[Association, Counter[StoreStatus]] = WeakKeyDictionary()
        ae = application_entity(settings.ae_title)
        ae.supported_contexts = supported_contexts()
        ae.maximum_associations = settings.max_associations
        ae.maximum_pdu_size = settings.max_pdu
        ae.acse_timeout = settings.acse_timeout_s
        ae.dimse_timeout = settings.dimse_timeout_s
        ae.network_timeout = settings.network_timeout_s
        ae.require_called_aet = settings.require_called_ae_title
        ae.require_calling_aet = [*(source.ae_title for source in sources), *peers] if sources else []
        self._ae = ae

    @property
    def port(self) -> int:
        return self._settings.port

    def start(self) -> None:
        """Listen. Raises NodeError when the port is not available."""
        address = (self._settings.host, self._settings.port)
        context = server_context(self._settings.tls) if self._settings.tls else None
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_CONN_CLOSE, self._disconnected),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_ABORTED, self._aborted),
            (evt.EVT_PDU_RECV, self._growing),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._take),
            (evt.EVT_DIMSE_RECV, self._whole),
            (evt.EVT_DIMSE_RECV, self._commitments.heard),
            (evt.EVT_N_ACTION, self._commitments.requested),
            (evt.EVT_N_EVENT_REPORT, self._commitments.reported),
        ]
        try:
            self._server = self._ae.start_server(address, block=False, evt_handlers=handlers, ssl_context=context)
        except OSError as error:
            raise NodeError(
                f"cannot listen on {address[0]}:{address[1]}: {error.strerror}; is another receiver on this port? "
                "change [scp] port"
            ) from None
        log.info("scp.listening", ae_title=self._settings.ae_title, host=address[0], port=address[1], tls=bool(context))

    def stop(self, patience_s: float = 20) -> None:
        """Accept no new association, let the open ones finish, then close."""
        if self._server is None:
            return
        self._draining.set()
        deadline = threading.Event()
        waited = 0.0
        while self._ae.active_associations and waited < patience_s:
            deadline.wait(0.1)
            waited += 0.1
        self._ae.shutdown()
        self._server = None

    def _connected(self, event: Event) -> None:
        transport = event.assoc.dul.socket
        if transport is not None and transport.socket is not None:
            # Without it Nagle's algorithm and delayed acknowledgement cost about 40 ms per instance.
            with suppress(OSError):
                transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _disconnected(self, event: Event) -> None:
        """A load balancer's probe connects and disconnects. pynetdicom would keep the thread of the association waiting for
        a request until the ACSE timeout, and count it against the maximum; this ends it."""
        peer, brought = event.assoc.requestor, self._brought.pop(event.assoc, None)
        if peer.primitive is None:
            waiting: Any = event.assoc.dul.to_user_queue
            waiting.put(None)  # as after the timeout
        if brought is not None:
            stored = brought[StoreStatus.SUCCESS]
            self._store.ended(peer.ae_title.strip(), peer.address, stored, brought.total() - stored)

    def _take(self, event: Event) -> StoreStatus:
        status = take_instance(event, self._store)
        self._brought.setdefault(event.assoc, Counter())[status] += 1
        return status

    def _accepted(self, event: Event) -> None:
        peer = event.assoc.requestor
        if self._draining.is_set() or not self._known_host(peer.ae_title, peer.address):
            reason = "stopping" if self._draining.is_set() else "host does not match [[sources]]"
            log.warning("association.aborted", source=peer.ae_title, host=peer.address, reason=reason)
            event.assoc.abort()
            self._store.rejected(peer.ae_title.strip(), peer.address, reason)
            return
        taken = {context.abstract_syntax for context in event.assoc.accepted_contexts}
        asked = {context.abstract_syntax for context in event.assoc.rejected_contexts}
        others = sorted(UID(uid).name for uid in asked - taken if uid)
        logger = log.bind(source=peer.ae_title, host=peer.address)
        if taken:
            logger.info("association.accepted", other_sop_classes=len(others))
            logger.debug("association.other_sop_classes", names=others)
        else:
            check = "send MR from this peer; diffmsr-node conformance lists what is accepted"
            logger.warning("association.without_use", names=others[:5], check=check)

    def _growing(self, event: Event) -> None:
        """End an association whose message grows too large: pynetdicom collects a message in memory until its end."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        arrived = self._arrived.get(event.assoc, 0) + len(event.pdu)
        self._arrived[event.assoc] = arrived
        if arrived > self._settings.max_instance_mb * 1_000_000:
            log.warning(
                "association.aborted",
                source=event.assoc.requestor.ae_title,
                host=event.assoc.requestor.address,
                reason=f"an instance is larger than [scp] max_instance_mb = {self._settings.max_instance_mb}",
            )
            if event.assoc.dul.socket is not None:
                event.assoc.dul.socket.close()  # as if the peer had closed it: an abort would wait for this thread

    def _whole(self, event: Event) -> None:
        self._arrived.pop(event.assoc, None)

    def _known_host(self, ae_title: str, address: str | None) -> bool:
        hosts = [s.host for s in self._sources if s.ae_title == ae_title.strip()]
        if not hosts or None in hosts:
            return True
        for host in hosts:
            with suppress(OSError):
                if address in {info[4][0] for info in socket.getaddrinfo(host, None)}:
                    return True
        return False

    def _rejected(self, event: Event) -> None:
        association, settings = event.assoc, self._settings
        peer = association.requestor
        called = cast(Any, peer.primitive).called_ae_title
        if settings.require_called_ae_title and called != settings.ae_title:
            reason = f"it calls {called}, not {settings.ae_title}"
            check = "correct the called AE title there, or [scp] ae_title or require_called_ae_title here"
        elif self._ae.require_calling_aet and peer.ae_title.strip() not in self._ae.require_calling_aet:
            reason = "its AE title is not among the [[sources]]"
            check = "add it there, or correct the calling AE title of the peer"
        else:
            reason = f"{settings.max_associations} associations are open already"
            check = "the peer may try again; raise [scp] max_associations if this happens often"
        log.warning("association.rejected", source=peer.ae_title, host=peer.address, reason=reason, check=check)
        self._store.rejected(peer.ae_title.strip(), peer.address, reason)

    def _aborted(self, event: Event) -> None:
        peer = event.assoc.requestor
        log.warning(
            "association.ended_by_abort",
            source=peer.ae_title,
            host=peer.address,
            check="acknowledged instances are kept; if the peer aborted, its log has the reason",
        )

    def _echo(self, event: Event) -> int:
        return EchoStatus.SUCCESS


def take_instance(event: Event, store: Store) -> StoreStatus:
    """Keep the instance of a C-STORE request, whether the peer opened the association or answers a C-GET of this node."""
    association, request = event.assoc, cast(C_STORE, event.request)
    peer = association.acceptor if association.is_requestor else association.requestor
    status = store.put(
        StoreRequest(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            implementation_class_uid=str(peer.implementation_class_uid),
            calling_ae_title=peer.ae_title.strip(),
            data_set=cast(BytesIO, request.DataSet).getvalue(),
        )
    )
    log.debug("instance.received", sop_instance=str(request.AffectedSOPInstanceUID), status=str(status))
    return status


def server_context(tls: TLSSettings) -> ssl.SSLContext:
    """A TLS context for the SCP. With a `ca_file` peers must present a certificate that it signed. ConfigError when a file is
    wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file)
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"[scp.tls]: {tls.cert_file}, {tls.key_file}: {error}") from None
    return context
