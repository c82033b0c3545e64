"""Association requests that are malformed, too large, or not from whom they say: answered as the standard says, with one
line in the log, before an association is taken."""

import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.conftest import Certificates, Node, Scanner
from tests.hostile.wire import (
    ABORT,
    AC,
    COMMITMENT,
    CONTEXTS,
    EXPLICIT,
    IMPLICIT,
    MR,
    RJ,
    RQ,
    Answer,
    Wire,
    associate_body,
    command_set,
    data_set,
    echo_command,
    item,
    pdu,
    pdv,
    presentation_context,
    store_command,
    us,
)
from tests.waiting import until

USER_ABORT = Answer(ABORT, b"\0\0\0\0")
"""AA-1 of PS3.8 table 9-9: what comes before an association is aborted by the user, without a reason."""

BIG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in range(40))


def _rejected(result: int, source: int, reason: int) -> Answer:
    return Answer(RJ, bytes([0, result, source, reason]))


def _one_log_line(node: Node, wire: Wire, sent: bytes) -> tuple[Answer | None, dict[str, Any]]:
    """What is answered, and the one line of the log from WARNING up that comes of it."""
    before = len(node.raw_log())
    wire.send(sent)
    answer = wire.receive()
    assert answer is None or wire.closed()
    address = wire.socket.getsockname()[0] if wire.socket.fileno() >= 0 else "127.0.0.1"

    def lines() -> list[str]:
        new = node.raw_log()[before:].decode().splitlines()
        return [line for line in new if '"level": "warning"' in line or '"level": "error"' in line]

    found = until(lines, f"a line about {address}")
    assert len(found) == 1, found
    return answer, json.loads(found[0])


