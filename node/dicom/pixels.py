"""Decoding pixels of instances that may be damaged or hostile.

The decoders behind pydicom trust the compressed stream, not the header: two hundred bytes of JPEG 2000 that claim
60,000 x 60,000 pixels take gigabytes. So the size that a stream claims is read first, and compared with the header. What a
stream does to its decoder beyond that, it does in another process (`decompression.py`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import as_pixel_options, iter_pixels
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from node.dicom.decompression import decompress

_START_OF_FRAME = frozenset([*range(0xC0, 0xD0), 0xF7]) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_PRESET_PARAMETERS, _OVERSIZE = 0xF8, 4
"""JPEG-LS (ISO/IEC 14495-1 C.2.4.1.4): a segment that may replace the size in the frame header."""


def stored_frames(instance: Dataset, indices: Sequence[int] | None = None) -> Iterator[NDArray[Any]]:
    """The stored values of the frames with these indices (from 0; None: all there are), each (rows, columns[, samples]).

    Raises ValueError when a compressed frame cannot be decoded or is not of the size that the header says, and whatever
    pydicom raises on a header that it cannot use.
    """
    syntax = UID(instance.file_meta.TransferSyntaxUID)
    if not syntax.is_encapsulated:
        yield from iter_pixels(instance, indices=indices)
        return
    said = as_pixel_options(instance)
    where = {"number_of_frames": said["number_of_frames"], "extended_offsets": said.pop("extended_offsets", None)}
    for index in range(said["number_of_frames"]) if indices is None else indices:
        stream = get_frame(instance.PixelData, index, **where)
        if _size(syntax, stream) not in (None, (said["rows"], said["columns"], said["samples_per_pixel"])):
            raise ValueError("the compressed pixels are not of the size that the header says")
        yield decompress(syntax, said | {"number_of_frames": 1}, stream)


def _size(syntax: UID, stream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) that a stream claims; None for the syntaxes in which it does not. Zeros where it should
    and does not."""
    if syntax in JPEG2000TransferSyntaxes:
        return _size_in_jpeg_2000(stream) or (0, 0, 0)
    if syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return _size_in_jpeg(stream) or (0, 0, 0)
    return None


def _size_in_jpeg_2000(stream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG 2000 codestream, from its SIZ segment (ISO/IEC 15444-1 A.5.1), which comes
    first; None when it is not there. PS3.5 section 8.2.4 allows no JP2 file format around it."""
    if stream[:4] != b"\xff\x4f\xff\x51" or len(stream) < 42:
        return None
    right, bottom, left, top = (int.from_bytes(stream[at : at + 4]) for at in range(8, 24, 4))
    return bottom - top, right - left, int.from_bytes(stream[40:42])


def _size_in_jpeg(stream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG or JPEG-LS stream, from its frame header (ISO/IEC 10918-1 B.2.2); None when
    there is none, or more than one."""
    found = []
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 10 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == _START_OF_SCAN:
            break
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _PRESET_PARAMETERS and stream[at + 4] == _OVERSIZE:
            return None
        if marker in _START_OF_FRAME:
            found.append(
                (int.from_bytes(stream[at + 5 : at + 7]), int.from_bytes(stream[at + 7 : at + 9]), stream[at + 9])
            )
        at += 2 + int.from_bytes(stream[at + 2 : at + 4])
    return found[0] if len(found) == 1 else None
