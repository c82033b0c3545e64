"""Messages that are broken, or ask for what nobody does, have one answer on both data paths, over TLS too. (pynetdicom, left to
itself, says nothing to many of them.)"""

from collections.abc import Iterator

import pytest

from tests.hostile.conftest import Certificates, Node
from tests.hostile.test_messages import BROKEN, STATUSES
from tests.hostile.test_requests import MALFORMED, commitment
from tests.hostile.wire import COMMITMENT as CLASS
from tests.hostile.wire import (
    CONTEXTS,
    NO_DATA_SET,
    VERIFICATION,
    Wire,
    command_set,
    data_set,
    echo_command,
    store_command,
    us,
)
from tests.hostile.wire import IMPLICIT as SYNTAX
from tests.waiting import until

INSTANCE = b"1.2.840.10008.1.20.1.1"


@pytest.fixture(scope="module", params=["own", "stock"])
def closed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Node]:
    """A node that wants certificates and knows its sources, with each data path."""
    sources = "".join(f'[[sources]]\nname = "{name}"\nae_title = "{name}"\n' for name in ("MR1", "BROKEN"))
    folder = tmp_path_factory.mktemp("paths") / request.param
    scp = f'data_path = "{request.param}"\n'.replace('"own"', '"fast"')
    node = Node(folder, scp=scp, more=certificates.toml() + sources)
    yield node
    assert node.stop() == 0
    assert b"Traceback" not in node.raw_log() and not node.lines("association.crashed")


def test_broken_requests_and_messages(closed: Node, certificates: Certificates) -> None:
    tls = certificates.client("scanner")
    for name, (sent, expected, says) in MALFORMED.items():
        before = len(closed.raw_log())
        with Wire(closed.port, tls) as wire:
            wire.send(sent)
            assert wire.receive() == expected, name
        quoted = says.replace("\\", "\\\\")
        until(lambda before=before, quoted=quoted: quoted in closed.raw_log()[before:].decode(), says)  # type: ignore[misc]
    for name, (sent, expected, says) in BROKEN.items():
        with Wire(closed.port, tls) as wire:
            wire.associate(calling=b"BROKEN")
            before = len(closed.raw_log())
            wire.send(sent)
            assert wire.receive() == expected, name
        until(lambda before=before, says=says: says in closed.raw_log()[before:].decode(), says)  # type: ignore[misc]


def request(field: int = 0x0130, **changes: bytes | None) -> bytes:
    """A request of storage commitment: an N-ACTION, or an N-EVENT-REPORT."""
    fields = {0x0100: us(field), 0x0110: us(3), 0x0800: us(1)}
    action = {0x0003: CLASS.encode(), 0x1001: INSTANCE, 0x1008: us(1)}
    report = {0x0002: CLASS.encode(), 0x1000: INSTANCE, 0x1002: us(1)}
    fields |= action if field == 0x0130 else report
    for name, value in changes.items():
        fields.pop(int(name[1:], 16), None)
        if value is not None:
            fields[int(name[1:], 16)] = value
    return command_set(fields)


ASKED = commitment("1.2.9.900")[1]
FURTHER = {
    "no priority": (1, store_command(b"1.2.826.40", e0700=None), data_set("1.2.826.40"), 0x0000),
    "a priority that there is not": (1, store_command(b"1.2.826.41", e0700=us(9)), data_set("1.2.826.41"), 0x0000),
    "C-ECHO with a data set": (
        3, command_set({0x0002: VERIFICATION.encode(), 0x0100: us(0x30), 0x0110: us(9), 0x0800: us(0)}), b"xx", 0x0000,
    ),
    "N-ACTION": (5, request(), ASKED, 0x0000),
    "N-ACTION without SOP class": (5, request(e0003=None), ASKED, 0x0118),
    "N-ACTION on another SOP class": (5, request(e0003=b"1.2.3"), ASKED, 0x0118),
    "N-ACTION without SOP instance": (5, request(e1001=None), ASKED, 0x0112),
    "N-ACTION without type": (5, request(e1008=None), ASKED, 0x0123),
    "N-ACTION of another type": (5, request(e1008=us(7)), ASKED, 0x0123),
    "N-ACTION without data set": (5, request(e0800=us(NO_DATA_SET)), None, 0x0115),
    "N-ACTION with garbage": (5, request(), b"\xff" * 40, 0x0115),
    "N-EVENT-REPORT that nobody asked for": (5, request(0x0100), ASKED, 0x0115),
    "N-EVENT-REPORT of another SOP class": (5, request(0x0100, e0002=b"1.2.3"), ASKED, 0x0118),
    "N-EVENT-REPORT of another type": (5, request(0x0100, e1002=us(9)), ASKED, 0x0113),
    "C-STORE on storage commitment": (5, store_command(b"1.2.826.42"), data_set("1.2.826.42"), 0x0122),
}  # fmt: skip


def test_requests_that_nobody_serves(closed: Node, certificates: Certificates) -> None:
    tls = certificates.client("scanner")
    for name, (number, command, content, status) in (STATUSES | FURTHER).items():
        with Wire(closed.port, tls) as wire:
            wire.associate(contexts=CONTEXTS | {5: (CLASS, SYNTAX)})
            wire.message(number, command, content)
            answer = wire.receive()
            assert answer is not None and answer.kind == 4 and answer.status == status, (name, answer)
            wire.message(3, echo_command())
            answer = wire.receive()
            assert answer is not None and answer.status == 0, f"the association goes on after {name}"
            wire.release()
    refused = closed.lines("message.refused", status="0x0118")
    assert {line["source"] for line in refused} == {"MR1"} and len(refused) == 3
