"""Derived instances as Part 10 files (PS3.10 section 7.1). What the images of a series share is encoded once."""

from collections.abc import Iterator

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, correct_ambiguous_vr_element, write_data_element
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.transfer_syntax import to_bytes

_PIXEL_DATA = Tag("PixelData")
_PIXELS_BEGIN = b"\xe0\x7f\x10\x00OW\0\0"
"""Tag and VR of PixelData in Explicit VR Little Endian, before its length of four bytes."""
_ITEM_BEGINS = b"\xfe\xff\x00\xe0"


class Files:
    """Encodes instances, one after the other, none of which changes any more. Each element object is encoded once, however
    many data sets have it; pixels are copied once."""

    def __init__(self) -> None:
        self._encoded: dict[tuple[int, str], tuple[DataElement | RawDataElement, bytes]] = {}
        """By identity of the element, and the character set; with the element, so that the identity stays its own."""

    def file(self, instance: Dataset) -> bytes:
        """The Part 10 file, byte for byte as pydicom writes it."""
        if instance.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian or _was_read(instance):
            return to_bytes(instance)
        begins = Dataset()
        begins.file_meta = instance.file_meta
        parts = [to_bytes(begins), *self._elements([instance], instance.get("SpecificCharacterSet"))]
        return b"".join(parts)

    def _elements(self, path: list[Dataset], character_set: str | list[str] | None) -> Iterator[bytes]:
        """Of the first data set; behind it are those in which it is an item."""
        for tag in sorted(path[0].keys()):
            element = path[0][tag]
            if tag == _PIXEL_DATA and element.VR == "OW":
                yield _PIXELS_BEGIN + len(element.value).to_bytes(4, "little")
                yield element.value
                continue
            name = id(element), str(character_set)
            if name not in self._encoded:
                self._encoded[name] = element, self._encode(path, element, character_set)
            yield self._encoded[name][1]

    def _encode(self, path: list[Dataset], element: DataElement, character_set: str | list[str] | None) -> bytes:
        if element.VR == "SQ" and not element.is_undefined_length and not any(map(_was_read, element.value)):
            content = b"".join(self._item([item, *path], character_set) for item in element.value)
            return _named(element.tag, b"SQ\0\0", content)
        if element.VR == "SQ":
            for item in element.value:
                correct_ambiguous_vr(item, True, [item, *path])
        else:
            correct_ambiguous_vr_element(element, path[0], True, path)
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, False
        write_data_element(stream, element, character_set)
        return stream.getvalue()

    def _item(self, path: list[Dataset], character_set: str | list[str] | None) -> bytes:
        content = b"".join(self._elements(path, path[0].get("SpecificCharacterSet", character_set)))
        return _ITEM_BEGINS + len(content).to_bytes(4, "little") + content


def _was_read(dataset: Dataset) -> bool:
    """Whether it was read from a file: pydicom then writes what was not decoded as it was."""
    return dataset.original_encoding != (None, None)


def _named(tag: BaseTag, vr: bytes, content: bytes) -> bytes:
    """An element in Explicit VR Little Endian, whose length has four bytes."""
    return b"".join([
        tag.group.to_bytes(2, "little"), tag.element.to_bytes(2, "little"), vr, len(content).to_bytes(4, "little"), content,
    ])  # fmt: skip
