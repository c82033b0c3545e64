"""The log of arrivals: read like the archive before it is the archive, used again and again, whole after any end."""

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.archive import log as logs
from node.archive.digest import Digest, sha256
from node.archive.facade import Archive
from node.archive.layout import instance_key
from node.archive.local import LocalFolder
from node.archive.log import Log, LogEntry, LogFullError
from node.archive.segment import BLOCK
from node.errors import LostError, StorageError, StorageFullError

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SYNTAX = "1.2.840.10008.1.2.1"
HEAD = (
    bytes(128)
    + b"DICM"
    + b"\x02\x00\x00\x00UL\x04\x00\x1c\x00\x00\x00"
    + b"\x02\x00\x10\x00UI\x14\x00"
    + SYNTAX.encode()
    + b"\0"
)


def key(number: int) -> str:
    return instance_key("1.2", "1.2.3", f"1.2.3.{number}")


def everything(entries: object) -> set[str]:
    return {entry.key for entry in entries}  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "archive", ("instances",))


@pytest.fixture
def log(folder: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    monkeypatch.setattr(logs, "SEGMENT_SIZE", 64 * BLOCK)
    opened = Log(folder._incoming() / "log", 64 * BLOCK)
    yield opened
    opened.close()


def put(log: Log, number: int, content: bytes) -> LogEntry:
    entry = log.append(key(number), HEAD, content, sha256(content), NOW)
    log.make_durable([entry])
    log.keep(entry)
    return entry


def read(root: Path, number: int, content: bytes) -> bytes:
    """As another process reads it."""
    return Archive.in_folder(root).instance(key(number), Digest(sha256(content), SYNTAX)).content()


def test_what_is_in_the_log_is_read_like_a_file(folder: LocalFolder, log: Log) -> None:
    for number in range(5):
        put(log, number, bytes([number]) * 5000)
    assert not list((folder.root / "instances").rglob("*.dcm"))
    for number in range(5):
        content = bytes([number]) * 5000
        assert read(folder.root, number, content) == HEAD + content
    with pytest.raises(LostError):
        read(folder.root, 9, b"")


def test_each_gets_a_file_and_the_segments_are_used_again(folder: LocalFolder, log: Log) -> None:
    contents = {number: os.urandom(3 * BLOCK) for number in range(100)}
    for number, content in contents.items():
        put(log, number, content)
        if number % 10 == 9:
            waiting = log.waiting()
            folder.settle(waiting, everything)
            log.settled(waiting)
            log.settled(waiting)  # twice changes nothing
            log.prepare()
    assert log.waiting() == []
    assert len(list(folder.root.rglob("*.log"))) <= 3, "six full segments were written"
    for number, content in contents.items():
        path = folder.root / key(number)
        assert path.read_bytes() == HEAD + content == read(folder.root, number, content)
    assert not list(folder.root.rglob(".part-*"))


def test_a_dropped_entry_gets_no_file_and_its_room_is_used_again(folder: LocalFolder, log: Log) -> None:
    for number in range(100):
        log.drop(log.append(key(number), HEAD, bytes(3 * BLOCK), sha256(bytes(3 * BLOCK)), NOW))
    assert log.waiting() == []
    assert len(list(folder.root.rglob("*.log"))) <= 3


def test_what_is_no_longer_wanted_gets_no_file(folder: LocalFolder, log: Log) -> None:
    """Its study was purged: before the file was made, or while it was."""
    entries = [put(log, number, b"content") for number in range(3)]
    answers = iter([{key(0), key(1)}, {key(0)}])
    folder.settle(entries, lambda _: next(answers))
    assert [path.name for path in (folder.root / "instances").rglob("*.dcm")] == ["1.2.3.0.dcm"]


def test_a_log_that_is_full_says_so(folder: LocalFolder, log: Log) -> None:
    with pytest.raises(LogFullError):
        for number in range(10_000):
            put(log, number, bytes(50 * BLOCK))
    assert len(log.waiting()) == logs.MAX_SEGMENTS
    folder.settle(log.waiting(), everything)
    log.settled(log.waiting())
    put(log, 10_001, b"again")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """No room for a log; room for a log, but not for the files; and room again."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", small], check=False).returncode:
        pytest.skip("this sandbox does not let root mount a tmpfs")
    try:
        folder = LocalFolder(small, ("instances",))
        with pytest.raises(StorageFullError):
            Log(folder._incoming() / "log", 4 << 20)
        assert not list(small.rglob("*.log"))
        log = Log(folder._incoming() / "log", 150 * BLOCK)
        content = os.urandom(10 * BLOCK)
        entries = [put(log, number, content) for number in range(12)]
        with pytest.raises(StorageFullError):
            log.prepare()
            put(log, 99, bytes(100 * BLOCK))
        with pytest.raises(StorageFullError):
            folder.settle(entries, everything)
        assert not list(small.rglob(".part-*")) and not list(small.rglob("*.dcm"))
        assert read(small, 11, content) == HEAD + content
        subprocess.run(["mount", "-o", "remount,size=4M", small], check=True)
        folder.settle(entries, everything)
        log.settled(entries)
        assert read(small, 11, content) == HEAD + content == (small / key(11)).read_bytes()
        log.close()
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def test_a_disk_that_fails_is_not_trusted_again(folder: LocalFolder, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error of fdatasync the kernel considers the pages clean, so the content of that segment may be lost."""

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    entry = log.append(key(1), HEAD, b"one", sha256(b"one"), NOW)
    with monkeypatch.context() as broken:
        broken.setattr(logs.os, "fdatasync", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            log.make_durable([entry])
    after = put(log, 2, b"two")
    assert after.descriptor != entry.descriptor


def test_what_a_dead_process_left_is_found_once(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    dead = LocalFolder(root, ("instances",))
    log = dead.open_log()
    for number in range(3):
        put(log, number, bytes([number]) * 100)
    living = LocalFolder(root, ("instances",))
    assert list(living.leftovers()) == [], "it is alive"
    assert dead._held is not None
    dead._held.close()
    assert living.discard_incoming() == 0
    found = list(living.leftovers())
    assert [record.key for record, _ in found] == [key(0), key(1), key(2)]
    assert [content for _, content in found] == [HEAD + bytes([number]) * 100 for number in range(3)]
    assert list(living.leftovers()) == []
    log.close()


def test_a_segment_that_cannot_be_removed_does_not_end_the_others(folder: LocalFolder) -> None:
    """As on a disk that has become read-only: a stop goes on."""
    opened = Log(folder._incoming() / "log", 64 * BLOCK)
    (segment,) = (folder._incoming() / "log").glob("*")
    segment.unlink()
    segment.mkdir()
    opened.close()
