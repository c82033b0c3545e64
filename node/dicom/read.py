"""Reading Part 10 files (PS3.10) that may be damaged or hostile."""

import zlib
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.errors import DamagedFileError, StorageError

_MOST_DEFLATED = 100


_SMALL_ENOUGH = 32 << 20
"""A deflated data set may grow to so many times its size, or to so many bytes."""


def read_header(path: Path) -> Dataset:
    """The data set of a file without its pixels. Raises as `read_instance`."""
    return _read(path, stop_before_pixels=True)


def read_instance(path: Path) -> Dataset:
    """The data set of a Part 10 file. Raises StorageError when the file is gone or cannot be read, DamagedFileError when
    it is no DICOM file or a damaged one."""
    return _read(path, stop_before_pixels=False)


def _read(path: Path, *, stop_before_pixels: bool) -> Dataset:
    try:
        with path.open("rb") as file:
            return parse(file, stop_before_pixels=stop_before_pixels)
    except InvalidDicomError:
        raise DamagedFileError(path, "not a DICOM file") from None
    except Exception as error:  # a damaged file can fail anywhere in the parser
        if isinstance(error, OSError) and error.errno is not None:  # without a number it is pydicom's, of an early end
            raise StorageError(f"cannot read {path}: {error.strerror}") from None
        raise DamagedFileError(path, f"damaged, it cannot be read ({type(error).__name__})") from None


def parse(file: BinaryIO, *, stop_before_pixels: bool) -> Dataset:
    """The data set of an open Part 10 file; whatever pydicom raises on a damaged one, and ValueError when it is deflated
    and would fill memory."""
    read_preamble(file, False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian and _is_bomb(file.read()):
        raise ValueError("the data set becomes far larger than it is when it is inflated")
    file.seek(0)
    instance = dcmread(file, stop_before_pixels=stop_before_pixels)
    if stop_before_pixels and meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        instance.ends_before_pixels = not file.read(1)
    return instance


def has_pixels(header: Dataset) -> bool:
    """Whether pixels follow a header that `read_header` gave; of others, and of deflated files, that is not known, and
    they count as having some."""
    return not getattr(header, "ends_before_pixels", False)


def _is_bomb(deflated: bytes) -> bool:
    """Whether inflating would take much more memory than what was sent: no image is a hundredth of its size deflated."""
    room = max(_SMALL_ENOUGH, len(deflated) * _MOST_DEFLATED)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while deflated and room > 0:
        room -= len(inflater.decompress(deflated, 1 << 20))
        deflated = inflater.unconsumed_tail
    return room <= 0
