"""Messages on an established association that are malformed, out of turn, endless or bombs: answered or aborted, logged
once, and nothing of them is kept."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.conftest import Node, Scanner, until
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


def _provider_abort(reason: int) -> Answer:
    return Answer(ABORT, bytes([0, 0, 2, reason]))


UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = (_provider_abort(reason) for reason in (1, 2, 6))
STORE, ECHO = store_command(b"1.2.826.30"), echo_command()
FINDING = "1.2.840.10008.5.1.4.1.2.2.1"

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
    "data without a command": (pdu(4, pdv(1, b"abc", False)), INVALID_PARAMETER, "a data set comes where a command set has to"),
    "a command in place of data": (
        pdu(4, pdv(1, STORE, True)) * 2, INVALID_PARAMETER, "a command set comes where a data set has to",
    ),
    "another context within a message": (
        pdu(4, pdv(1, STORE, True) + pdv(3, b"abc", False)), INVALID_PARAMETER, "changes its presentation context",
    ),
    "a context that was not accepted": (pdu(4, pdv(77, ECHO, True)), INVALID_PARAMETER, "presentation context 77 was not accepted"),
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
        pdu(4, pdv(1, bytes(60000), True, last=False)) * 2, INVALID_PARAMETER, "a command set without end",
    ),
    "more than a header that is no header": (b"\xff" * 64, UNRECOGNIZED_PDU, "PDU type 0xFF"),
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


@pytest.mark.parametrize(
    ("number", "command", "content", "status"),
    [
        (1, store_command(b""), data_set("1.2.826.31"), 0x0117),
        (1, store_command(b"1.2.826.31", e1000=None), data_set("1.2.826.31"), 0x0117),
        (1, store_command(b"../../etc/passwd"), data_set("1.2.826.31"), 0x0117),
        (1, store_command(b"\x1b[2J"), data_set("1.2.826.31"), 0x0117),
        (1, store_command(b"1.2.826.31", sop_class=""), data_set("1.2.826.31"), 0x0122),
        (1, store_command(b"1.2.826.31", sop_class="1.2.840.10008.5.1.4.1.1.2"), data_set("1.2.826.31"), 0x0122),
        (1, store_command(b"1.2.826.31", e0800=us(NO_DATA_SET)), None, 0xC000),
        (1, store_command(b"1.2.826.31"), b"\x08\x00\x18\x00UI\xff\xff1.2", 0xC000),
        (1, store_command(b"1.2.826.31"), data_set("1.2.826.32"), 0xA900),
        (3, store_command(b"1.2.826.31"), data_set("1.2.826.31"), 0x0122),
        (1, echo_command(), None, 0x0122),
        (1, echo_command(FINDING, field=0x0020), None, 0x0211),
        (1, echo_command(MR, field=0x0130), None, 0x0211),
        (3, echo_command(field=0x1234), None, 0x0211),
    ],
    ids=[
        "empty SOP instance UID", "no SOP instance UID", "a path", "an escape", "empty SOP class", "another SOP class",
        "no data set", "damaged data set", "another instance", "C-STORE on Verification", "C-ECHO on MR", "C-FIND on MR",
        "N-ACTION on MR", "no known operation",
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_answered_by_a_status(
    node: Node, number: int, command: bytes, content: bytes | None, status: int
) -> None:
    """And the association goes on: an instance that cannot be taken is no reason not to take the next."""
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
    assert node.stored()["1.2.826.33"].endswith(content)


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
    stored = node.stored()
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
    assert node.stored()[sop_uid].endswith(content)
    assert not list((node.folder / "data" / "incoming").rglob(".part-*"))


# ---------------------------------------------------------------------- memory


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("small"), scp="max_instance_mb = 2\nmax_commitment_requests = 5\n")
    yield node
    assert node.stop() == 0


def _kb_more(node: Node, before: int) -> int:
    return node.status("VmHWM") - before


def test_messages_without_end(small: Node) -> None:
    before = small.status("VmHWM")
    for _ in range(3):
        wires = [Wire(small.port, address=f"127.0.7.{n}").associate() for n in range(1, 6)]
        for wire in wires:
            wire.data(pdv(1, store_command(b"1.2.826.36"), True))
        aborted = 0
        for wire in wires:
            try:
                while True:
                    wire.data(pdv(1, bytes(60000), False, last=False))
            except ConnectionError:
                aborted += 1
        assert aborted == 5
        for wire in wires:
            wire.socket.close()
    small.says("association.aborted", reason="[scp] max_instance_mb = 2")
    assert _kb_more(small, before) < 50_000
    assert "1.2.826.36" not in small.stored()


def _in_syntax(syntax: str, content: bytes, sop_uid: str, node: Node) -> int:
    with Wire(node.port) as wire:
        wire.associate(contexts={1: (MR, syntax)})
        wire.message(1, store_command(sop_uid.encode()), content)
        answer = wire.receive()
        assert answer is not None
        return answer.status


def _compressed(sop_uid: str, side: int, frame: bytes) -> bytes:
    """A data set that says `side` x `side` pixels, with one frame, encapsulated (PS3.5 annex A.4)."""
    plain = data_set(sop_uid, pixels=b"")
    plain = plain[: plain.index(struct.pack("<HH", 0x7FE0, 0x10))]
    plain = plain.replace(
        struct.pack("<HH2sH", 0x28, 0x10, b"US", 2) + us(0), struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, side)
    )
    plain = plain.replace(
        struct.pack("<HH2sHH", 0x28, 0x11, b"US", 2, 4), struct.pack("<HH2sHH", 0x28, 0x11, b"US", 2, side)
    )

    def one(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0xFFFE, tag, len(value)) + value

    pixels = one(0xE000, b"") + one(0xE000, frame + b"\0" * (len(frame) % 2)) + one(0xE0DD, b"")
    return plain + struct.pack("<HH2s2xL", 0x7FE0, 0x10, b"OB", 0xFFFFFFFF) + pixels


def _jpeg_2000(side: int, rest: bytes) -> bytes:
    """A codestream that says `side` x `side` in one tile (ISO/IEC 15444-1 annex A), and ends early."""
    sides = struct.pack(">LLLLLLLL", side, side, 0, 0, side, side, 0, 0)
    siz = b"\xff\x51" + struct.pack(">HH", 41, 0) + sides + struct.pack(">HBBB", 1, 11, 1, 1)
    cod = b"\xff\x52" + struct.pack(">H", 12) + b"\0\0\0\1\0\5\4\4\0\1"
    qcd = b"\xff\x5c" + struct.pack(">H", 19) + b"\x40" + b"\x48" * 16
    tile = b"\xff\x90" + struct.pack(">HHLBB", 10, 0, 0, 0, 1) + b"\xff\x93" + rest
    return b"\xff\x4f" + siz + cod + qcd + tile + b"\xff\xd9"


JPEG_2000, JPEG_LS, RLE, DEFLATED = (f"1.2.840.10008.1.2.{end}" for end in ("4.90", "4.80", "5", "1.99"))
JPEG_LS_HEAD = (
    b"\xff\xd8\xff\xf7\x00\x0b\x0c"
    + struct.pack(">HH", 20000, 20000)
    + b"\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00"
)
FRAMES = {
    JPEG_2000: _jpeg_2000(20000, bytes(30000)),
    JPEG_LS: JPEG_LS_HEAD + bytes(30000),
    RLE: struct.pack("<16L", 2, 64, 15064, *[0] * 13) + b"\x81\x00" * 15000,
}


@pytest.mark.parametrize("syntax", FRAMES)
def test_comparing_duplicates_does_not_decode_bombs(small: Node, syntax: str) -> None:
    """Two streams of 30 kB under one SOP UID used to make the receiver decode 20,000 x 20,000 pixels: 4.9 GB and 26 s."""
    sop_uid = f"1.2.826.37.{list(FRAMES).index(syntax)}"
    first = _compressed(sop_uid, 20000, FRAMES[syntax])
    assert _in_syntax(syntax, first, sop_uid, small) == 0
    before = small.status("VmHWM")
    assert _in_syntax(syntax, first[:-10] + b"\1\1" + first[-8:], sop_uid, small) == 0xC111
    assert _in_syntax(syntax, first, sop_uid, small) == 0
    assert _kb_more(small, before) < 50_000


def test_a_deflated_data_set_that_becomes_a_gigabyte(small: Node) -> None:
    before = small.status("VmHWM")
    squeeze = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    head = data_set("1.2.826.38", pixels=b"")[:-4] + struct.pack("<L", 1 << 30)
    content = squeeze.compress(head) + squeeze.flush(zlib.Z_FULL_FLUSH)
    megabyte = squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    content += megabyte * (1 << 10)
    content = content[: 2_000_000 // len(megabyte) * len(megabyte)] + squeeze.flush()
    assert _in_syntax(DEFLATED, content, "1.2.826.38", small) == 0xC000
    assert _kb_more(small, before) < 100_000
    assert "1.2.826.38" not in small.stored()


def test_deep_sequences(small: Node) -> None:
    deep = b""
    for _ in range(5000):
        deep += struct.pack("<HH2s2xL", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF) + struct.pack(
            "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
        )
    content = data_set("1.2.826.39")
    at = content.index(struct.pack("<HH", 0x0010, 0x0010))
    with Wire(small.port) as wire:
        wire.associate()
        answer = wire.store("1.2.826.39", content[:at] + deep)
        assert answer.status in (0, 0xC000)
        wire.message(3, ECHO)
        assert wire.receive() is not None


def test_a_malformed_request_for_commitment(tmp_path: Path) -> None:
    """What goes to the back room and makes no sense there ends the association, and no other."""
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


def test_after_all_this_a_scanner_is_served(node: Node, small: Node) -> None:
    for one, root in ((node, "1.2.826.41"), (small, "1.2.826.42")):
        with Scanner(one, root=root) as scanner:
            scanner.gets_through()
        scanner.lost_nothing()
        assert not one.lines("crashed") and not one.lines("association.crashed") and b"Traceback" not in one.raw_log()
