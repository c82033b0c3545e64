"""Questions about this host: how fast its disk makes something durable, its clock, and the ports that the node needs."""

import ctypes
import os
import socket
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from node.checks import Check, Level
from node.config.settings import Settings
from node.deliver.scu import ECHO_CONTEXTS
from node.dimse.associations import Peer, associate
from node.errors import NodeError, PeerError
from node.locks import running_roles
from node.roles import Role

FSYNCS = 15
SLOW_FSYNC_S = 0.05
"""A receiver makes one instance after the other durable: above this a series of 500 slices takes half a minute."""

_TIME_ERROR = 5
"""What adjtimex(2) answers when nothing keeps the clock right."""


def durable_writes(settings: Settings) -> Check:
    """How long the disk of the archive takes to make 150 kB durable, as it must for each instance."""
    name = "disk speed"
    folder = settings.archive_folder
    if folder is None:
        return Check(name, Level.OK, "the archive is an object store; its speed was not measured")
    try:
        taken = statistics.median(_durable_write(folder) for _ in range(FSYNCS))
    except OSError as error:
        return Check(name, Level.FAIL, f"cannot write under {folder}: {error.strerror}", "check the disk")
    sentence = f"a durable write of 150 kB under {folder} takes {taken * 1000:.1f} ms"
    if taken > SLOW_FSYNC_S:
        return Check(
            name, Level.WARN, f"{sentence}, which slows the receiver down", "use a local SSD for [node] data_dir"
        )
    return Check(name, Level.OK, sentence)


def _durable_write(folder: Path) -> float:
    with tempfile.TemporaryFile(dir=folder) as file:
        started = time.perf_counter()
        file.write(bytes(150_000))
        file.flush()
        os.fsync(file.fileno())
        return time.perf_counter() - started


def clock(settings: Settings) -> Check:
    """Whether something keeps the clock of this host right: leases, deadlines and the times in objects depend on it."""
    name = "clock"
    if _kernel_clock_state() == _TIME_ERROR:
        sentence = f"nothing keeps the clock of this host right; it says {time.strftime('%Y-%m-%d %H:%M:%S %Z')}"
        return Check(name, Level.WARN, sentence, "synchronise it, for example with chrony or systemd-timesyncd")
    return Check(name, Level.OK, "the clock of this host is synchronised")


def _kernel_clock_state() -> int:
    """The answer of adjtimex(2) to a call that changes nothing."""
    state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    return state


def ports(settings: Settings) -> Iterator[Check]:
    """The node listens where it should; where it does not run, nobody else has its ports."""
    running = running_roles(settings.node.data_dir)
    scp = settings.scp
    if Role.RECEIVE in running:
        yield _own_echo(settings)
    else:
        yield _free("receiver", "[scp]", scp.host, scp.port)
    if settings.web.enabled:
        if Role.WEB in running:
            yield _own_page(settings)
        else:
            yield _free("page", "[web]", settings.web.host, settings.web.port)


def _free(name: str, section: str, host: str, port: int) -> Check:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except PermissionError:
        fix = f"set {section} port to 1024 or above, or give the service CAP_NET_BIND_SERVICE"
        return Check(name, Level.FAIL, f"this user may not listen on port {port}", fix)
    except OSError as error:
        sentence = f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}"
        return Check(
            name, Level.FAIL, sentence, f"stop what listens there (ss -ltnp), or change {section} host or port"
        )
    return Check(name, Level.OK, f"does not run; {host} port {port} is free")


def _reachable(host: str) -> str:
    """Where what listens on `host` answers this host."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def _own_echo(settings: Settings) -> Check:
    """C-ECHO to our own receiver, as the first source would do it."""
    name, scp = "receiver", settings.scp
    host = _reachable(scp.host)
    where = f"{scp.ae_title} on port {scp.port}"
    try:
        if scp.tls is not None:  # with TLS it wants a certificate of a source, which we do not have
            socket.create_connection((host, scp.port), timeout=10).close()
            return Check(name, Level.OK, f"{where} accepts connections; TLS was not tried")
        calling = settings.sources[0].ae_title if settings.sources else scp.ae_title
        peer = Peer("this node", scp.ae_title, host, scp.port, 10, calling)
        with associate(peer, ECHO_CONTEXTS) as association:
            association.send_c_echo()
    except PeerError as error:
        if "rejected" in str(error):
            return Check(name, Level.OK, f"{where} answers; it rejects this host, which is not among [[sources]]")
        return Check(name, Level.FAIL, str(error), "see the log of the service", failure=PeerError)
    except OSError as error:
        sentence = f"{where} does not answer: {(error.strerror or str(error)).lower()}"
        return Check(name, Level.FAIL, sentence, "see the log of the service", failure=PeerError)
    return Check(name, Level.OK, f"{where} answers C-ECHO")


def _own_page(settings: Settings) -> Check:
    name, web = "page", settings.web
    host = _reachable(web.host)
    try:
        if web.tls is not None:
            socket.create_connection((host, web.port), timeout=10).close()
        else:
            urllib.request.urlopen(f"http://{host}:{web.port}/health/live", timeout=10).close()
    except (OSError, urllib.error.URLError) as error:
        sentence = f"port {web.port} does not answer: {getattr(error, 'reason', error)}"
        return Check(name, Level.FAIL, sentence, "see the log of the service", failure=NodeError)
    return Check(name, Level.OK, f"port {web.port} answers")
