"""The DICOM JSON model (PS3.18 annex F), by pydicom. Long values are left out and named by a BulkDataURI."""

from typing import Any

from pydicom import DataElement, Dataset
from pydicom.tag import BaseTag, Tag

from node.web.dicomweb.contents import Entry

LONGEST = 1024
"""Bytes of a binary value that stands in the JSON itself."""

PIXEL_DATA = Tag("PixelData")
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def metadata(entry: Entry, root: str) -> dict[str, Any]:
    """Everything that an instance says about itself, without its pixels. `root` is the address of the service."""
    header = entry.stored.read_header()
    left_out = [element.tag for element in header if is_bulk(element)]
    for tag in left_out:
        del header[tag]
    json = to_json(header)
    if "Rows" in header:
        left_out.append(PIXEL_DATA)
    for tag in left_out:
        name = f"{tag:08X}"
        json[name] = {"vr": "OW" if tag == PIXEL_DATA else "UN", "BulkDataURI": f"{root}/{entry.path}/bulkdata/{name}"}
    return dict(sorted(json.items()))


def is_bulk(element: DataElement) -> bool:
    """Whether a value is too long for JSON."""
    return element.VR in _BINARY and isinstance(element.value, bytes) and len(element.value) > LONGEST


def to_json(dataset: Dataset) -> dict[str, Any]:
    """A data set as JSON. Text is Unicode there, whatever the character set of the instance was."""
    json: dict[str, Any] = dataset.to_json_dict(suppress_invalid_tags=True)
    if "00080005" in json:
        json["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return json


def tag_of(text: str) -> BaseTag:
    """The tag that a keyword or eight hexadecimal digits mean. ValueError when there is none."""
    tag: BaseTag = Tag(int(text, 16)) if len(text) == 8 and not text.isalpha() else Tag(text)
    return tag
