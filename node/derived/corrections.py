"""Copy attributes of a source that may not conform: identification unchanged, everything else corrected."""

import copy
import math
from collections.abc import Iterable
from typing import Any

from pydicom import config as pydicom_config
from pydicom.charset import convert_encodings
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import format_number_as_ds, validate_value

from node.derived.copied_attributes import CLINICAL_TRIAL, ENUMERATED, PATIENT, STUDY, TYPE_1_DEFAULTS, TYPE_2
from node.dicom.text import keep_bytes, of_bytes, remembered_text
from node.dicom.uid import is_uid

TEXT_LENGTH = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240}
"""Characters a text may have, by value representation (PS3.5 6.2)."""


def copy_identification(derived: Dataset, header: Dataset, corrections: list[str]) -> None:
    """Copy patient and study byte for byte with their character set, so that the PACS files both in the same place: a wrongly
    declared character set stays as wrong as it was. `derived` already has empty type 2 attributes, which stay where the source
    has none."""
    character_set = readable(header, "SpecificCharacterSet")
    if character_set is not None and not character_set.is_empty and _can_be_written(character_set):
        derived.add(character_set)
    else:
        if character_set is not None and not character_set.is_empty:
            corrections.append("SpecificCharacterSet left out: its value is malformed")
        derived.pop("SpecificCharacterSet", None)  # highdicom declares UTF-8, which the bytes may not be
    for keyword in (*PATIENT, *CLINICAL_TRIAL, *STUDY):
        if keyword not in header:
            if keyword in TYPE_2:
                corrections.append(f"{keyword} is missing in the source: written empty")
            continue
        element = readable(header, keyword)
        if element is None:
            corrections.append(f"{keyword} left out: its value is malformed")
            continue
        if dictionary_VR(keyword) != element.VR:  # the value stands, its representation is the standard's
            element = DataElement(element.tag, dictionary_VR(keyword), element.value, validation_mode=IGNORE)
        derived.add(_as_sent(header, element) or element)
        flaws: list[str] = []
        corrected(header, keyword, flaws)
        if flaws:
            corrections.append(f"{keyword} copied as it stands, although it does not conform")


def _can_be_written(character_set: DataElement) -> bool:
    """Whether pydicom can look the character set up: it takes an unknown name, but fails at one with a null character."""
    try:
        convert_encodings(_listed(character_set.value))
    except ValueError:
        return False
    return True


def _as_sent(header: Dataset, element: DataElement) -> DataElement | None:
    """The element with the bytes that were sent, where text outside of ASCII is in it."""
    sent = remembered_text(header).get(element.tag)
    return None if sent is None else of_bytes(element.tag, element.VR, sent)


def unidentified(image: Dataset) -> Dataset:
    """A copy of a derived image with empty identification for highdicom, which would refuse identification that does not
    conform."""
    stripped = Dataset()
    left_out = {"SpecificCharacterSet", *PATIENT, *CLINICAL_TRIAL, *STUDY}
    stripped.update({e.tag: e for e in image if e.keyword not in left_out})
    stripped.StudyInstanceUID = image.StudyInstanceUID
    stripped.file_meta = image.file_meta
    for keyword in TYPE_2.intersection((*PATIENT, *STUDY)):
        setattr(stripped, keyword, None)
    return stripped


def undate(derived: Dataset) -> None:
    """Remove the time of encoding, which highdicom adds and which would give different bytes for the same content."""
    del derived.InstanceCreationDate, derived.InstanceCreationTime
    for item in derived.get("ContributingEquipmentSequence", ()):
        item.pop("ContributionDateTime", None)


def complete_laterality(derived: Dataset) -> None:
    """Laterality is type 2C without a body part, because the part may be one of a pair."""
    if "BodyPartExamined" not in derived and "Laterality" not in derived:
        derived.Laterality = None


def copy_corrected(derived: Dataset, header: Dataset, keywords: Iterable[str], corrections: list[str]) -> None:
    """Copy attributes so that they conform, with the values that the standard requires where the source has none."""
    for keyword in keywords:
        element = corrected(header, keyword, corrections)
        if element is not None:
            derived.add(element)
        elif keyword in TYPE_1_DEFAULTS:
            setattr(derived, keyword, TYPE_1_DEFAULTS[keyword])
            corrections.append(f"{keyword} has no value in the source: {TYPE_1_DEFAULTS[keyword]} written")
        elif keyword in TYPE_2:
            setattr(derived, keyword, None)
            if keyword not in header:
                corrections.append(f"{keyword} is missing in the source: written empty")


