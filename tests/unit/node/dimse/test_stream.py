"""Reading and writing within time limits, plain and over TLS, whatever the peer does with its bytes."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.dimse import pdu
from node.dimse.message import Incoming
from node.dimse.stream import Stream, StreamClosedError, StreamTimeoutError, TLSStream
from tests.conftest import require
from tests.hostile.wire import data_set, pdv, store_command
from tests.hostile.wire import pdu as written

Pair = Callable[[], tuple[Stream, socket.socket]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    return ours, peer


@pytest.fixture(params=["plain", "TLS"])
def pair(request: pytest.FixtureRequest, certificate: Path) -> Iterator[Pair]:
    """Makes our end as a stream, and the peer's as a socket."""
    made: list[tuple[Stream, socket.socket]] = []

    def make() -> tuple[Stream, socket.socket]:
        ours, peer = _connected()
        if request.param == "plain":
            made.append((Stream(ours), peer))
        else:
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
            client = ssl.create_default_context(cafile=certificate / "cert.pem")
            stream = TLSStream(server.wrap_socket(ours, server_side=True, do_handshake_on_connect=False))
            shaking = threading.Thread(target=stream.handshake, args=(60,))
            shaking.start()
            made.append((stream, client.wrap_socket(peer, server_hostname="localhost")))
            shaking.join()
        return made[-1]

    yield make
    for stream, peer in made:
        stream.close()
        peer.close()


def test_what_is_sent_is_read_however_large(pair: Pair) -> None:
    stream, peer = pair()
    content = bytes(range(256)) * 8192
    sending = threading.Thread(target=peer.sendall, args=(content,))
    sending.start()
    found = memoryview(bytearray(len(content)))
    stream.fill(found, 60)
    sending.join()
    assert found == content
    receiving = bytearray()
    reading = threading.Thread(
        target=lambda: [receiving.extend(peer.recv(65536)) for _ in iter(lambda: len(receiving) < len(content), False)]
    )
    reading.start()
    stream.write(content, 60)
    reading.join()
    assert receiving == content


def test_a_limit_is_for_all_of_it(pair: Pair) -> None:
    """The limit holds for the whole read: a peer that sends a byte now and then does not extend it."""
    stream, peer = pair()
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.02):
            peer.send(b"x")

    trickling = threading.Thread(target=trickle)
    trickling.start()
    with pytest.raises(StreamTimeoutError):
        stream.fill(memoryview(bytearray(1 << 20)), 0.3)
    stop.set()
    trickling.join()


def test_a_peer_that_takes_nothing_does_not_block_for_ever(pair: Pair) -> None:
    stream, _ = pair()
    with pytest.raises(StreamTimeoutError):
        stream.write(bytes(50_000_000), 0.3)


@pytest.mark.parametrize("how", ["read", "write"])
def test_another_thread_can_end_what_blocks(pair: Pair, how: str) -> None:
    stream, _ = pair()
    cutting = threading.Timer(0.1, stream.cut)
    cutting.start()
    if how == "read":
        assert stream.read_some(memoryview(bytearray(10)), 3600) == 0
    else:
        with pytest.raises(StreamClosedError):
            stream.write(bytes(50_000_000), 3600)


def test_an_early_end(pair: Pair) -> None:
    stream, peer = pair()
    peer.sendall(b"abc")
    peer.close()
    with pytest.raises(StreamClosedError):
        stream.fill(memoryview(bytearray(4)), 60)
    assert stream.read_some(memoryview(bytearray(4)), 60) == 0


def test_the_last_words_arrive_though_the_peer_was_still_sending(pair: Pair) -> None:
    stream, peer = pair()
    peer.sendall(bytes(100_000))
    stream.write(b"farewell", 60)
    finishing = threading.Thread(target=stream.finish, args=(60,))
    finishing.start()
    assert peer.recv(100) == b"farewell"
    peer.close()
    finishing.join()


# ---------------------------------------------------------------------- messages out of it

CONTENT = data_set("1.2.3", pixels=bytes(range(256)) * 40)
COMMAND = store_command(b"1.2.3")


def _read_message(stream: Stream) -> tuple[bytes, bytes]:
    incoming, header = Incoming(1 << 20), memoryview(bytearray(pdu.HEADER_LENGTH))
    while True:
        found = pdu.read_header(stream, header, 1 << 20, 60)
        assert found is not None and found.kind == pdu.PDUType.P_DATA
        if incoming.read(stream, found, 60):
            assert incoming.command is not None
            message = incoming.command.encoded, bytes(incoming.data_set)
            assert not incoming.proceed()
            return message


def _pdus(command_ends: list[int], data_ends: list[int], per_pdu: list[int]) -> bytes:
    values = []
    for content, ends, is_command in ((COMMAND, command_ends, True), (CONTENT, data_ends, False)):
        begin = 0
        for end in [*sorted(ends), len(content)]:
            values.append(pdv(1, content[begin:end], is_command, last=False))
            begin = end
        values[-1] = values[-1][:5] + bytes([values[-1][5] | 2]) + values[-1][6:]
    sent = b""
    for count in [*per_pdu, len(values)]:
        if values:
            sent += written(4, b"".join(values[:count]))
            values = values[count:]
    return sent


@given(
    st.lists(st.integers(0, len(COMMAND)), max_size=4),
    st.lists(st.integers(0, len(CONTENT)), max_size=8),
    st.lists(st.integers(1, 5), max_size=8),
    st.lists(st.integers(1, 4000), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_a_message_is_the_same_however_it_is_cut(
    command_ends: list[int], data_ends: list[int], per_pdu: list[int], pieces: list[int]
) -> None:
    sent = _pdus(command_ends, data_ends, per_pdu)
    ours, peer = _connected()

    def send() -> None:
        rest = sent
        for piece in pieces:
            peer.sendall(rest[:piece])
            rest = rest[piece:]
            time.sleep(0.0005)
        peer.sendall(rest)

    sending = threading.Thread(target=send)
    sending.start()
    stream = Stream(ours)
    try:
        assert _read_message(stream) == (COMMAND, CONTENT)
    finally:
        sending.join()
        stream.close()
        peer.close()


def test_a_message_cut_at_every_byte_of_its_first_headers(pair: Pair) -> None:
    sent = _pdus([10], [100], [1, 1, 1])
    for at in range(1, 40):
        stream, peer = pair()
        peer.sendall(sent[:at])
        later = threading.Timer(0.002, peer.sendall, args=(sent[at:],))
        later.start()
        assert _read_message(stream) == (COMMAND, CONTENT)
        later.join()
