"""Who may open an association to us, and what the others are told: an A-ASSOCIATE-RJ for them, a line in the log for us."""

import ipaddress
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from node.config.settings import DestinationSettings, FetchSettings, SCPSettings, SourceSettings
from node.dimse.negotiation import APPLICATION_CONTEXT, Request
from node.dimse.stream import Certificate

RESOLVE_EVERY_S = 60
"""How long the addresses of a host name count: a name server that does not answer must not delay each association."""


class Rejection(Enum):
    """(result, source, reason) of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    APPLICATION_CONTEXT_NOT_SUPPORTED = 1, 1, 2
    CALLING_AE_TITLE_NOT_RECOGNIZED = 1, 1, 3
    CALLED_AE_TITLE_NOT_RECOGNIZED = 1, 1, 7
    PROTOCOL_VERSION_NOT_SUPPORTED = 1, 2, 2
    TEMPORARY_CONGESTION = 2, 3, 1
    LOCAL_LIMIT_EXCEEDED = 2, 3, 2


@dataclass(frozen=True)
class Refusal:
    """Why an association is not accepted."""

    rejection: Rejection
    reason: str
    check: str


@dataclass(frozen=True)
class Caller:
    """A peer that the configuration names."""

    entry: str
    """Where it is configured, as people name it: 'source mr1'."""
    ae_title: str
    host: str | None
    """None where any address will do."""
    certificate_cn: str | None = None
    certificate_sha256: str | None = None
    commits: bool = True
    """Whether it may ask for storage commitment, or report on it."""
    is_source: bool = True


def configured_callers(
    sources: Iterable[SourceSettings],
    destinations: Iterable[DestinationSettings] = (),
    fetch: FetchSettings | None = None,
) -> list[Caller]:
    """The peers that may call: the sources, the destinations that report on commitment, and the PACS of [fetch]."""
    callers = [Caller(f"source {s.name}", s.ae_title, s.host, s.certificate_cn, s.certificate_sha256) for s in sources]
    callers += [
        Caller(f"destination {d.name}", d.ae_title, d.host, is_source=False) for d in destinations if d.commitment
    ]
    if fetch is not None:
        callers.append(Caller("the PACS of [fetch]", fetch.ae_title, fetch.host, commits=False, is_source=False))
    return callers


class Policy:
    """Judges association requests. Without any source, peers that the configuration does not name may call too."""

    def __init__(self, settings: SCPSettings, callers: Sequence[Caller]) -> None:
        self._settings = settings
        self._callers = tuple(callers)
        self._resolved: dict[str, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def admit(self, callers: Sequence[Caller]) -> None:
        """From now on these are the peers that the configuration names."""
        self._callers = tuple(callers)

    def judge(self, request: Request, address: str, certificate: Certificate | None) -> Caller | Refusal | None:
        """The caller as configured; None for a stranger that may call; a Refusal for a peer that may not."""
        if not request.protocol_version & 1:
            return Refusal(
                Rejection.PROTOCOL_VERSION_NOT_SUPPORTED,
                f"it speaks version {request.protocol_version:#06x} of the upper layer protocol",
                "there is only version 1; check that the peer speaks DICOM",
            )
        if request.application_context != APPLICATION_CONTEXT:
            return Refusal(
                Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED,
                "it names an application context that is not DICOM's",
                "check that the peer speaks DICOM",
            )
        if not _is_title(request.called) or (
            self._settings.require_called_ae_title and request.called != self._settings.ae_title
        ):
            return Refusal(
                Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED,
                f"it calls {request.called or 'nobody'}, not {self._settings.ae_title}",
                "correct the called AE title there, or [scp] ae_title or require_called_ae_title here",
            )
        if not _is_title(request.calling):
            return Refusal(
                Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED,
                "its calling AE title is empty or malformed",
                "set the calling AE title there: 1 to 16 printable ASCII characters without backslash",
            )
        callers = self._callers
        named = [caller for caller in callers if caller.ae_title == request.calling]
        if not named:
            return None if not any(caller.is_source for caller in callers) else Refusal(
                Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED,
                "its AE title is not among the [[sources]]",
                "add it there, or correct the calling AE title of the peer",
            )  # fmt: skip
        here = [caller for caller in named if self._is_at(caller.host, address)]
        if not here:
            return Refusal(
                Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED,
                f"its address is not that of {named[0].entry} ({named[0].host})",
                "correct host there; if the peer has several addresses, add [[sources]] with its AE title for each",
            )
        for caller in here:
            if _shows(caller, certificate):
                return caller
        return Refusal(
            Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED,
            f"its certificate is not that of {here[0].entry}",
            "correct certificate_cn or certificate_sha256 there, or the certificate of the peer",
        )

    def _is_at(self, host: str | None, address: str) -> bool:
        return host is None or address in self._addresses(host)

    def _addresses(self, host: str) -> frozenset[str]:
        now = time.monotonic()
        with self._lock:
            at, known = self._resolved.get(host, (now, frozenset()))
        if known and now - at < RESOLVE_EVERY_S:
            return known
        try:
            found = frozenset(plain_address(str(info[4][0])) for info in socket.getaddrinfo(host, None))
        except (OSError, UnicodeError):  # the name server is away, or the name malformed
            found = known
        with self._lock:
            self._resolved[host] = now, found
        return found


def plain_address(address: str) -> str:
    """An address as text; of an IPv4 address that comes as an IPv6 one, the IPv4 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def _is_title(text: str) -> bool:
    return 1 <= len(text) <= 16 and text.isascii() and text.isprintable() and "\\" not in text


def _shows(caller: Caller, certificate: Certificate | None) -> bool:
    """Whether the peer's certificate is the one that the caller is bound to, if it is bound to one."""
    if caller.certificate_cn is None and caller.certificate_sha256 is None:
        return True
    if certificate is None:
        return False
    same_name = caller.certificate_cn in (None, certificate.common_name)
    return same_name and caller.certificate_sha256 in (None, certificate.sha256)
