"""Connections that are opened and not used, or used very slowly: nobody else notices."""

import json
import signal
import socket
import sqlite3
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.hostile.conftest import Certificates, Node, Scanner
from tests.hostile.wire import ABORT, RQ, Wire, associate_body, data_set, many, pdu, pdv, store_command
from tests.waiting import until

ADDRESSES = [f"127.0.1.{n}" for n in range(1, 40)]


def test_silent_connections_to_a_tls_port_stop_nobody(tls_node: Node, certificates: Certificates) -> None:
    """The handshake used to run in the loop that accepts, without a time limit."""
    silent = many(tls_node.port, 40, addresses=ADDRESSES)
    with Scanner(tls_node, certificates.client("scanner"), "1.2.826.10") as scanner:
        scanner.gets_through()
    scanner.lost_nothing()
    tls_node.says("connection.closed", reason="said nothing within 1.5 s")
    assert all(wire.closed() for wire in silent)


def test_a_tls_handshake_has_a_time_limit(tls_node: Node) -> None:
    with Wire(tls_node.port) as wire:
        wire.send(b"\x16\x03\x01\x02\x00")
        assert wire.closed()
    tls_node.says("tls.failed", reason="the TLS handshake took longer than 1.5 s")


def _tls(certificates: Certificates, name: str | None, **changes: object) -> Callable[[int], None]:
    def attack(port: int) -> None:
        context = certificates.client(name)
        for key, value in changes.items():
            setattr(context, key, value)
        with pytest.raises((ssl.SSLError, ConnectionError)), Wire(port, context) as wire:
            wire.send(pdu(RQ, associate_body()))
            wire.socket.recv(1)  # under TLS 1.3 the client hears of its certificate only now

    return attack


def _plain(port: int) -> None:
    with Wire(port) as wire:
        wire.send(pdu(RQ, associate_body()))
        assert wire.closed()


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("no certificate", "the peer shows no certificate"),
        ("stranger", "the certificate of the peer does not verify (unable to get local issuer certificate)"),
        ("expired", "the certificate of the peer does not verify (certificate has expired)"),
        ("no TLS", "it does not speak TLS"),
        ("does not trust us", "the peer does not know the authority of our certificate"),
        ("TLS 1.1", "the peer speaks only TLS versions before 1.2"),
    ],
)
def test_a_tls_connection_that_fails_is_one_line_of_the_log(
    tls_node: Node, certificates: Certificates, who: str, reason: str
) -> None:
    if who == "no TLS":
        attack = _plain
    elif who == "does not trust us":

        def attack(port: int) -> None:
            with pytest.raises(ssl.SSLError):
                Wire(port, ssl.create_default_context())
    elif who == "TLS 1.1":
        # A ClientHello of TLS 1.1, since OpenSSL no longer writes one: random, no session, one cipher, no extensions.
        def attack(port: int) -> None:
            hello = b"\x03\x02" + bytes(32) + b"\0" + b"\0\x02\x00\x2f" + b"\x01\x00"
            record = b"\x01" + len(hello).to_bytes(3, "big") + hello
            with Wire(port) as wire:
                wire.send(b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record)
                assert wire.socket.recv(1) == b"\x15", "an alert"
    else:
        attack = _tls(certificates, None if who == "no certificate" else who)
    before = len(tls_node.lines("tls.failed", reason=reason))
    attack(tls_node.port)
    lines = until(lambda: tls_node.lines("tls.failed", reason=reason)[before:], reason)
    assert len(lines) == 1
    assert lines[0]["host"] == "127.0.0.1" and lines[0]["check"]


TRICKLE = "a byte at a time"


