"""The log of arrivals: an instance becomes durable with one write to a preallocated file, and gets its own file later.

One process has one log, a folder of segments (see `segment.py`). Each entry is marked: `keep` when the tracker has it,
`drop` when the tracker does not have it, `settled` when it has a file of its own. A segment is used again once all its
entries are dropped or settled. `leftovers` reads what a process that died has left.
"""

import errno
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from node.archive import segment
from node.archive.segment import BLOCK, Record
from node.errors import StorageError, StorageFullError

SEGMENT_SIZE = 32 << 20
SPARE_SEGMENTS = 2
MAX_SEGMENTS = 16
"""Segments in use. When instances arrive faster than files can be made, further instances go to files at once."""
_SUFFIX = ".log"

_NO_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
"""Error numbers of a file system that cannot copy by itself."""


class LogFullError(StorageFullError):
    """The log takes nothing more until its entries have files of their own."""


class _Segment:
    """A segment that this process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR)
        self.begin()

    def begin(self) -> None:
        """Use it, or use it again."""
        self.nonce = segment.begin(self.descriptor)
        self.offset = BLOCK
        self.open_entries = 0
        self.closed = False
        self.failed = False

    def remove(self) -> None:
        """Where the file cannot be removed, the next start finds nothing in it that is not settled, and removes it."""
        os.close(self.descriptor)
        with suppress(OSError):
            self.path.unlink()


@dataclass(eq=False)
class LogEntry:
    """A Part 10 file in the log."""

    key: str
    sha256: str
    _segment: _Segment
    _record: Record | None = None

    @property
    def record(self) -> Record:
        assert self._record is not None
        return self._record

    @property
    def descriptor(self) -> int:
        """The descriptor of its segment."""
        return self._segment.descriptor


class Log:
    """The log of one process. Any thread may call anything."""

    def __init__(self, folder: Path, segment_size: int = SEGMENT_SIZE) -> None:
        """Make the first segment. StorageFullError, StorageError."""
        self._folder = folder
        self._size = segment_size
        self._lock = threading.Lock()
        self._active: _Segment | None = None
        self._in_use: set[_Segment] = set()
        self._spare: list[_Segment] = []
        self._kept: dict[str, LogEntry] = {}
        self._numbers = itertools.count(1)
        with _storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._spare.append(self._make())

    @property
    def largest(self) -> int:
        """Size in bytes of the largest data set that the log takes."""
        return self._size // 8

    def prepare(self) -> None:
        """Have segments ready for when the one in use is full: making one takes a moment. StorageFullError, StorageError."""
        while len(self._spare) < SPARE_SEGMENTS and len(self._in_use) + len(self._spare) < MAX_SEGMENTS:
            made = self._make()
            with self._lock:
                self._spare.append(made)

    def append(self, key: str, head: bytes, data_set: bytes | memoryview, sha256: str, at: datetime) -> LogEntry:
        """Write an entry; it is durable after `make_durable`. LogFullError when there is no room, StorageError when it
        cannot be written."""
        size = segment.size_of(key, head, len(data_set))
        with self._lock:
            active = self._active
            if active is None or active.offset + size > self._size:
                active = self._begin_segment()
            offset = active.offset
            active.offset += size
            active.open_entries += 1
        entry = LogEntry(key, sha256, active)
        try:
            entry._record = segment.write(active.descriptor, active.nonce, offset, at, key, head, data_set, sha256)
        except OSError as error:
            self._give_up(active)
            self.drop(entry)
            raise as_storage_error(error, active.path) from None
        return entry

    def make_durable(self, entries: Iterable[LogEntry]) -> None:
        """Make all of them durable with one write. StorageError when the disk fails: then neither they nor later writes
        to their segments can be trusted."""
        for one in {entry._segment for entry in entries}:
            try:
                if one.failed:  # a second fdatasync does not report what the first one lost
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                os.fdatasync(one.descriptor)
            except OSError as error:
                self._give_up(one)
                raise as_storage_error(error, one.path) from None

    def keep(self, entry: LogEntry) -> None:
        """The tracker has it."""
        with self._lock:
            self._kept[entry.key] = entry

    def drop(self, entry: LogEntry) -> None:
        """The tracker does not have it."""
        self._release([entry])

    def waiting(self) -> list[LogEntry]:
        """What is kept and has no file of its own, oldest first."""
        with self._lock:
            return list(self._kept.values())

    def settled(self, entries: Iterable[LogEntry]) -> None:
        """These have files of their own."""
        with self._lock:
            entries = [entry for entry in entries if self._kept.get(entry.key) is entry]
            for entry in entries:
                del self._kept[entry.key]
        self._release(entries)

    def close(self) -> None:
        """Give the descriptors back. Segments without entries are removed; the others are found at the next start."""
        with self._lock:
            for one in [*self._in_use, *self._spare]:
                if one.open_entries:
                    os.close(one.descriptor)
                else:
                    one.remove()
            self._in_use.clear()
            self._spare.clear()
            self._active = None

    def _begin_segment(self) -> _Segment:
        if self._active is not None:
            closed, self._active = self._active, None
            closed.closed = True
            self._reuse(closed)
        if not self._spare and len(self._in_use) >= MAX_SEGMENTS:
            raise LogFullError(f"the log {self._folder} has no free segment")
        self._active = self._spare.pop() if self._spare else self._make()
        self._in_use.add(self._active)
        return self._active

    def _make(self) -> _Segment:
        path = self._folder / f"{next(self._numbers):08d}{_SUFFIX}"
        with _storage_errors(path):
            try:
                segment.create(path, self._size)
                return _Segment(path)
            except OSError:
                path.unlink(missing_ok=True)
                raise

    def _give_up(self, one: _Segment) -> None:
        """Write nothing more to a segment on which the disk failed, and never use it again."""
        with self._lock:
            one.closed = one.failed = True
            if self._active is one:
                self._active = None

    def _release(self, entries: Iterable[LogEntry]) -> None:
        with self._lock:
            for one in (entry._segment for entry in entries):
                one.open_entries -= 1
                self._reuse(one)

    def _reuse(self, one: _Segment) -> None:
        """Have a segment as a spare one again, when it is full and nothing in it is needed."""
        if not one.closed or one.open_entries:
            return
        self._in_use.discard(one)
        if one.failed or len(self._spare) >= SPARE_SEGMENTS:
            one.remove()
        else:
            one.begin()
            self._spare.append(one)


def copy(entry: LogEntry, path: Path) -> None:
    """Copy an entry to a new file, durably, within the kernel where it can. OSError."""
    record = entry.record
    offset, left = record.content_offset, record.content_length
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        while left:
            try:
                count = os.copy_file_range(entry.descriptor, target, left, offset)
            except OSError as error:
                if error.errno not in _NO_COPY:
                    raise
                count = os.write(target, os.pread(entry.descriptor, left, offset))
            if count == 0:
                raise OSError(errno.EIO, "the log is shorter than its entries")
            offset, left = offset + count, left - count
        os.fsync(target)
    finally:
        os.close(target)


def find(folders: Iterable[Path], key: str, sha256: str) -> bytes | None:
    """The Part 10 file with that key and digest of its data set in the logs of any process, living or dead; None when it is
    in none of them."""
    for path in (path for folder in folders for path in sorted(folder.glob(f"*{_SUFFIX}"))):
        with suppress(OSError), _opened(path) as descriptor:
            for record in segment.records(descriptor):
                if (record.key, record.sha256) == (key, sha256):
                    content = segment.read(descriptor, record)
                    if content is not None:
                        return content
    return None


def leftovers(folder: Path) -> Iterator[tuple[Record, bytes | None]]:
    """What the log of a process that died holds: each record with its Part 10 file, None when that is damaged.
    StorageError when it cannot be read."""
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with _storage_errors(path), _opened(path) as descriptor:
            for record in segment.records(descriptor):
                yield record, segment.read(descriptor, record)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise as_storage_error(error, path) from None


def as_storage_error(error: OSError, path: Path) -> StorageError:
    """What to raise for a write to `path` that failed: StorageFullError when the disk or the quota is full."""
    kind = StorageFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
    return kind(f"cannot write {path}: {error.strerror}")
