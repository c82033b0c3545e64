"""Digests: whether stored bytes are still those that were kept."""

import hashlib
from dataclasses import dataclass

_GROUP_LENGTH_ENDS = 128 + 4 + 12
"""Preamble, DICM, and File Meta Information Group Length (0002,0000), whose value is its last four bytes (PS3.10 7.1)."""

_TRANSFER_SYNTAX = b"\x02\x00\x10\x00UI"
"""Tag and VR of TransferSyntaxUID (0002,0010); file meta information is always Explicit VR Little Endian."""


@dataclass(frozen=True)
class Digest:
    """SHA-256 of a file, and how much of the file it covers."""

    sha256: str | None
    """None for a file of a version that kept no digest: nothing can be compared."""
    transfer_syntax_uid: str | None = None
    """None: the digest covers the whole file. Otherwise it covers the data set of a Part 10 file as it was received. Of
    the file meta information only the transfer syntax decides how the data set is read, so that is compared too."""

    def holds(self, content: bytes) -> bool:
        """Whether these are the bytes that were kept."""
        if self.sha256 is None:
            return True
        if self.transfer_syntax_uid is None:
            return sha256(content) == self.sha256
        start = data_set_starts(content)
        syntax = _TRANSFER_SYNTAX + _padded(self.transfer_syntax_uid)
        return syntax in content[:start] and sha256(memoryview(content)[start:]) == self.sha256


def sha256(content: bytes | memoryview) -> str:
    """In lower-case hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def data_set_starts(content: bytes) -> int:
    """Where the data set of a Part 10 file begins: behind preamble and file meta information."""
    return _GROUP_LENGTH_ENDS + int.from_bytes(content[_GROUP_LENGTH_ENDS - 4 : _GROUP_LENGTH_ENDS], "little")


def _padded(uid: str) -> bytes:
    """Length and value of an element of VR UI."""
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return len(value).to_bytes(2, "little") + value