@pytest.mark.parametrize(
    "first",
    [b"", TRICKLE, b"\x01", pdu(RQ, b"x" * 100, length=200), pdu(RQ, associate_body())[:-1]],
    ids=["nothing", "a byte at a time", "a byte", "100 bytes", "all but a byte"],
)
def test_half_an_association_request_keeps_nobody_out(node: Node, first: bytes | str) -> None:
    """Twenty such connections used to take all associations, for ever."""
    request = pdu(RQ, associate_body())
    content = request[:1] if isinstance(first, str) else first
    half = many(node.port, 40, content, ADDRESSES[:5])
    with Scanner(node, root=f"1.2.826.11.{len(content)}.{isinstance(first, str):d}") as scanner:
        if isinstance(first, str):
            waiting = list(half)
            for at in range(1, len(request)):
                for wire in list(waiting):
                    try:
                        wire.send(request[at : at + 1])
                    except ConnectionError:  # it has had its time
                        waiting.remove(wire)
                if not waiting:
                    break
                time.sleep(0.1)
            assert not waiting, "a limit for each read is none for the whole"
        scanner.gets_through()
    scanner.lost_nothing()
    assert all(wire.closed() for wire in half), "each ends by itself"


@pytest.mark.parametrize(
    "first",
    [
        b"",
        pdu(4, b"", length=0xFFFFFFFF),
        pdu(4, b"x", length=1000),
        pdu(4, pdv(1, b"x" * 100, command=True, length=200), length=300),
        pdu(4, pdv(1, store_command(b"1.2.3"), command=True)),
        pdu(4, pdv(1, store_command(b"1.2.3"), command=True)) + pdu(4, pdv(1, b"x" * 9, command=False, last=False)),
    ],
    ids=["nothing", "a header of 4 GB", "half a header", "half a value", "a command alone", "half a data set"],
)
def test_half_a_message_holds_an_association_only_for_its_time(node: Node, first: bytes) -> None:
    held = [Wire(node.port, address=address) for address in ADDRESSES[:18]]
    for number, wire in enumerate(held):
        wire.associate(calling=b"HALF%d" % number)
        wire.send(first)
    with Scanner(node, root=f"1.2.826.12.{len(first)}") as scanner:
        scanner.gets_through()
    scanner.lost_nothing()
    for wire in held:
        answer = wire.receive()
        assert answer is not None and answer.kind == ABORT
        assert wire.closed()
    assert not node.stored().keys() & {"1.2.3"}


def test_one_address_does_not_take_all_associations(node: Node) -> None:
    taken = [Wire(node.port, address="127.0.2.1").associate() for _ in range(10)]
    with Wire(node.port, address="127.0.2.1") as one_more:
        one_more.send(pdu(RQ, associate_body()))
        answer = one_more.receive()
    assert answer is not None and (answer.kind, answer.body) == (3, b"\0\2\3\2"), "transient, local limit exceeded"
    node.says("association.rejected", reason="10 associations from its address", host="127.0.2.1")
    with Scanner(node, root="1.2.826.13") as scanner:
        scanner.gets_through()
    scanner.lost_nothing()
    for wire in taken:
        wire.release()


def test_one_ae_title_does_not_take_all_associations(node: Node) -> None:
    taken = [Wire(node.port, address=f"127.0.2.{n}").associate(calling=b"GREEDY") for n in range(2, 12)]
    with Wire(node.port, address="127.0.2.12") as one_more:
        one_more.send(pdu(RQ, associate_body(calling=b"GREEDY")))
        answer = one_more.receive()
    assert answer is not None and (answer.kind, answer.body) == (3, b"\0\2\3\2"), "transient, local limit exceeded"
    node.says("association.rejected", reason="10 associations under its AE title", source="GREEDY")
    with Scanner(node, root="1.2.826.18") as scanner:
        scanner.gets_through()
    for wire in taken:
        wire.release()


