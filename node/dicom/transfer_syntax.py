"""Transfer syntaxes: derived instances as bytes, and in another syntax without loss."""

from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.config.settings import TransferSyntaxName
from node.dicom.text import keep_bytes

TRANSFER_SYNTAXES: dict[TransferSyntaxName, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "jpeg_ls": JPEGLSLossless,
    "jpeg_2000": JPEG2000Lossless,
    "rle": RLELossless,
}


def to_bytes(instance: Dataset) -> bytes:
    """The instance as a DICOM Part 10 file, in the transfer syntax of its file meta information."""
    buffer = BytesIO()
    instance.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def recode(instance: Dataset, syntax: UID) -> Dataset:
    """The instance in that transfer syntax. Nothing is lost, so it is the same instance: its UID stays.

    Without pixel data there is nothing to compress: a compressed `syntax` then gives Explicit VR Little Endian.
    """
    if instance.file_meta.TransferSyntaxUID == syntax:
        return instance
    recoded = dcmread(BytesIO(to_bytes(instance)))
    keep_bytes(recoded)
    if recoded.file_meta.TransferSyntaxUID.is_compressed:
        recoded.decompress(generate_instance_uid=False)
    if not syntax.is_compressed:
        recoded.file_meta.TransferSyntaxUID = syntax
    elif "PixelData" in recoded:
        recoded.compress(syntax, generate_instance_uid=False)
    else:
        recoded.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return recoded
