"""Syslog messages (RFC 5424) to a collector: over TLS (RFC 5425), TCP (RFC 6587) or UDP (RFC 5426), as PS3.15 A.6 and A.7 say.

None of them has an answer. So over TLS and TCP each batch has a connection of its own, which counts only when the
collector has closed it after us: a program that died, or was killed with messages unread, resets the connection instead.
"""

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from node.certificates import client_context
from node.config.audit import AuditSettings

TIMEOUT_S = 10.0
TLS_ENTRY = "[audit.tls]"
_FACILITY = 10  # security and authorization messages
_WARNING, _NOTICE = 4, 5
_MESSAGE_ID = "DICOM+RFC3881"
_BOM = b"\xef\xbb\xbf"


def syslog_message(body: bytes, at: datetime, host: str, process: int, failed: bool) -> bytes:
    """A message with the XML `body`."""
    priority = _FACILITY * 8 + (_WARNING if failed else _NOTICE)
    moment = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    header = f"<{priority}>1 {moment} {_word(host, 255)} diffmsr-node {process} {_MESSAGE_ID} - "
    return header.encode() + _BOM + body


def send(settings: AuditSettings, messages: Sequence[bytes]) -> None:
    """Bring messages to the collector. OSError, of which ssl.SSLError is one, when it may not have all of them."""
    if settings.transport == "udp":
        _send_datagrams(settings, messages)
        return
    context = client_context(settings.tls, TLS_ENTRY) if settings.transport == "tls" else None
    with socket.create_connection((settings.host, settings.port), TIMEOUT_S) as plain:
        framed = b"".join(b"%d %s" % (len(message), message) for message in messages)
        if context is None:
            plain.sendall(framed)
            plain.shutdown(socket.SHUT_WR)
            _await_end(plain)
            return
        with context.wrap_socket(plain, server_hostname=settings.host) as protected:
            protected.sendall(framed)
            with suppress(ssl.SSLEOFError):  # it closed the connection in order, only without a word of TLS
                _await_end(protected.unwrap())


def _await_end(connection: socket.socket) -> None:
    """Wait until the other side closes. What it says before means nothing in this protocol."""
    while connection.recv(4096):
        pass


def _send_datagrams(settings: AuditSettings, messages: Sequence[bytes]) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sender:
        for message in messages:
            sender.sendto(message, address)


def _word(text: str, length: int) -> str:
    """A field of the header: printable ASCII without spaces, or a dash."""
    return "".join(c for c in text if "!" <= c <= "~")[:length] or "-"
