"""Frames in the transfer syntax in which they are stored, and other long values."""

from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from node.errors import NotFoundError

OCTETS = "application/octet-stream"

_MEDIA_TYPES = {
    **dict.fromkeys(JPEGTransferSyntaxes, "image/jpeg"),
    **dict.fromkeys(JPEGLSTransferSyntaxes, "image/jls"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "image/jp2"),
    RLELossless: "image/dicom-rle",
}
"""PS3.18 table 8.7.3-5."""


def media_type(transfer_syntax_uid: str) -> tuple[str, str]:
    """(media type, transfer syntax) of the frames of an instance that is stored in a transfer syntax. Frames that are not
    compressed are little-endian."""
    compressed = _MEDIA_TYPES.get(UID(transfer_syntax_uid))
    return (compressed, transfer_syntax_uid) if compressed else (OCTETS, str(ExplicitVRLittleEndian))


def frame_count(instance: Dataset) -> int:
    """How many frames it has; 0 when it has no pixels."""
    return int(instance.get("NumberOfFrames") or 1) if "PixelData" in instance else 0


def frames(instance: Dataset, numbers: Sequence[int] | None = None) -> Iterator[bytes]:
    """The frames of these numbers, from 1; by default all. NotFoundError when one is missing."""
    count = frame_count(instance)
    if not count:
        raise NotFoundError("the instance has no pixels")
    for number in numbers or range(1, count + 1):
        if not 1 <= number <= count:
            raise NotFoundError(f"there is no frame {number}: the instance has {count}")
        yield _frame(instance, number - 1, count)


def _frame(instance: Dataset, index: int, count: int) -> bytes:
    syntax = UID(instance.file_meta.TransferSyntaxUID)
    if syntax.is_compressed and syntax.is_encapsulated:
        return get_frame(instance.PixelData, index, number_of_frames=count)
    bits = instance.Rows * instance.Columns * instance.get("SamplesPerPixel", 1) * instance.BitsAllocated
    pixels = instance.PixelData
    if bits % 8:  # single-bit frames need not begin at a byte
        return bytes(pixels) if count == 1 else _bits(pixels, index * bits, bits)
    length = bits // 8
    frame = bytes(pixels[index * length : (index + 1) * length])
    if len(frame) < length:
        raise NotFoundError(f"frame {index + 1} is not whole: the instance is damaged")
    return _swapped(frame) if syntax == ExplicitVRBigEndian and instance.BitsAllocated == 16 else frame


def _bits(pixels: bytes, start: int, count: int) -> bytes:
    """Bits `start` to `start + count` of little-endian bit order, moved to a byte boundary."""
    whole = int.from_bytes(pixels[start // 8 : (start + count) // 8 + 1], "little") >> start % 8
    return (whole & ((1 << count) - 1)).to_bytes((count + 7) // 8, "little")


def _swapped(frame: bytes) -> bytes:
    swapped = bytearray(frame)
    swapped[0::2], swapped[1::2] = frame[1::2], frame[0::2]
    return bytes(swapped)
