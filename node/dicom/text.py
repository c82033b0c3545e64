"""Text as the bytes that were sent.

Gateways declare character sets that the bytes are not in. Decoding such text loses it, so where an object is written again, text
outside of ASCII is written as its bytes.
"""

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

CHARACTER_SET_VR = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Value representations whose characters SpecificCharacterSet (0008,0005) gives (PS3.5 6.1.2.2)."""

_ESCAPE = b"\x1b"  # ISO 2022: another character set follows, in bytes that are ASCII


def remember_text(dataset: Dataset) -> None:
    """Keep the bytes of a data set that was just read, beside its attributes: pydicom replaces bytes when it decodes them."""
    dataset.as_sent = {
        tag: element.value
        for tag, element in dataset.items()
        if isinstance(element, RawDataElement) and _is_coded_text(element)
    }


def remembered_text(dataset: Dataset) -> dict[BaseTag, bytes]:
    """The bytes by tag; empty for a data set that was not read from a file."""
    found: dict[BaseTag, bytes] = getattr(dataset, "as_sent", {})
    return found


def keep_bytes(dataset: Dataset) -> None:
    """Let text outside of ASCII be written as the bytes that were read, also in sequences, whatever changes in the encoding of
    the rest. For a data set that has not been decoded yet."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement) and _is_coded_text(element):
            dataset.add(of_bytes(tag, element.VR or dictionary_VR(tag), element.value or b""))
        elif not tag.is_private and _vr(element) == "SQ":
            for item in dataset[tag].value:
                keep_bytes(item)


def of_bytes(tag: BaseTag, vr: str, value: bytes) -> DataElement:
    """An element that pydicom writes as these bytes."""
    content = PersonName(value, validation_mode=IGNORE) if vr == "PN" else value
    return DataElement(tag, vr, content, validation_mode=IGNORE)


def _is_coded_text(element: RawDataElement) -> bool:
    value = element.value
    text = _vr(element) in CHARACTER_SET_VR
    return text and isinstance(value, bytes) and (not value.isascii() or _ESCAPE in value)


def _vr(element: DataElement | RawDataElement) -> str:
    """The value representation, also of an element that was encoded without."""
    if element.VR:
        return element.VR
    return dictionary_VR(element.tag) if dictionary_has_tag(element.tag) else "UN"