MALFORMED = {
    "a TLS handshake": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", USER_ABORT, "began with a TLS handshake"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", USER_ABORT, "began with PDU type 0x47"),
    "data first": (pdu(4, pdv(1, b"x" * 10, command=True)), USER_ABORT, "began with an P-DATA PDU"),
    "a release first": (pdu(5, bytes(4)), USER_ABORT, "began with an RELEASE-RQ PDU"),
    "an acceptance first": (pdu(2, bytes(100)), USER_ABORT, "began with an ASSOCIATE-AC PDU"),
    "an empty request": (pdu(RQ, b""), USER_ABORT, "malformed: it is too short"),
    "a short request": (pdu(RQ, bytes(30)), USER_ABORT, "malformed: it is too short"),
    "garbage": (pdu(RQ, associate_body()[:68] + bytes(range(256)) * 4), USER_ABORT, "malformed"),
    "an item too long": (pdu(RQ, associate_body() + item(0x50, b"x", 999)), USER_ABORT, "longer than what holds it"),
    "an item cut": (pdu(RQ, associate_body() + b"\x50\0"), USER_ABORT, "ends within an item"),
    "an even context ID": (pdu(RQ, associate_body(contexts={2: (MR, EXPLICIT)})), USER_ABORT, "not an odd number"),
    "context ID 0": (pdu(RQ, associate_body(contexts={0: (MR, EXPLICIT)})), USER_ABORT, "not an odd number"),
    "a context twice": (
        pdu(RQ, associate_body() + presentation_context(1, MR, EXPLICIT)), USER_ABORT, "presentation context 1 is there twice",
    ),
    "a context without syntax": (pdu(RQ, associate_body(contexts={1: (MR,)})), USER_ABORT, "has no abstract or no transfer syntax"),
    "PDUs of 5 bytes": (pdu(RQ, associate_body(max_length=5)), USER_ABORT, "no message fits into PDUs of 5 bytes"),
    "a role cut": (pdu(RQ, associate_body(extra=item(0x54, b"\0\x20abc"))), USER_ABORT, "role selection"),
    "4 GB": (pdu(RQ, b"", length=0xFFFFFFFF), USER_ABORT, "claims 4294967295 bytes"),
    "version 2": (pdu(RQ, associate_body(version=2)), _rejected(1, 2, 2), "version 0x0002 of the upper layer protocol"),
    "another application context": (
        pdu(RQ, associate_body(application_context=b"1.2.3")), _rejected(1, 1, 2), "application context that is not DICOM's",
    ),
    "no application context": (
        pdu(RQ, associate_body(application_context=None)), _rejected(1, 1, 2), "application context that is not DICOM's",
    ),
    "an empty calling title": (pdu(RQ, associate_body(calling=b"")), _rejected(1, 1, 3), "calling AE title is empty"),
    "an empty called title": (pdu(RQ, associate_body(called=b" ")), _rejected(1, 1, 7), "it calls nobody"),
    "control characters": (pdu(RQ, associate_body(calling=b"\x1b[2JEVIL\x07")), _rejected(1, 1, 3), "empty or malformed"),
    "a title that is no ASCII": (pdu(RQ, associate_body(calling=b"M\xfcller")), _rejected(1, 1, 3), "empty or malformed"),
    "an escape in the called title": (pdu(RQ, associate_body(called=b"\x1b]0;x\x07")), _rejected(1, 1, 7), "it calls \\x1b]0;x\\x07"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_answered_and_logged(node: Node, name: str) -> None:
    sent, expected, says = MALFORMED[name]
    with Wire(node.port, address="127.0.4.1") as wire:
        answer, line = _one_log_line(node, wire, sent)
    assert answer == expected
    assert says in line["reason"] and line["check"] and line["host"] == "127.0.4.1"
    assert b"\x1b" not in node.raw_log() and b"\\u001b" not in node.raw_log()


def test_a_request_may_propose_much_and_costs_little(node: Node) -> None:
    """128 presentation contexts of 2,000 transfer syntaxes used to cost 3.7 s of CPU; as many as fit are answered."""
    proposals = {n: (f"1.2.840.10008.5.1.4.1.1.{n}", *BIG * 6) for n in range(1, 256, 2)} | {255: (MR, EXPLICIT)}
    body = associate_body(contexts=proposals)
    assert 700_000 < len(body) < 1 << 20
    with Wire(node.port) as wire:
        before = Path(f"/proc/{node.process.pid}/stat").read_text().split()[13:15]
        wire.send(pdu(RQ, body))
        answer = wire.receive()
        after = Path(f"/proc/{node.process.pid}/stat").read_text().split()[13:15]
        assert answer is not None and answer.kind == AC
        assert answer.body.count(b"\x21\0") >= 128
        assert sum(map(int, after)) - sum(map(int, before)) < 100, "hundredths of a second of CPU"
        wire.release()


def test_a_request_that_is_too_large_is_not_read(node: Node) -> None:
    """A request that claimed 4 GB used to be read to memory as far as it came."""
    before = node.status("VmRSS")
    with Wire(node.port) as wire:
        wire.send(pdu(RQ, associate_body(), length=0xFFFFFFFF))
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                wire.send(bytes(1 << 20))
    assert node.status("VmRSS") < before + 20_000


def test_a_role_nobody_can_have_is_not_accepted(policed: Node) -> None:
    with Wire(policed.port) as wire:
        neither = item(0x54, len(COMMITMENT).to_bytes(2, "big") + COMMITMENT.encode() + b"\0\0")
        wire.send(pdu(RQ, associate_body(contexts={1: (COMMITMENT, IMPLICIT)}, extra=neither)))
        answer = wire.receive()
    assert answer is not None and answer.kind == AC
    assert item(0x21, b"\x01\0\x01\0" + item(0x40, IMPLICIT.encode())) in answer.body


# ---------------------------------------------------------------------- who may call


@pytest.fixture(scope="module")
def policed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    more = """
        [[sources]]
        name = "mr1"
        ae_title = "MR1"
        host = "127.0.0.1"
        [[sources]]
        name = "mr2"
        ae_title = "SCANNER"
        [[destinations]]
        name = "pacs"
        ae_title = "PACS"
        host = "127.0.5.5"
        commitment = true
        [[destinations]]
        name = "quiet"
        ae_title = "QUIET"
        host = "127.0.0.1"
        [fetch]
        ae_title = "OLDPACS"
        host = "127.0.5.6"
    """
    scp = "max_commitment_requests = 3\nrequire_called_ae_title = true\n"
    node = Node(tmp_path_factory.mktemp("policed"), scp=scp, more=more)
    yield node
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("calling", "address", "called", "expected"),
    [
        (b"MR1", "127.0.0.1", b"DIFFMSR", None),
        (b"MR1", "127.0.0.2", b"DIFFMSR", "its address is not that of source mr1 (127.0.0.1)"),
        (b"SCANNER", "127.0.0.2", b"DIFFMSR", None),
        (b"PACS", "127.0.5.5", b"DIFFMSR", None),
        (b"PACS", "127.0.0.1", b"DIFFMSR", "its address is not that of destination pacs (127.0.5.5)"),
        (b"OLDPACS", "127.0.5.6", b"DIFFMSR", None),
        (b"OLDPACS", "127.0.5.5", b"DIFFMSR", "its address is not that of the PACS of [fetch] (127.0.5.6)"),
        (b"QUIET", "127.0.0.1", b"DIFFMSR", "its AE title is not among the [[sources]]"),
        (b"STRANGER", "127.0.0.1", b"DIFFMSR", "its AE title is not among the [[sources]]"),
        (b"MR1", "127.0.0.1", b"OTHER", "it calls OTHER, not DIFFMSR"),
    ],
)
def test_who_may_call_from_where(
    policed: Node, calling: bytes, address: str, called: bytes, expected: str | None
) -> None:
    with Wire(policed.port, address=address) as wire:
        request = pdu(RQ, associate_body(calling=calling, called=called))
        if expected is None:
            wire.send(request)
            answer = wire.receive()
            assert answer is not None and answer.kind == AC
            wire.release()
            return
        answer, line = _one_log_line(policed, wire, request)
    reason = 7 if called == b"OTHER" else 3
    assert answer == _rejected(1, 1, reason)
    assert line["event"] == "association.rejected" and line["reason"] == expected
    assert (line["source"], line["host"]) == (calling.decode(), address)


