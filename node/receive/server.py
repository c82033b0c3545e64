"""The storage SCP: it listens, and gives each connection a thread of its own. Nothing a peer does, or does not do, holds up
the loop that accepts; policy.py decides who may call, upper_layer.py has the protocol, store.py keeps instances."""

import errno
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from node.config.settings import SCPSettings
from node.dimse.stream import Stream, StreamClosedError, StreamTimeoutError, TLSStream
from node.errors import NodeError
from node.receive.commitment_scp import Commitments
from node.receive.policy import Caller, Policy, plain_address
from node.receive.services import Shared
from node.receive.slots import Slots, Visitor
from node.receive.stock import StockAssociations
from node.receive.store import Store
from node.receive.tls import failure, server_context, speaks_tls
from node.receive.upper_layer import Association

log = structlog.get_logger()

BACKLOG = 128
IDLE_S = 2.0
"""An association that has been idle for that long does not hold up a stop."""
FAREWELL_S = 3.0
"""How long threads have to end after their connections were cut."""
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Receiver:
    """The listening storage SCP."""

    def __init__(
        self, settings: SCPSettings, callers: Sequence[Caller], store: Store, commitments: Commitments
    ) -> None:
        """`callers` are the peers that the configuration names: see `configured_callers`."""
        self._settings = settings
        self._slots = Slots(settings)
        self._draining = threading.Event()
        self._listening: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self._shared = Shared(
            settings=settings,
            policy=Policy(settings, callers),
            slots=self._slots,
            store=store,
            open_stock_association=StockAssociations(settings, commitments).open,
            is_draining=self._draining.is_set,
        )

    @property
    def port(self) -> int:
        return self._settings.port

    def admit(self, callers: Sequence[Caller]) -> None:
        """From now on these are the peers that the configuration names. Associations that are open go on."""
        self._shared.policy.admit(callers)

    def start(self) -> None:
        """Listen. Raises NodeError when the port cannot be had, ConfigError when a TLS file is wrong."""
        host, port = self._settings.host, self._settings.port
        self._context = server_context(self._settings.tls) if self._settings.tls else None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise NodeError(
                f"cannot listen on {host}:{port}: {error.strerror}; is another receiver on this port? change [scp] port"
            ) from None
        self._slots.fit_descriptors()
        self._accepting = threading.Thread(target=self._accept, args=(self._listening,), name="scp", daemon=True)
        self._accepting.start()
        log.info("scp.listening", ae_title=self._settings.ae_title, host=host, port=port, tls=bool(self._context))

    def stop(self, patience_s: float = 20) -> None:
        """Take no new association, let those there are finish what they send, then close. Ends within `patience_s` and
        FAREWELL_S, whatever the peers do."""
        if self._listening is None:
            return
        self._draining.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # which ends `accept`
        self._accepting.join(FAREWELL_S)
        self._listening.close()
        self._listening = None
        self._slots.evict_waiting("the service is stopping")
        deadline = time.monotonic() + patience_s
        while not self._slots.wait_for_none_associated(min(0.2, max(0.0, deadline - time.monotonic()))):
            now = time.monotonic()
            if now >= deadline:
                break
            self._slots.evict_associated("the service is stopping", idle_since=now - IDLE_S)
        self._slots.evict_associated("the service is stopping, and its time to finish is over")
        self._slots.evict_waiting("the service is stopping")
        self._slots.wait_for_none(FAREWELL_S)

    def _accept(self, listening: socket.socket) -> None:
        while not self._draining.is_set():
            try:
                connection, address = listening.accept()
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    log.error(
                        "scp.out_of_resources",
                        error=type(error).__name__,
                        reason=f"no connection can be accepted: {error.strerror}",
                    )
                    self._slots.evict_oldest_waiting("the system is out of descriptors or memory")
                    self._draining.wait(0.1)
                continue  # else the peer has left already, or we stop
            stream = Stream(connection)
            visitor = Visitor(plain_address(address[0]), address[1], stream.cut)
            self._slots.enter(visitor)
            threading.Thread(
                target=self._serve, args=(connection, stream, visitor), name=f"scp@{visitor.address}", daemon=True
            ).start()

    def _serve(self, connection: socket.socket, stream: Stream, visitor: Visitor) -> None:
        """All of a connection, from the TLS handshake to its end."""
        try:
            stream.prepare()
            if self._context is not None:
                secured = self._secure(connection, self._context, visitor)
                if secured is None:
                    return
                stream = secured
            Association(self._shared, stream, visitor).serve()
        finally:
            stream.close()
            self._slots.leave(visitor)

    def _secure(self, connection: socket.socket, context: ssl.SSLContext, visitor: Visitor) -> Stream | None:
        """The connection after its TLS handshake; None, with a line in the log, when it fails."""
        within_s = self._settings.acse_timeout_s
        try:
            connection.settimeout(within_s)
            first = connection.recv(1, socket.MSG_PEEK)
            if not first:
                return None  # a load balancer's probe connects and leaves
            if not speaks_tls(first):
                reason, check = "it does not speak TLS", "use TLS on both sides or on neither: [scp.tls]"
                log.warning("tls.failed", host=visitor.address, reason=reason, check=check)
                return None
            stream = TLSStream(context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False))
        except TimeoutError:
            reason, check = f"it said nothing within {within_s:g} s", "check what connects from there"
            log.warning("connection.closed", host=visitor.address, reason=reason, check=check)
            return None
        except (OSError, ValueError):  # it has left, or was evicted
            reason, check = visitor.evicted or "it left before the TLS handshake", "check what connects from there"
            log.warning("connection.closed", host=visitor.address, reason=reason, check=check)
            return None
        visitor.follow(stream.cut)
        try:
            stream.handshake(within_s)
        except StreamTimeoutError:
            reason, check = f"the TLS handshake took longer than {within_s:g} s", "check what connects from there"
        except StreamClosedError:
            reason = visitor.evicted or "the peer left within the TLS handshake"
            check = "its log says why; it may not trust our certificate"
        except ssl.SSLError as error:
            reason, check = failure(error)
        else:
            return stream
        log.warning("tls.failed", host=visitor.address, reason=reason, check=check)
        stream.close()
        return None
