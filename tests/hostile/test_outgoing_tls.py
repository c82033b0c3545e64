"""Who pretends to be a destination gets nothing: its certificate has to name the host, be of a known authority, and be in force."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from node.config.base import TLSSettings
from node.config.settings import DestinationSettings
from node.deliver.scu import echo
from node.dimse.associations import Peer
from node.dimse.query import c_find
from node.errors import PeerError
from tests.hostile.conftest import Certificates


class Pretender:
    """Listens, does the TLS handshake with a certificate, and notes what it hears behind it."""

    def __init__(self, certificates: Certificates, name: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.folder / f"{name}.crt", certificates.folder / f"{name}.key")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, suppress(OSError), self._context.wrap_socket(connection, server_side=True) as secured:
                self.heard.append(secured.recv(6))


@pytest.fixture
def pretender(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Pretender]:
    pretender = Pretender(certificates, request.param)
    yield pretender
    pretender.close()


def destination(pretender: Pretender, certificates: Certificates, host: str) -> DestinationSettings:
    folder = certificates.folder
    tls = TLSSettings(
        cert_file=folder / "scanner.crt", key_file=folder / "scanner.key", ca_file=folder / "ours.crt"
    )  # fmt: skip
    return DestinationSettings(name="pacs", ae_title="PACS", host=host, port=pretender.port, timeout_s=300, tls=tls)


@pytest.mark.parametrize(
    ("pretender", "host", "reason"),
    [
        ("node", "127.0.0.1", "certificate is not valid for '127.0.0.1'"),
        ("stranger", "localhost", "unable to get local issuer certificate"),
        ("expired", "localhost", "certificate has expired"),
    ],
    indirect=["pretender"],
)
def test_a_destination_that_is_not_who_it_says_hears_nothing(
    pretender: Pretender, certificates: Certificates, host: str, reason: str
) -> None:
    said = destination(pretender, certificates, host)
    with pytest.raises(PeerError, match="the TLS handshake failed") as failed:
        echo(said, "DIFFMSR")
    assert reason in str(failed.value), "for the data path of our own"
    with pytest.raises(PeerError, match="the TLS handshake failed"):  # for that of pynetdicom
        list(c_find(Peer.destination(said, "DIFFMSR"), "STUDY"))
    assert pretender.heard == []


@pytest.mark.parametrize("pretender", ["node"], indirect=True)
def test_the_right_certificate_is_spoken_to(pretender: Pretender, certificates: Certificates) -> None:
    """Else the test above would prove nothing."""
    with pytest.raises(PeerError):
        echo(destination(pretender, certificates, "localhost"), "DIFFMSR")
    assert [first[:1] for first in pretender.heard] == [b"\x01"], "an A-ASSOCIATE-RQ"