def test_a_flood_of_rejections_leaves_few_rows_in_the_audit_trail(tmp_path: Path) -> None:
    """And one that says how many there were. Each is a line of the log all the same."""
    node = Node(tmp_path / "node", scp="require_called_ae_title = true")
    for n in range(130):
        with Wire(node.port, address="127.0.4.1") as wire:
            wire.send(pdu(RQ, associate_body(called=b"OTHER", calling=f"MR{n}".encode())))
            wire.receive()
    assert len(node.lines("association.rejected", reason="it calls OTHER")) == 130

    def rows() -> list[dict[str, object]]:
        with closing(sqlite3.connect(tmp_path / "node" / "data" / "tracker.sqlite3")) as tracker:
            found = tracker.execute("SELECT details FROM audit WHERE action = 'association'").fetchall()
        return [json.loads(details) for (details,) in found]

    until(lambda: len(rows()) == 100, "the first hundred are rows")
    assert node.stop() == 0
    assert [row["further"] for row in rows()[100:]] == [30]


def test_a_flood_from_one_address_evicts_only_its_own(node: Node) -> None:
    with Wire(node.port, address="127.0.3.1") as patient:
        flood = many(node.port, 200, b"\x01", ["127.0.3.2"])
        patient.associate()
        patient.release()
        for wire in flood:
            wire.socket.close()
    node.says("connection.closed", host="127.0.3.2", reason="[scp] max_waiting_per_address was reached")


@pytest.mark.parametrize("limit", [256, 200])
def test_few_descriptors(tmp_path: Path, limit: int) -> None:
    """252 half-open connections used to make the loop that accepts spin, for ever."""
    node = Node(tmp_path / "node", limit_files=limit)
    assert bool(node.lines("scp.few_descriptors", check="LimitNOFILE")) == (limit == 200)
    half = many(node.port, 300, b"\x01", [f"127.0.{n}.1" for n in range(1, 100)])
    with Scanner(node, root="1.2.826.14") as scanner:
        scanner.gets_through()
    scanner.lost_nothing()
    for wire in half:
        wire.socket.close()
    assert not node.lines("scp.out_of_resources")
    assert node.stop() == 0


@pytest.mark.parametrize("port", ["plain", "TLS"])
def test_a_stop_ends_whatever_is_open(tmp_path: Path, certificates: Certificates, port: str) -> None:
    """SIGTERM used to wait for ever for a TLS handshake or half a PDU."""
    limits = "\n".join(f"{key}_timeout_s = 3600" for key in ("acse", "dimse"))
    node = Node(tmp_path / "node", scp=limits, more=certificates.toml() if port == "TLS" else "")
    if port == "TLS":
        open_ones = [
            *many(node.port, 5),
            *many(node.port, 5, b"\x16\x03\x01"),
            Wire(node.port, certificates.client("scanner")),
        ]
    else:
        open_ones = [
            *many(node.port, 5),
            *many(node.port, 5, b"\x01\0"),
            *(Wire(node.port).associate() for _ in range(3)),
        ]
        open_ones[-1].send(pdu(4, b"half", length=100))
        open_ones[-2].send(b"\x04")
    assert node.stop() == 0
    for wire in open_ones:
        wire.socket.close()


def test_a_stop_lets_a_message_in_hand_be_finished(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", scp="dimse_timeout_s = 3600")
    with Wire(node.port) as wire:
        wire.associate()
        wire.data(pdv(1, store_command(b"1.2.826.15"), command=True))
        node.process.send_signal(signal.SIGTERM)
        node.says("service.stopping")
        with pytest.raises(ConnectionRefusedError):
            while True:  # until the node has left the port
                socket.create_connection(("127.0.0.1", node.port)).close()
        wire.data(pdv(1, data_set("1.2.826.15"), command=False))
        answer = wire.receive()
        assert answer is not None and answer.status == 0x0000
    assert node.process.wait() == 0
    assert node.stored()["1.2.826.15"].endswith(data_set("1.2.826.15"))


def test_what_is_kept_is_closed_to_other_accounts(node: Node) -> None:
    with Scanner(node, root="1.2.826.16") as scanner:
        scanner.gets_through()
    data = node.folder / "data"
    made = [path for path in data.rglob("*") if path.name != "node-id"]
    assert made and not [path for path in made if path.exists() and path.stat().st_mode & 0o027]
