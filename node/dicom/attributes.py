"""Reading the attributes of headers that may be damaged: what cannot be read counts as missing, nothing raises."""

import math
from functools import cache, cached_property
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

import node.dicom.tolerance  # noqa: F401  it sets pydicom up
from node.dicom.uid import is_uid

Header = Dataset
"""One instance read with `stop_before_pixels=True`, its `file_meta` with it."""

MAX_TEXT = 1024  # a CS or LO of megabytes is an attack, not a description

ABSURD = 1e9  # no length, time or count in an MR header is near this; a damaged one may be, and would overflow


class Attributes:
    """The attributes of one image."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @cached_property
    def _groups(self) -> set[int]:
        return {int(tag) >> 16 for tag in self.dataset.keys()}  # noqa: SIM118  iterating would convert each element

    def values(self, keyword: str) -> list[Any]:
        """The non-empty value or values of an attribute, or []."""
        try:
            tag = _tag(keyword)
            if tag not in self.dataset:  # the answer to most questions; an AttributeError takes longer
                return []
            value = self.dataset[tag].value
            values = list(value) if isinstance(value, MultiValue | Sequence | list | tuple) else [value]
            return values if any(v is not None and v != "" and v != b"" for v in values) else []
        except Exception:  # pydicom converts on access, and a garbled element can raise nearly anything
            return []

    def values_at(self, tag: BaseTag, creator: str | None = None) -> list[str]:
        """The non-empty values of the attribute with that tag, as texts; with a creator, of the element with that
        offset in the creator's private block. Of a sequence, the number of its items."""
        if tag.group not in self._groups:  # as in private_number()
            return []
        try:
            place = self.dataset if creator is None else self.dataset.private_block(tag.group, creator)
            value = place[tag if creator is None else tag.element & 0xFF].value
        except Exception:  # as in values(); no such element or block
            return []
        if isinstance(value, Sequence):
            return [str(len(value))] if value else []
        if isinstance(value, bytes):  # a private element of a VR that nobody knows
            value = value.decode("latin-1")
        values = list(value) if isinstance(value, MultiValue) else [value]
        return [text for v in values if v is not None and (text := _text(v))]

    def texts(self, *keywords: str) -> tuple[str, ...]:
        """The values of the first of these attributes that has any, as stripped strings."""
        for keyword in keywords:
            found = tuple(text for value in self.values(keyword) if (text := _text(value)))
            if found:
                return found
        return ()

    def text(self, *keywords: str) -> str | None:
        return next(iter(self.texts(*keywords)), None)

    def code(self, keyword: str) -> tuple[str, ...]:
        """The values of a code string (VR CS), in upper case."""
        return tuple(text.upper() for text in self.texts(keyword))

    def numbers(self, *keywords: str) -> tuple[float, ...]:
        """The values of the first of these attributes that holds only numbers, none of them absurd."""
        for keyword in keywords:
            found = self._numbers(keyword, ABSURD)
            if found:
                return found
        return ()

    def number(self, *keywords: str) -> float | None:
        return next(iter(self.numbers(*keywords)), None)

    def integer(self, keyword: str) -> int | None:
        """The first number, without its fraction: scanners write "15.0" where an integer belongs. None when it does not fit
        an Integer String (PS3.5 section 6.2), nor then a column of the tracker."""
        return next((int(number) for number in self._numbers(keyword, 2**31)), None)

    def count(self, keyword: str) -> int | None:
        """A count, or a number by which things are numbered: a positive integer."""
        number = self.integer(keyword)
        return number if number is not None and number > 0 else None

    def stated(self, keyword: str, otherwise: float) -> float:
        """A number that changes what pixels mean: `otherwise` where it is missing or empty. ValueError where it is not
        a number, because no value would be right then."""
        number = self.number(keyword)
        if number is None and self._has_value(keyword):
            raise ValueError(f"{keyword} is not a number")
        return otherwise if number is None else number

    def vector(self, keyword: str, length: int) -> tuple[float, ...] | None:
        """An attribute of exactly `length` numbers, else None."""
        numbers = self.numbers(keyword)
        return numbers if len(numbers) == length else None

    def uid(self, keyword: str) -> str | None:
        """The value where it is a UID by form, else None."""
        text = self.text(keyword)
        return text if text is not None and is_uid(text) else None

    def items(self, keyword: str) -> list["Attributes"]:
        """The items of a sequence."""
        return [Attributes(item) for item in self.values(keyword) if isinstance(item, Dataset)]

    def private_items(self, group: int, creator: str, element: int) -> list["Attributes"]:
        """The items of a private sequence, when its block is the named creator's."""
        if group not in self._groups:  # as in private_number()
            return []
        try:
            value = self.dataset.private_block(group, creator)[element].value
        except Exception:  # as in values(); no such block
            return []
        return [Attributes(item) for item in value] if isinstance(value, Sequence) else []

    def _numbers(self, keyword: str, limit: float) -> tuple[float, ...]:
        """The values, if all of them are numbers below the limit."""
        try:
            found = tuple(float(value) for value in self.values(keyword))
        except (TypeError, ValueError, OverflowError):
            return ()
        return found if all(math.isfinite(number) and abs(number) < limit for number in found) else ()

    def _has_value(self, keyword: str) -> bool:
        try:
            element = self.dataset.get_item(keyword)
            value = None if element is None else element.value
            return bool(value.strip(b" \0") if isinstance(value, bytes) else value)
        except Exception:  # as in values()
            return True

    def private_number(self, creator: str, group: int, element: int) -> float | None:
        """The first value of a private element, when its block is the named creator's."""
        if group not in self._groups:  # saves pydicom's search for a block, which is slow
            return None
        try:
            value = self.dataset.private_block(group, creator)[element].value
            return float(value[0] if isinstance(value, MultiValue) else value)
        except Exception:  # as in values(); no such block, or not a number
            return None

    def private_bytes(self, creator: str, group: int, element: int) -> bytes | None:
        """The value of a private element of uninterpreted bytes, when its block is the named creator's."""
        if group not in self._groups:
            return None
        try:
            value = self.dataset.private_block(group, creator)[element].value
        except Exception:  # as in values(); no such block
            return None
        return value if isinstance(value, bytes) else None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def _text(value: object) -> str:
    try:
        return str(value)[:MAX_TEXT].replace("\0", "").strip()
    except Exception:  # a PersonName or text in a character set that does not decode
        return ""
