"""A result as bytes, and back. The same result gives the same bytes.

The bytes are an .npz file of arrays, and the other facts as JSON. Its comment, which a zip file may have at its end,
is the SHA-256 of everything before it, so whatever changes on the disk is noticed before anything is read.
"""

import json
import math
import struct
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, BinaryIO, Literal
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

from node.archive.digest import sha256
from node.result import Acquired, AcquisitionFact, Quality, Registration, Result

_ARRAYS = ("pixels", "positions", "expected_error")
"""The last one only where there is a trust map, and in half precision."""
_END, _END_LENGTH = b"PK\x05\x06", 22
"""The end of a zip file without a comment: its last two bytes are the length of the comment (APPNOTE.TXT 4.3.16)."""
_COMMENT_LENGTH = 64
_LOCAL_HEADER_LENGTH, _LONGEST_ARRAY_HEADER = 30, 1 << 12


def encode_result(result: Result) -> bytes:
    """A result as the bytes of an .npz file."""
    facts = {k: v for k, v in asdict(result).items() if k not in _ARRAYS}
    buffer = BytesIO()
    arrays: dict[str, NDArray[Any]] = {"pixels": result.pixels, "positions": result.positions}
    if result.expected_error is not None:
        arrays["expected_error"] = result.expected_error.astype(np.float16)
    np.savez(buffer, allow_pickle=False, **arrays, facts=np.array(json.dumps(facts)))
    buffer.seek(-2, 2)
    buffer.write(_COMMENT_LENGTH.to_bytes(2, "little"))
    with buffer.getbuffer() as content:
        digest = sha256(content)
    buffer.write(digest.encode())
    return buffer.getvalue()


def decode_result(content: bytes) -> Result:
    """The result in the bytes of an .npz file. ValueError when they are damaged."""
    if not _is_intact(content):
        raise ValueError("its digest differs")
    try:
        arrays = _arrays(content)
        facts = json.loads(str(arrays.pop("facts")))
        row, column = facts.pop("orientation")
        between_rows, between_columns = facts.pop("spacing")
        quality, acquired = facts.pop("quality"), facts.pop("acquired", None)
        return Result(
            orientation=(tuple(row), tuple(column)),
            spacing=(between_rows, between_columns),
            quality=None if quality is None else _quality(quality),
            acquired=None if acquired is None else _acquired(acquired),
            **arrays,
            **facts,
        )
    except Exception as error:  # a damaged zip file without a digest can fail in any part of its readers
        raise ValueError(f"not a result ({type(error).__name__})") from None


@dataclass(frozen=True)
class Measured:
    """What was measured of a result, and of its target, None where it was not; and its warnings."""

    quality: Quality | None
    acquired: Acquired | None
    warnings: tuple[str, ...] = ()
    """Each begins with its code and a colon."""

    @property
    def codes(self) -> set[str]:
        """The codes of the warnings."""
        return {warning.partition(":")[0] for warning in self.warnings}


def decode_measured(stream: BinaryIO) -> Measured:
    """What was measured of the result in an .npz file, read without its pixels. Only the checksum of that part is
    compared. ValueError when it is damaged."""
    try:
        with np.load(stream, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
        quality, acquired = facts["quality"], facts.get("acquired")
        return Measured(
            None if quality is None else _quality(quality),
            None if acquired is None else _acquired(acquired),
            tuple(facts["warnings"]),
        )
    except Exception as error:  # as in decode_result
        raise ValueError(f"not a result ({type(error).__name__})") from None


def _arrays(content: bytes) -> dict[str, Any]:
    """The arrays of an .npz file, which lie in its bytes: numpy would copy them, and compare the checksum of each."""
    arrays: dict[str, Any] = {}
    with ZipFile(BytesIO(content)) as file:
        if content.endswith(b"\0\0") and file.testzip() is not None:  # there is no digest
            raise ValueError("a checksum differs")
        for member in file.infolist():
            # A local header (APPNOTE.TXT 4.3.7) ends with the lengths of the name and of an extra field, and then has both.
            lengths = struct.unpack_from("<HH", content, member.header_offset + _LOCAL_HEADER_LENGTH - 4)
            begins = member.header_offset + _LOCAL_HEADER_LENGTH + sum(lengths)
            stream = BytesIO(content[begins : begins + min(member.file_size, _LONGEST_ARRAY_HEADER)])
            if member.compress_type != ZIP_STORED or np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("not as it was written")
            shape, by_columns, kind = np.lib.format.read_array_header_1_0(stream)
            count = math.prod(shape)
            array = np.frombuffer(content, kind, count, begins + stream.tell())
            order: Literal["F", "C"] = "F" if by_columns else "C"
            arrays[member.filename.removesuffix(".npy")] = array.reshape(shape, order=order)
    return arrays


def _is_intact(content: bytes) -> bool:
    """Whether the digest matches. A version without digests wrote no comment: such a file has only the checksums of a
    zip file, which the reader compares."""
    if content[-_END_LENGTH:].startswith(_END) and content.endswith(b"\0\0"):
        return True
    return sha256(memoryview(content)[:-_COMMENT_LENGTH]).encode() == content[-_COMMENT_LENGTH:]


def _quality(facts: dict[str, Any]) -> Quality:
    registration = facts.pop("registration")
    if registration is not None:
        along_row, along_column = registration.pop("shift_mm")
        registration = Registration(shift_mm=(along_row, along_column), **registration)
    return Quality(registration=registration, **facts)


def _acquired(facts: dict[str, Any]) -> Acquired:
    return Acquired([AcquisitionFact(**fact) for fact in facts["facts"]], facts["undone"])