class Copies:
    """Copies attributes as `copy_corrected` does to image after image. Most have one value in all slices of a series, which is
    corrected once: these images then have the same element, which nobody may set anew."""

    def __init__(self, corrections: list[str]) -> None:
        self._corrections = corrections
        self._known: dict[tuple[Any, ...], tuple[Dataset, list[str]]] = {}

    def copy(self, derived: Dataset, header: Dataset, keywords: Iterable[str]) -> None:
        """Copy these attributes of a source."""
        character_set = str(header.get("SpecificCharacterSet", ""))
        for keyword in keywords:
            element = header.get_item(keyword) if keyword in header else None
            if isinstance(element, DataElement):  # it was decoded before, and does not say from which bytes
                copy_corrected(derived, header, (keyword,), self._corrections)
                continue
            encoded = (
                None
                if element is None
                else (element.VR, element.value, element.is_implicit_VR, element.is_little_endian)
            )
            name = (keyword, character_set, encoded)
            if name not in self._known:
                made, flaws = Dataset(), list[str]()
                copy_corrected(made, header, (keyword,), flaws)
                self._known[name] = made, flaws
            made, flaws = self._known[name]
            derived.update(made)
            self._corrections += flaws


def readable(header: Dataset, keyword: str) -> DataElement | None:
    """A copy of the attribute, without private tags in its items; None when it is missing or cannot be parsed."""
    try:
        element = copy.deepcopy(header[keyword])
        for item in element.value if element.VR == "SQ" else ():
            keep_bytes(item)
            item.remove_private_tags()
    except Exception:  # pydicom parses on access, and malformed bytes fail in as many ways as there are VRs
        return None
    return element


def corrected(header: Dataset, keyword: str, corrections: list[str]) -> DataElement | None:
    """A copy of the attribute that conforms; None when it is missing, empty, or cannot be corrected."""
    if keyword not in header:
        return None
    element = readable(header, keyword)
    if element is not None and element.is_empty:
        return None
    if element is None or dictionary_VR(keyword) != element.VR or not _vm_allowed(keyword, element.VM):
        corrections.append(f"{keyword} left out: its value is malformed")
        return None
    if element.VR == "SQ":
        if all(_conforms(item) for item in element.value):
            return element
        corrections.append(f"{keyword} left out: an item is malformed")
        return None
    values = [_valid(element.VR, value) for value in _listed(element.value)]
    allowed = ENUMERATED.get(keyword)
    if None in values or (allowed is not None and not allowed.issuperset(values)):
        corrections.append(f"{keyword} left out: its value is not one the standard allows")
        return None
    if element.VR == "IS" and [str(value) for value in values] != [str(value) for value in _listed(element.value)]:
        corrections.append(f"{keyword} written as the integer that it is")
    fit = DataElement(element.tag, element.VR, values if element.VM > 1 else values[0])
    if fit.value != element.value:
        corrections.append(f"{keyword} shortened to what the standard allows")
    return fit


def _conforms(item: Dataset) -> bool:
    """Whether every attribute of a sequence item, and of its nested items, conforms; for a coded entry also whether it is
    complete."""
    corrections: list[str] = []
    for element in item:
        corrected(item, element.keyword, corrections)
    known = all(element.keyword for element in item)
    code = {"CodeValue", "CodingSchemeDesignator", "CodeMeaning"}
    return known and not corrections and (code.isdisjoint(item.dir()) or code <= set(item.dir()))


def _valid(vr: str, value: Any) -> Any:
    """The value itself, or a shorter value that its VR allows, or None."""
    if isinstance(value, bytes):  # text in a character set that may not be the declared one
        return value
    if vr == "UI":  # links to other objects by what they are called, leading zeros too
        return value if is_uid(str(value)) else None
    if vr in TEXT_LENGTH:
        value = str(value)[: TEXT_LENGTH[vr]]
    try:
        if vr == "IS":  # scanners write "15.0"
            value = int(value)
        if vr == "DS" and len(str(value)) > 16 and math.isfinite(float(value)):
            value = format_number_as_ds(float(value))
        validate_value(vr, str(value) if vr in ("DS", "IS") else value, pydicom_config.RAISE)
    except ValueError:
        return None
    return value


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _vm_allowed(keyword: str, vm: int) -> bool:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    least, _, most = dictionary_VM(tag).partition("-")
    return int(least) <= vm and (most.endswith("n") or vm <= int(most or least))
