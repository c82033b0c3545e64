"""What a loss of power leaves of a segment: whole records are found, others never."""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.archive import segment
from node.archive.segment import BLOCK, Record

HEAD = bytes(128) + b"DICM" + b"file meta"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Segment:
    """A segment as one process writes it and another one reads it."""

    def __init__(self, path: Path, size: int = 64 * BLOCK) -> None:
        segment.create(path, size)
        self.descriptor = os.open(path, os.O_RDWR)
        self.offset = BLOCK
        self.nonce = segment.begin(self.descriptor)

    def write(self, key: str, data_set: bytes) -> Record:
        digest = hashlib.sha256(data_set).hexdigest()
        record = segment.write(self.descriptor, self.nonce, self.offset, NOW, key, HEAD, data_set, digest)
        assert record.ends == self.offset + segment.size_of(key, HEAD, len(data_set))
        self.offset = record.ends
        return record

    def found(self) -> dict[str, bytes]:
        """Keys and data sets of what can be read whole."""
        whole = {r.key: segment.read(self.descriptor, r) for r in segment.records(self.descriptor)}
        assert all(content is None or content.startswith(HEAD) for content in whole.values())
        return {key: content[len(HEAD) :] for key, content in whole.items() if content is not None}


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Segment]:
    one = Segment(tmp_path / "segment")
    yield one
    os.close(one.descriptor)


def test_what_was_written_is_read(one: Segment) -> None:
    contents = {f"instances/1/2/{n}.dcm": os.urandom(n) for n in (0, 1, 100, 4000, 4096, 5000, 20000)}
    for key, content in contents.items():
        one.write(key, content)
    assert one.found() == contents


def test_a_record_that_is_cut_at_any_byte_is_none(one: Segment) -> None:
    """The disk has only the beginning of the last record of a segment. The records before it are there."""
    one.write("instances/1/2/3.dcm", b"kept" * 10)
    last = one.write("instances/1/2/4.dcm", bytes(range(1, 256)) * 2)
    whole = os.pread(one.descriptor, last.ends - last.offset, last.offset)
    length = last.content_offset + last.content_length - last.offset
    for cut in range(length):
        os.pwrite(one.descriptor, whole[:cut] + bytes(length - cut), last.offset)
        assert one.found() == {"instances/1/2/3.dcm": b"kept" * 10}, cut
    os.pwrite(one.descriptor, whole, last.offset)
    assert len(one.found()) == 2


@pytest.mark.parametrize("earlier", [b"", b"an earlier use of the segment" * 200], ids=["zeros", "an earlier use"])
def test_a_record_that_is_torn_is_none_and_what_follows_is_found(one: Segment, earlier: bytes) -> None:
    """Blocks reach the disk in any order, so any of them may still hold what was there before."""
    if earlier:
        for n in range(4):
            one.write(f"instances/1/2/{n + 90}.dcm", earlier)
        one.offset, one.nonce = BLOCK, segment.begin(one.descriptor)
        assert one.found() == {}, "what was written before the segment was begun anew"
    before = os.pread(one.descriptor, 4 * BLOCK, BLOCK)
    torn = one.write("instances/1/2/1.dcm", os.urandom(3 * BLOCK))
    kept = one.write("instances/1/2/2.dcm", b"kept")
    assert torn.ends - torn.offset == 4 * BLOCK == kept.offset - BLOCK
    whole = os.pread(one.descriptor, 4 * BLOCK, torn.offset)
    for mask in range(15):
        for block in range(4):
            source = whole if mask >> block & 1 else before
            os.pwrite(one.descriptor, source[block * BLOCK : (block + 1) * BLOCK], torn.offset + block * BLOCK)
        assert one.found() == {"instances/1/2/2.dcm": b"kept"}, bin(mask)


@given(st.integers(0, 63), st.binary(min_size=1, max_size=40), st.integers(0, BLOCK - 1))
@settings(max_examples=150, deadline=None)
def test_a_record_that_has_changed_is_none(
    tmp_path_factory: pytest.TempPathFactory, block: int, garbage: bytes, at: int
) -> None:
    one = Segment(tmp_path_factory.mktemp("changed") / "segment")
    contents = {f"instances/1/2/{n}.dcm": bytes([n]) * 3000 for n in range(20)}
    for key, content in contents.items():
        one.write(key, content)
    os.pwrite(one.descriptor, garbage[: BLOCK - at], block * BLOCK + at)
    found = one.found()
    os.close(one.descriptor)
    assert all(contents[key] == content for key, content in found.items())
    assert len(found) >= (0 if block == 0 else 19)


def test_what_a_peer_sends_does_not_pass_for_a_record(one: Segment) -> None:
    """Not even a record of another segment, in the right place of a torn one."""
    forger = Segment(Path(f"/proc/self/fd/{one.descriptor}").readlink().with_name("other"))
    forger.offset = 2 * BLOCK
    forged_at = forger.write("instances/6/6/6.dcm", b"forged")
    forged = os.pread(forger.descriptor, BLOCK, forged_at.offset)
    os.close(forger.descriptor)
    key = "instances/1/2/3.dcm"
    first = BLOCK - segment._FRAME.size - len(key) - len(HEAD)
    carrier = one.write(key, bytes(first) + forged)
    assert carrier.content_offset + len(HEAD) + first == forged_at.offset
    os.pwrite(one.descriptor, bytes(100), carrier.offset)
    assert one.found() == {}


@pytest.mark.parametrize("content", [b"", b"x" * 10, bytes(2 * BLOCK), b"DMRS" + bytes(BLOCK)])
def test_what_is_no_segment_has_no_records(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    assert list(segment.records(descriptor)) == []
    os.close(descriptor)
