"""Small messages that would take much memory or time: messages without end, compressed and deflated bombs, deep nesting."""

import struct
import zlib
from collections.abc import Iterator

import pytest

from tests.hostile.conftest import Node, Scanner
from tests.hostile.wire import (
    MR,
    Wire,
    data_set,
    echo_command,
    pdv,
    store_command,
    us,
)


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
        wire.message(3, echo_command())
        assert wire.receive() is not None


def test_after_all_this_a_scanner_is_served(small: Node) -> None:
    with Scanner(small, root="1.2.826.42") as scanner:
        scanner.gets_through()
    scanner.lost_nothing()
    assert not small.lines("crashed") and not small.lines("association.crashed") and b"Traceback" not in small.raw_log()