def test_nothing_of_a_stranger_gets_in(policed: Node) -> None:
    """Not even when all of it is sent at once, without waiting for an answer."""
    with Wire(policed.port) as wire:
        everything = pdu(RQ, associate_body(calling=b"STRANGER"))
        everything += pdu(4, pdv(1, store_command(b"1.2.826.20"), command=True))
        everything += pdu(4, pdv(1, data_set("1.2.826.20"), command=False))
        wire.send(everything)
        assert wire.receive() == _rejected(1, 1, 3)
        assert wire.closed()
    assert "1.2.826.20" not in policed.stored()


def _accepted(answer: Answer | None, number: int) -> bool:
    assert answer is not None and answer.kind == AC
    return item(0x21, bytes([number, 0, 0, 0]) + item(0x40, IMPLICIT.encode())) in answer.body


@pytest.mark.parametrize(
    ("calling", "address", "may"),
    [(b"MR1", "127.0.0.1", True), (b"PACS", "127.0.5.5", True), (b"OLDPACS", "127.0.5.6", False)],
)
def test_who_may_ask_for_storage_commitment(policed: Node, calling: bytes, address: str, may: bool) -> None:
    with Wire(policed.port, address=address) as wire:
        wire.send(pdu(RQ, associate_body(calling=calling, contexts=CONTEXTS | {5: (COMMITMENT, IMPLICIT)})))
        answer = wire.receive()
        assert _accepted(answer, 3) and _accepted(answer, 5) == may


def test_a_node_without_sources_takes_no_requests_for_storage_commitment(node: Node) -> None:
    with Wire(node.port) as wire:
        wire.send(pdu(RQ, associate_body(contexts=CONTEXTS | {5: (COMMITMENT, IMPLICIT)})))
        answer = wire.receive()
        assert _accepted(answer, 3) and not _accepted(answer, 5)


def commitment(transaction: str) -> tuple[bytes, bytes]:
    """Command and data set (implicit VR little endian) of an N-ACTION."""
    command = command_set({
        0x0003: COMMITMENT.encode(), 0x0100: us(0x0130), 0x0110: us(3), 0x0800: us(1), 0x1001: b"1.2.840.10008.1.20.1.1",
        0x1008: us(1),
    })  # fmt: skip

    def one(group: int, element: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return group.to_bytes(2, "little") + element.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value

    instance = one(0x08, 0x1150, MR.encode()) + one(0x08, 0x1155, b"1.2.3")
    sequence = one(0x08, 0x1199, one(0xFFFE, 0xE000, instance))
    return command, one(0x08, 0x1195, transaction.encode()) + sequence


def test_a_peer_is_owed_only_so_many_reports(policed: Node) -> None:
    """And the association is as good as before for what follows: C-STORE and C-ECHO are still served."""
    with Wire(policed.port) as wire:
        wire.associate(contexts=CONTEXTS | {5: (COMMITMENT, IMPLICIT)})
        statuses = []
        for n in range(5):
            wire.message(5, *commitment(f"1.2.9.{n}"))
            answer = wire.receive()
            assert answer is not None
            statuses.append(answer.status)
        assert statuses == [0, 0, 0, 0x0213, 0x0213]
        wire.message(3, echo_command())
        answer = wire.receive()
        assert answer is not None and answer.status == 0
        assert wire.store("1.2.826.21").status == 0
    policed.says("commitment.too_many_requests", source="MR1")


def test_a_certificate_may_be_bound_to_an_ae_title(tmp_path: Path, certificates: Certificates) -> None:
    der = ssl.PEM_cert_to_DER_cert((certificates.folder / "scanner.crt").read_text())
    digest = hashlib.sha256(der).hexdigest().upper()
    fingerprint = ":".join(digest[at : at + 2] for at in range(0, 64, 2))
    sources = "".join(
        f'[[sources]]\nname = "{name}"\nae_title = "{name}"\n{bound}\n'
        for name, bound in {
            "CN": 'certificate_cn = "scanner"', "OTHERCN": 'certificate_cn = "mr7"',
            "PRINT": f'certificate_sha256 = "{fingerprint}"', "OTHERPRINT": f'certificate_sha256 = "{"0" * 64}"',
        }.items()
    )  # fmt: skip
    node = Node(tmp_path / "node", more=certificates.toml() + sources)
    answers = {}
    for name in ("CN", "OTHERCN", "PRINT", "OTHERPRINT"):
        with Wire(node.port, certificates.client("scanner")) as wire:
            wire.send(pdu(RQ, associate_body(calling=name.encode())))
            answer = wire.receive()
            assert answer is not None
            answers[name] = answer.kind
    assert answers == {"CN": AC, "OTHERCN": RJ, "PRINT": AC, "OTHERPRINT": RJ}
    node.says("association.rejected", reason="its certificate is not that of source OTHERCN", source="OTHERCN")
    assert node.stop() == 0


def test_after_all_this_a_scanner_is_served(node: Node, policed: Node) -> None:
    for one, root in ((node, "1.2.826.22"), (policed, "1.2.826.23")):
        with Scanner(one, root=root) as scanner:
            scanner.gets_through()
        scanner.lost_nothing()
        assert not one.lines("crashed") and not one.lines("association.crashed")
