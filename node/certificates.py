"""The certificates that the configuration names, when they expire, and TLS with them."""

import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography import x509

from node.config.audit import AuditTLS
from node.config.base import TLSSettings
from node.config.settings import DestinationSettings, Settings, SourceSettings
from node.errors import ConfigError


def certificate_entries(settings: Settings) -> Iterator[tuple[str, TLSSettings]]:
    """Every place of the configuration with certificates, as people name it."""
    if settings.scp.tls:
        yield "[scp.tls]", settings.scp.tls
    if settings.web.tls:
        yield "[web.tls]", settings.web.tls
    if settings.fetch and settings.fetch.tls:
        yield "[fetch] tls", settings.fetch.tls
    if settings.audit and settings.audit.tls.cert_file and settings.audit.tls.key_file:
        own = settings.audit.tls
        yield "[audit.tls]", TLSSettings(cert_file=own.cert_file, key_file=own.key_file, ca_file=own.ca_file)
    peers: list[SourceSettings | DestinationSettings] = [*settings.sources, *settings.destinations]
    yield from ((f"tls of {peer.name}", peer.tls) for peer in peers if peer.tls)


def expiry(path: Path) -> datetime:
    """When the first certificate of a PEM file expires. OSError, or ValueError when it contains none."""
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


def client_context(tls: TLSSettings | AuditTLS, entry: str) -> ssl.SSLContext:
    """TLS of connections that the node opens, as BCP 195 recommends (PS3.15 B.9): the certificate of the other side is checked
    against `ca_file` or the authorities of the system, and against its host name; ours is shown where there is one. `entry` is
    the place in the configuration, as people name it. ConfigError."""
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")  # OpenSSL would ask a terminal
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(file) for file in (tls.cert_file, tls.key_file, tls.ca_file) if file)
        raise ConfigError(f"{entry}: cannot use {files}: {error.strerror or error}") from None
    return context
