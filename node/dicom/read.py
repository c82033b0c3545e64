"""Reading Part 10 files (PS3.10), and data sets without their header, that may be damaged or hostile."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

import node.dicom.tolerance  # noqa: F401  it sets pydicom up
from node.dicom.attributes import Attributes
from node.dicom.text import remember_text
from node.errors import DamagedFileError, StorageError

_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""How a data set without preamble begins: group 0002 or 0008, in either byte order."""

_MOST_DEFLATED, _SMALL_ENOUGH = 100, 32 << 20
"""A deflated data set may grow to so many times its size, or to so many bytes."""

_MOST_INFLATED = 256 << 20
"""No deflated data set may grow to more bytes: it is inflated as a whole, in memory."""


class Readable(Protocol):
    """An instance that can be read: a file, or what the archive keeps. As text it says where it is."""

    def content(self) -> bytes:
        """The file."""

    def read_header(self) -> Dataset:
        """The data set without its pixels."""

    def read_instance(self) -> Dataset:
        """The data set."""


@dataclass(frozen=True)
class InstanceFile:
    """An instance in a file of its own."""

    path: Path

    def content(self) -> bytes:
        """The bytes of the file. Raises StorageError when it is gone or cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from None

    def read_header(self) -> Dataset:
        """The data set of the file without its pixels. Raises as `read_instance`."""
        return self._read(stop_before_pixels=True)

    def read_instance(self) -> Dataset:
        """The data set of the file. Raises StorageError when the file is gone or cannot be read, DamagedFileError when it
        is not DICOM, or damaged."""
        return self._read(stop_before_pixels=False)

    def _read(self, *, stop_before_pixels: bool) -> Dataset:
        try:
            with self.path.open("rb") as file:
                return read_part10(file, self, stop_before_pixels=stop_before_pixels)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from None

    def __str__(self) -> str:
        return str(self.path)


def read_part10(file: BinaryIO, name: object, *, stop_before_pixels: bool) -> Dataset:
    """The data set of an open Part 10 file, which is called `name` in the text of an error. Raises DamagedFileError when it
    is not DICOM, or damaged; OSError when the file cannot be read."""
    try:
        return parse(file, stop_before_pixels=stop_before_pixels)
    except InvalidDicomError:
        raise DamagedFileError(name, "not a DICOM file") from None
    except Exception as error:  # a damaged file can fail anywhere in the parser
        if isinstance(error, OSError) and error.errno is not None:  # without a number it is pydicom's, of an early end
            raise
        raise DamagedFileError(name, f"damaged, it cannot be read ({type(error).__name__})") from None


def parse(file: BinaryIO, *, stop_before_pixels: bool) -> Dataset:
    """The data set of an open Part 10 file; whatever pydicom raises on a damaged one, and ValueError when it is deflated
    and would fill memory."""
    if not _has_preamble(file):
        return _parse_bare(file, stop_before_pixels=stop_before_pixels)
    read_preamble(file, False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian and _is_bomb(file.read()):
        raise ValueError("the deflated data set would become far too large when it is inflated")
    file.seek(0)
    instance = dcmread(file, stop_before_pixels=stop_before_pixels)
    remember_text(instance)
    if stop_before_pixels and meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        instance.ends_before_pixels = not file.read(1)
    return instance


def _has_preamble(file: BinaryIO) -> bool:
    start = file.read(132)
    file.seek(0)
    return start[128:] == b"DICM"


def _parse_bare(file: BinaryIO, *, stop_before_pixels: bool) -> Dataset:
    """The data set of a file without the header of Part 10, as old scanners and gateways export it. InvalidDicomError when the
    file does not begin like one, or names no instance."""
    begins = file.read(4)
    file.seek(0)
    if begins[:2] not in _FIRST_GROUPS:
        raise InvalidDicomError
    try:
        instance = dcmread(file, force=True, stop_before_pixels=stop_before_pixels)
    except Exception:  # other files that begin with these bytes may fail anywhere in the parser
        raise InvalidDicomError from None
    named = [Attributes(instance).uid(keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")]
    if None in named:
        raise InvalidDicomError
    if "TransferSyntaxUID" not in instance.file_meta:
        implicit, little = instance.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        instance.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    remember_text(instance)
    if stop_before_pixels:
        instance.ends_before_pixels = not file.read(1)
    return instance


def has_pixels(header: Dataset) -> bool:
    """Whether pixels follow a header that was read without them; for other files, and for deflated ones, this is
    unknown, and they count as having pixels."""
    return not getattr(header, "ends_before_pixels", False)


def _is_bomb(deflated: bytes) -> bool:
    """Whether inflating would take much more memory than what was sent: no image is a hundredth of its size deflated."""
    left = min(_MOST_INFLATED, max(_SMALL_ENOUGH, len(deflated) * _MOST_DEFLATED))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while deflated and left > 0:
        left -= len(inflater.decompress(deflated, 1 << 20))
        deflated = inflater.unconsumed_tail
    return left <= 0
