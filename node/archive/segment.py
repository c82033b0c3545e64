"""A segment of the log of arrivals: a preallocated file of records, each of which can be recognised.

A segment begins with a block of its own, which holds a random number, its nonce. It is chosen anew each time the segment
is used again. A record begins at a block and holds

    magic, CRC-32, nonce, offset, time, lengths of key, head and data set, SHA-256 of the data set   (the frame)
    key                                        where the archive keeps the instance in the end
    head                                       preamble and file meta information (PS3.10 section 7.1)
    data set                                   as it was received

The CRC covers frame, key and head, the SHA-256 the data set. Several threads write records, so a whole record may
follow a broken one: reading continues at the next block. What a peer sends cannot pass for
a record, because it cannot know the nonce.
"""

import hashlib
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

BLOCK = 4096
"""Records begin at multiples of it, so that a block that was made durable is never written again."""

_MAGIC, _FILE_MAGIC = b"DMRR", b"DMRS"
_FRAME = struct.Struct("<4sL8sQdHLQ32s")
_FILE = struct.Struct("<4sL8s")
_CRC_ENDS = 8
_ZEROS = bytes(1 << 20)
MAX_KEY, MAX_HEAD = 1024, 1 << 16


@dataclass(frozen=True)
class Record:
    """One record of a segment: where it is, and what its header says."""

    key: str
    sha256: str
    """Of the data set, in hexadecimal digits."""
    offset: int
    content_offset: int
    """Of the Part 10 file: head and data set."""
    head_length: int
    data_length: int
    at: datetime
    """When it was received."""

    @property
    def content_length(self) -> int:
        return self.head_length + self.data_length

    @property
    def ends(self) -> int:
        """Where the next record begins."""
        return blocks(self.content_offset + self.content_length)


def blocks(length: int) -> int:
    """The next multiple of BLOCK."""
    return -(-length // BLOCK) * BLOCK


def size_of(key: str, head: bytes, data_length: int) -> int:
    """How much of a segment a record takes."""
    return blocks(_FRAME.size + len(key.encode()) + len(head) + data_length)


def create(path: Path, size: int) -> None:
    """Make a segment file of zeros, all of which are on the disk, with its name: a write into it then changes nothing but data,
    so making it durable takes one write. OSError."""
    with path.open("xb") as file:
        for _ in range(size // len(_ZEROS)):
            file.write(_ZEROS)
        file.write(_ZEROS[: size % len(_ZEROS)])
        file.flush()
        os.fsync(file.fileno())
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable. OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def begin(descriptor: int) -> bytes:
    """Choose a new nonce for a segment. It becomes durable with the first record."""
    nonce = os.urandom(8)
    os.pwrite(descriptor, _FILE.pack(_FILE_MAGIC, zlib.crc32(nonce), nonce), 0)
    return nonce


def write(
    descriptor: int,
    nonce: bytes,
    offset: int,
    at: datetime,
    key: str,
    head: bytes,
    data_set: bytes | memoryview,
    sha256: str,
) -> Record:
    """Write a record. It is not durable yet. OSError."""
    name = key.encode()
    frame = bytearray(
        _FRAME.pack(
            _MAGIC, 0, nonce, offset, at.timestamp(), len(name), len(head), len(data_set), bytes.fromhex(sha256)
        )
    )
    struct.pack_into("<L", frame, 4, zlib.crc32(head, zlib.crc32(name, zlib.crc32(frame[_CRC_ENDS:]))))
    parts: list[bytes | bytearray | memoryview] = [frame, name, head, data_set]
    total = sum(map(len, parts))
    written = os.pwritev(descriptor, parts, offset)
    if written < total:  # a signal, or a disk that is full after all: once more, as one piece
        rest = b"".join(parts)
        while written < total:
            written += os.pwrite(descriptor, rest[written:], offset + written)
    start = offset + _FRAME.size + len(name)
    return Record(key, sha256, offset, start, len(head), len(data_set), at)


def records(descriptor: int) -> Iterator[Record]:
    """The records of a segment whose frames are whole. Their data sets are not looked at yet: see `read`. Nothing when the
    file is not a segment."""
    size = os.fstat(descriptor).st_size
    if size <= BLOCK:
        return
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as content:
        magic, crc, nonce = _FILE.unpack(content[: _FILE.size])
        if magic != _FILE_MAGIC or crc != zlib.crc32(nonce):
            return
        offset = BLOCK
        while offset < size:
            record = None
            if content[offset : offset + len(_MAGIC)] == _MAGIC:
                record = _record(content, nonce, offset)
            if record is not None:
                yield record
            offset = offset + BLOCK if record is None else record.ends


def read(descriptor: int, record: Record) -> bytes | None:
    """The Part 10 file of a record; None when its data set is not what was written."""
    content = os.pread(descriptor, record.content_length, record.content_offset)
    data_set = memoryview(content)[record.head_length :]
    whole = len(data_set) == record.data_length and hashlib.sha256(data_set).hexdigest() == record.sha256
    return content if whole else None


def _record(content: mmap.mmap, nonce: bytes, offset: int) -> Record | None:
    frame = content[offset : offset + _FRAME.size]
    if len(frame) < _FRAME.size:
        return None
    _, crc, its_nonce, its_offset, at, key_length, head_length, data_length, digest = _FRAME.unpack(frame)
    if its_nonce != nonce or its_offset != offset or key_length > MAX_KEY or head_length > MAX_HEAD:
        return None
    start = offset + _FRAME.size
    rest = content[start : start + key_length + head_length]
    if len(rest) < key_length + head_length or zlib.crc32(rest, zlib.crc32(frame[_CRC_ENDS:])) != crc:
        return None
    try:
        key = rest[:key_length].decode()
    except UnicodeDecodeError:
        return None
    received = datetime.fromtimestamp(at, UTC)
    return Record(key, digest.hex(), offset, start + key_length, head_length, data_length, received)
