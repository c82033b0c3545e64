"""TLS on the connections that peers open (PS3.15 annex B, BCP 195): versions 1.2 and 1.3, and what goes wrong in words."""

import ssl

from node.config.base import TLSSettings
from node.errors import ConfigError

_HANDSHAKE = 0x16
"""The first byte of a TLS connection: the content type of its first record (RFC 8446 section 5.1)."""

_FAILURES = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (
        "the peer shows no certificate",
        "give it one that the authorities of [scp.tls] ca_file signed",
    ),
    "CERTIFICATE_VERIFY_FAILED": (
        "the certificate of the peer does not verify",
        "renew it, or add its authority to [scp.tls] ca_file",
    ),
    "TLSV1_ALERT_UNKNOWN_CA": (
        "the peer does not know the authority of our certificate",
        "give it the authority of [scp.tls] cert_file",
    ),
    "UNSUPPORTED_PROTOCOL": ("the peer speaks only TLS versions before 1.2", "update the peer"),
    "NO_SHARED_CIPHER": ("the peer shares no cipher with us", "update the peer, or its list of ciphers"),
}


def server_context(tls: TLSSettings) -> ssl.SSLContext:
    """A TLS context for the SCP; with a `ca_file` peers must show a certificate it signed. ConfigError when a file is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password="")  # OpenSSL would ask a terminal
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"[scp.tls]: {tls.cert_file}, {tls.key_file}: {error}") from None
    return context


def speaks_tls(first_byte: bytes) -> bool:
    """Whether a connection that begins with this byte begins a TLS handshake."""
    return first_byte == bytes([_HANDSHAKE])


def failure(error: ssl.SSLError) -> tuple[str, str]:
    """(what went wrong, what to check) of a handshake."""
    code = error.reason or ""
    if code in _FAILURES:
        reason, check = _FAILURES[code]
        detail = getattr(error, "verify_message", "")
        return f"{reason} ({detail})" if detail else reason, check
    words = code.replace("_", " ").lower() or "no reason given"
    return f"the TLS handshake failed: {words}", "check both sides' certificates and TLS versions"
