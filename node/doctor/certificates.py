"""The certificates that the configuration names: readable, matching their keys, and not about to expire."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from node.certificates import certificate_entries, expiry
from node.checks import Check, Level
from node.config.base import TLSSettings
from node.config.settings import Settings

SOON_DAYS = 30


def certificates(settings: Settings) -> Iterator[Check]:
    """One answer for each file of certificates."""
    now = datetime.now(UTC)
    for entry, tls in certificate_entries(settings):
        yield _pair(entry, tls, now)
        if tls.ca_file is not None:
            yield _valid(f"{entry} ca_file", tls.ca_file, now)


def _pair(entry: str, tls: TLSSettings, now: datetime) -> Check:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert_file, tls.key_file, password="")
    except OSError as error:  # ssl.SSLError is one
        reason = "the key is not that of the certificate" if "MISMATCH" in str(error) else error.strerror or str(error)
        sentence = f"{entry}: cannot use {tls.cert_file} with {tls.key_file}: {reason}"
        return Check("certificate", Level.FAIL, sentence, "name a certificate in PEM format and its key")
    return _valid(f"{entry} cert_file", tls.cert_file, now)


def _valid(entry: str, path: Path, now: datetime) -> Check:
    try:
        until = expiry(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no PEM certificate in it"
        return Check("certificate", Level.FAIL, f"{entry}: cannot read {path}: {reason}", "name a file in PEM format")
    days = (until - now).days
    if until <= now:
        return Check("certificate", Level.FAIL, f"{entry}: {path} expired on {until:%Y-%m-%d}", "renew it")
    if days < SOON_DAYS:
        return Check(
            "certificate", Level.WARN, f"{entry}: {path} expires in {days} days, on {until:%Y-%m-%d}", "renew it"
        )
    return Check("certificate", Level.OK, f"{entry}: {path} is valid until {until:%Y-%m-%d}")
