"""The scan against pydicom: both read the same values, and the scan leaves to pydicom what pydicom refuses."""

from io import BytesIO
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.dicom.part10 import head
from node.receive.scan import read, scan
from node.receive.store import _header
from tests.dicom import mr_series

SYNTAXES = [str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)]


def encoded(ds: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, syntax == ImplicitVRLittleEndian
    write_dataset(buffer, ds)
    return buffer.getvalue()


def as_pydicom_reads(data_set: bytes, syntax: str) -> Any:
    """None when it cannot."""
    try:
        return read(_header(head("1.2", "1.2", syntax, "1.2", "A"), data_set))
    except Exception:
        return None


def image(undefined: bool, depth: int) -> Dataset:
    """With sequences in sequences, of defined or undefined length, and a private block."""
    (ds,) = mr_series(1, rows=8, columns=8)
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedImageSequence = Sequence([item, Dataset(), item])
        outer["ReferencedImageSequence"].is_undefined_length = undefined
        for one in outer.ReferencedImageSequence:
            one.is_undefined_length_sequence_item = undefined
        item = outer
    ds.ReferencedImageSequence = Sequence([item])
    ds["ReferencedImageSequence"].is_undefined_length = undefined
    ds.private_block(0x0029, "MAKER", create=True).add_new(1, "OB", bytes(range(100)))
    ds.ImagesInAcquisition = "25"
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_what_scanners_send_is_scanned(syntax: str, undefined: bool, depth: int) -> None:
    data_set = encoded(image(undefined, depth), syntax)
    found = scan(data_set, syntax)
    assert found is not None and found == as_pydicom_reads(data_set, syntax)
    assert found.images_in_acquisition == 25


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_data_set_that_ends_within_the_header_of_its_pixels_is_left_to_pydicom(syntax: str) -> None:
    data_set = encoded(image(undefined=False, depth=1), syntax)
    pixels = data_set.rindex(b"\xe0\x7f\x10\x00")
    read_by = {
        cut: (scan(data_set[:cut], syntax), as_pydicom_reads(data_set[:cut], syntax))
        for cut in range(pixels - 9, pixels + 14)
    }
    assert {cut for cut, (scanned, by_pydicom) in read_by.items() if scanned and not by_pydicom} == set()
    assert all(read_by[cut][0] for cut in (pixels, pixels + 12))


def test_the_head_is_what_pydicom_reads() -> None:
    (ds,) = mr_series(1)
    written = head(str(ds.SOPClassUID), str(ds.SOPInstanceUID), SYNTAXES[0], "1.2.3.4", "SCANNER1")
    read = dcmread(BytesIO(written + encoded(ds, SYNTAXES[0])))
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = SYNTAXES[0], "1.2.3.4"
    meta.SourceApplicationEntityTitle = "SCANNER1"
    del read.file_meta[0x00020000]
    assert read.file_meta == meta
    assert read == ds


WHOLE = {
    (syntax, undefined): encoded(image(undefined, 2), syntax) for syntax in SYNTAXES for undefined in (False, True)
}


@example(("1.2.840.10008.1.2.1", True), [(1080, b"\0")], 0)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=6)), min_size=1, max_size=3),
    st.integers(0, 3000),
)
@settings(max_examples=400, deadline=None)
def test_damaged_data_sets(which: tuple[str, bool], damage: list[tuple[int, bytes]], cut: int) -> None:
    data_set = bytearray(WHOLE[which])
    for at, garbage in damage:
        data_set[at % len(data_set) : at % len(data_set) + len(garbage)] = garbage
    for content in (bytes(data_set), bytes(data_set[:cut]), bytes(data_set)[:40] + bytes(data_set)[cut:]):
        found = scan(content, which[0])
        if found is not None:
            assert found == as_pydicom_reads(content, which[0])


@given(st.sampled_from(SYNTAXES), st.binary(max_size=120))
@settings(max_examples=200, deadline=None)
def test_garbage(syntax: str, garbage: bytes) -> None:
    found = scan(garbage, syntax)
    assert found is None or found == as_pydicom_reads(garbage, syntax)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SpecificCharacterSet", "ISO_IR 100\\ISO 2022 IR 87"),
        ("SpecificCharacterSet", "NOBODY_KNOWS"),
        ("ImagesInAcquisition", "25.0"),
    ],
)
def test_what_needs_rules_is_left_to_pydicom(keyword: str, value: str) -> None:
    (ds,) = mr_series(1)
    setattr(ds, keyword, value.split("\\"))
    assert scan(encoded(ds, SYNTAXES[0]), SYNTAXES[0]) is None
