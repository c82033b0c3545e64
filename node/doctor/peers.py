"""Whether everybody that the configuration names answers C-ECHO. All are asked at once, because one that hangs takes its
whole timeout."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from node.checks import Check, Level
from node.config.settings import DestinationSettings, Settings
from node.deliver import stow
from node.deliver.scu import ECHO_CONTEXTS
from node.dimse.associations import Peer, associate
from node.errors import ConfigError, PeerError

LONGEST_S = 10.0
"""For each step of an association: a person waits for the answer."""


def peers(settings: Settings) -> Iterator[Check]:
    """One answer for each destination, for each source with a host and port, and for the PACS of [fetch]."""
    calling = settings.scp.ae_title
    for destination in settings.destinations:
        if destination.url is not None:
            yield _search(destination)
    asked = [Peer.destination(destination, calling) for destination in settings.destinations if destination.url is None]
    asked += [peer for source in settings.sources if (peer := Peer.source(source, calling))]
    asked += [Peer.fetch(settings.fetch, calling)] if settings.fetch else []
    if asked:
        with ThreadPoolExecutor(len(asked)) as pool:
            yield from pool.map(_echo, asked)


def _search(destination: DestinationSettings) -> Check:
    name = f"destination {destination.name}"
    try:
        stow.verify(destination)
    except (PeerError, ConfigError) as error:
        sentence, _, fix = str(error).rpartition("; ")
        return Check(name, Level.FAIL, sentence or fix, fix, failure=type(error))
    return Check(name, Level.OK, f"{destination.url} answers")


def _echo(peer: Peer) -> Check:
    where = f"{peer.ae_title} at {peer.host}:{peer.port}"
    try:
        with associate(replace(peer, timeout_s=min(peer.timeout_s, LONGEST_S)), ECHO_CONTEXTS) as association:
            status = association.send_c_echo().get("Status")
    except (PeerError, ConfigError) as error:
        sentence, _, fix = str(error).rpartition("; ")
        return Check(peer.entry, Level.FAIL, sentence or fix, fix, failure=type(error))
    if status != 0x0000:
        answer = "no answer" if status is None else f"0x{status:04X}"
        return Check(peer.entry, Level.FAIL, f"{where}: C-ECHO: {answer}", "check the peer's log", failure=PeerError)
    return Check(peer.entry, Level.OK, f"{where} answers C-ECHO to {peer.calling_ae_title}")
