"""The certificates that the configuration names, and when they expire."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography import x509

from node.config.base import TLSSettings
from node.config.settings import DestinationSettings, Settings, SourceSettings


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
