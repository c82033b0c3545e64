"""Messages on an established association that are malformed, out of turn, endless or bombs: answered or aborted, logged
once, and nothing of them is kept."""

from pathlib import Path

import pytest

from tests.hostile.conftest import Node, Scanner
from tests.hostile.wire import (
    ABORT,
    COMMITMENT,
    CONTEXTS,
    IMPLICIT,
    MR,
    NO_DATA_SET,
    RQ,
    Answer,
    Wire,
    associate_body,
    command_set,
    data_set,
    echo_command,
    element,
    pdu,
    pdv,
    store_command,
    us,
)
from tests.waiting import until


def _provider_abort(reason: int) -> Answer:
    return Answer(ABORT, bytes([0, 0, 2, reason]))


UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = (_provider_abort(reason) for reason in (1, 2, 6))
STORE, ECHO = store_command(b"1.2.826.30"), echo_command()
FINDING = "1.2.840.10008.5.1.4.1.2.2.1"
NEVER_ACCEPTED = 77
"""A presentation context that no request here proposes."""

BROKEN = {
    "an unknown PDU": (pdu(9, bytes(10)), UNRECOGNIZED_PDU, "PDU type 0x09"),
    "a second request": (pdu(RQ, associate_body()), UNEXPECTED_PDU, "ASSOCIATE-RQ PDU within an association"),
    "a release nobody asked for": (pdu(6, bytes(4)), UNEXPECTED_PDU, "RELEASE-RP"),
    "a P-DATA of 4 GB": (pdu(4, b"", length=0xFFFFFFFF), INVALID_PARAMETER, "4294967295 bytes, where 65536 were agreed"),
    "a P-DATA that is too long": (pdu(4, b"", length=65536 + 13), INVALID_PARAMETER, "65549 bytes, where 65536 were agreed"),
    "an empty P-DATA": (pdu(4, b""), INVALID_PARAMETER, "an item is longer than its PDU, or too short"),
    "an item too long": (pdu(4, pdv(1, b"abc", True, length=999)), INVALID_PARAMETER, "an item is longer than its PDU"),
    "an item too short": (pdu(4, pdv(1, b"abc", True, length=1)), INVALID_PARAMETER, "an item is longer than its PDU, or too short"),
    "a second item too long": (
        pdu(4, pdv(1, STORE, True) + pdv(1, b"abc", False, length=99)), INVALID_PARAMETER, "an item is longer than its PDU",
    ),
    "half a second item": (pdu(4, pdv(1, STORE, True) + b"\0\0\0"), INVALID_PARAMETER, "an item is longer than its PDU"),
    "data without a command": (pdu(4, pdv(1, b"abc", False)), INVALID_PARAMETER, "a data set where a command set is required"),
    "a command in place of data": (
        pdu(4, pdv(1, STORE, True)) * 2, INVALID_PARAMETER, "a command set comes where a data set has to",
    ),
    "another context within a message": (
        pdu(4, pdv(1, STORE, True) + pdv(3, b"abc", False)), INVALID_PARAMETER, "changes its presentation context",
    ),
    "a context that was not accepted": (pdu(4, pdv(NEVER_ACCEPTED, ECHO, True)), INVALID_PARAMETER, "presentation context 77 was not accepted"),
    "a garbage command": (pdu(4, pdv(1, bytes(range(200)), True)), INVALID_PARAMETER, "element of the command set"),
    "a command cut": (pdu(4, pdv(1, STORE[:-3], True)), INVALID_PARAMETER, "the command set"),
    "an empty command": (pdu(4, pdv(1, b"", True)), INVALID_PARAMETER, "(0000,0100) is missing or malformed"),
    "a command without a field": (pdu(4, pdv(1, command_set({0x0110: us(1)}), True)), INVALID_PARAMETER, "(0000,0100) is missing"),
    "a field of four bytes": (
        pdu(4, pdv(1, command_set({0x0100: bytes(4), 0x0800: us(NO_DATA_SET)}), True)), INVALID_PARAMETER, "(0000,0100) is missing or malformed",
    ),
    "a request without a message ID": (
        pdu(4, pdv(3, command_set({0x0100: us(0x30), 0x0800: us(NO_DATA_SET)}), True)), INVALID_PARAMETER, "(0000,0110) is missing",
    ),
    "a response nobody waits for": (pdu(4, pdv(1, echo_command(field=0x8030), True)), INVALID_PARAMETER, "a response (command field 0x8030)"),
    "a command without end": (
        pdu(4, pdv(1, bytes(60000), True, last=False)) * 2, INVALID_PARAMETER, "an endless command set",
    ),
    "more than a header that is not a header": (b"\xff" * 64, UNRECOGNIZED_PDU, "PDU type 0xFF"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_aborted_and_logged_once(node: Node, name: str) -> None:
    sent, expected, says = BROKEN[name]
    with Wire(node.port, address="127.0.6.1") as wire:
        wire.associate(calling=b"BROKEN")
        before = len(node.raw_log())
        wire.send(sent)
        assert wire.receive() == expected
        assert wire.closed()
    until(lambda: says in node.raw_log()[before:].decode(), says)
    new = [line for line in node.raw_log()[before:].decode().splitlines() if '"level": "info"' not in line]
    assert len(new) == 1 and '"association.aborted"' in new[0] and '"source": "BROKEN"' in new[0], new


STATUSES: dict[str, tuple[int, bytes, bytes | None, int]] = {
    "empty SOP instance UID": (1, store_command(b""), data_set("1.2.826.31"), 0x0117),
    "no SOP instance UID": (1, store_command(b"1.2.826.31", e1000=None), data_set("1.2.826.31"), 0x0117),
    "a path": (1, store_command(b"../../etc/passwd"), data_set("1.2.826.31"), 0x0117),
    "an escape": (1, store_command(b"\x1b[2J"), data_set("1.2.826.31"), 0x0117),
    "empty SOP class": (1, store_command(b"1.2.826.31", sop_class=""), data_set("1.2.826.31"), 0x0122),
    "another SOP class": (1, store_command(b"1.2.826.31", sop_class="1.2.840.10008.5.1.4.1.1.2"), data_set("1.2.826.31"), 0x0122),
    "no data set": (1, store_command(b"1.2.826.31", e0800=us(NO_DATA_SET)), None, 0xC000),
    "damaged data set": (1, store_command(b"1.2.826.31"), b"\x08\x00\x18\x00UI\xff\xff1.2", 0xC000),
    "another instance": (1, store_command(b"1.2.826.31"), data_set("1.2.826.32"), 0xA900),
    "C-STORE on Verification": (3, store_command(b"1.2.826.31"), data_set("1.2.826.31"), 0x0122),
    "C-ECHO on MR": (1, echo_command(), None, 0x0122),
    "C-FIND on MR": (1, echo_command(FINDING, field=0x0020), None, 0x0211),
    "N-ACTION on MR": (1, echo_command(MR, field=0x0130), None, 0x0211),
    "no known operation": (3, echo_command(field=0x1234), None, 0x0211),
}  # fmt: skip
"""What a presentation context gets that nobody does, and the status that answers it."""


@pytest.mark.parametrize("name", STATUSES)
def test_what_cannot_be_done_is_answered_by_a_status(node: Node, name: str) -> None:
    """And the association goes on: an instance that cannot be accepted does not stop the next one."""
    number, command, content, status = STATUSES[name]
    with Wire(node.port) as wire:
        wire.associate()
        wire.message(number, command, content)
        answer = wire.receive()
        assert answer is not None and answer.status == status, answer
        wire.message(3, ECHO)
        answer = wire.receive()
        assert answer is not None and answer.status == 0
        wire.release()
    assert "1.2.826.31" not in node.stored()
    assert b"\x1b" not in node.raw_log() and b"etc/passwd" not in node.raw_log()


def test_a_cancellation_is_not_answered(node: Node) -> None:
    with Wire(node.port) as wire:
        wire.associate()
        wire.data(pdv(1, command_set({0x0100: us(0x0FFF), 0x0120: us(5), 0x0800: us(NO_DATA_SET)}), command=True))
        wire.message(3, ECHO)
        answer = wire.receive()
        assert answer is not None and answer.status == 0 and answer.field(0x0120) == us(9)


def test_an_answer_fits_into_the_pdus_that_the_peer_takes(node: Node) -> None:
    with Wire(node.port) as wire:
        wire.associate(max_length=32)
        wire.message(3, ECHO)
        pieces = []
        while not pieces or not pieces[-1].body[5] & 2:
            answer = wire.receive()
            assert answer is not None and len(answer.body) <= 32
            pieces.append(answer)
        whole = Answer(4, b"".join(piece.body[6:] for piece in pieces))
        assert whole.status == 0 and len(pieces) > 2


def test_values_of_one_byte(node: Node) -> None:
    content = data_set("1.2.826.33", pixels=bytes(8 * 400))
    with Wire(node.port) as wire:
        wire.associate()
        values = [pdv(1, STORE_33[at : at + 1], True, last=at + 1 == len(STORE_33)) for at in range(len(STORE_33))]
        values += [pdv(1, content[at : at + 1], False, last=at + 1 == len(content)) for at in range(len(content))]
        for at in range(0, len(values), 3000):
            wire.data(*values[at : at + 3000])
        answer = wire.receive()
        assert answer is not None and answer.status == 0
    assert node.stored(["1.2.826.33"])["1.2.826.33"].endswith(content)


STORE_33 = store_command(b"1.2.826.33")


def test_two_messages_in_one_pdu(node: Node) -> None:
    with Wire(node.port) as wire:
        wire.associate()
        one, two = data_set("1.2.826.34.1"), data_set("1.2.826.34.2")
        wire.data(
            pdv(1, store_command(b"1.2.826.34.1"), True), pdv(1, one, False), pdv(3, ECHO, True),
            pdv(1, store_command(b"1.2.826.34.2"), True), pdv(1, two[:50], False, last=False),
        )  # fmt: skip
        wire.data(pdv(1, two[50:], False))
        answers = [wire.receive() for _ in range(3)]
    assert [answer.status for answer in answers if answer is not None] == [0, 0, 0]
    stored = node.stored(["1.2.826.34.1", "1.2.826.34.2"])
    assert stored["1.2.826.34.1"].endswith(one) and stored["1.2.826.34.2"].endswith(two)


@pytest.mark.parametrize("cut", ["after the command", "within a PDU", "after each PDU", "before the last"])
def test_an_instance_that_is_cut_is_not_kept(node: Node, cut: str) -> None:
    """And it may be sent again, on the next association."""
    sop_uid = f"1.2.826.35.{len(cut)}"
    content = data_set(sop_uid, pixels=bytes(8 * 2000))
    pieces = [pdv(1, store_command(sop_uid.encode()), True)]
    pieces += [
        pdv(1, content[at : at + 4000], False, last=at + 4000 >= len(content)) for at in range(0, len(content), 4000)
    ]
    ends = {
        "after the command": [1],
        "within a PDU": [2],
        "after each PDU": range(1, len(pieces)),
        "before the last": [-1],
    }
    for end in ends[cut]:
        with Wire(node.port) as wire:
            wire.associate()
            for piece in pieces[:end]:
                wire.data(piece)
            if cut == "within a PDU":
                wire.send(pdu(4, pieces[end])[:-7])
    assert sop_uid not in node.stored()
    with Wire(node.port) as wire:
        wire.associate()
        assert wire.store(sop_uid, content).status == 0
    assert node.stored([sop_uid])[sop_uid].endswith(content)
    assert not list((node.folder / "data" / "incoming").rglob(".part-*"))
    assert node.counted() == len(node.stored())


def test_a_malformed_request_for_commitment(tmp_path: Path) -> None:
    """A malformed request that pynetdicom serves ends its association, and no other."""
    node = Node(
        tmp_path / "node",
        more='[[sources]]\nname = "mr1"\nae_title = "MR1"\n[[sources]]\nname = "s"\nae_title = "SCANNER"\n',
    )
    action = {
        0x0003: COMMITMENT.encode(),
        0x0100: us(0x0130),
        0x0110: us(3),
        0x0800: us(1),
        0x1001: b"1.2.840.10008.1.20.1.1",
        0x1008: us(1),
    }
    for content in (b"", b"\xff" * 100, element(0x1195, b"1.2")):
        with Wire(node.port) as wire:
            wire.associate(contexts=CONTEXTS | {5: (COMMITMENT, IMPLICIT)})
            wire.message(5, command_set(action), content or b"\0")
            answer = wire.receive()
            assert answer is None or answer.kind == ABORT or answer.status in (0x0115, 0x0110)
    for fields in ({0x1008: None}, {0x1001: None}, {0x0003: None}, {0x0003: b"\x1b"}):
        with Wire(node.port) as wire:
            wire.associate(contexts=CONTEXTS | {5: (COMMITMENT, IMPLICIT)})
            changed = {number: value for number, value in (action | fields).items() if value is not None}
            wire.message(5, command_set(changed), b"\0" * 8)
            wire.message(3, ECHO)
            assert wire.receive() is not None
    with Scanner(node, root="1.2.826.40") as scanner:
        scanner.gets_through()
    scanner.lost_nothing()
    until(lambda: node.status("Threads") <= 12, "its threads have ended")
    assert not node.lines("crashed") and b"Traceback" not in node.raw_log() and b"\x1b" not in node.raw_log()
    assert node.stop() == 0


def test_after_all_this_a_scanner_is_served(node: Node) -> None:
    with Scanner(node, root="1.2.826.41") as scanner:
        scanner.gets_through()
    scanner.lost_nothing()
    assert not node.lines("crashed") and not node.lines("association.crashed") and b"Traceback" not in node.raw_log()
