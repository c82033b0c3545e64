"""Whole instances to damage, as elements: real ones, the encodings that scanners and archives use, multi-frame."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicom import enhanced, study

SAMPLE = Path(__file__).parents[2] / "node" / "demo" / "sample"

SECRET = "Zqxjkv"
"""Part of every patient attribute of the corpus: where it turns up in a log, patient data does."""

LONG_FORM = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations with a length of four bytes (PS3.5 section 7.1.2)."""


@dataclass(frozen=True)
class Element:
    """One data element as it will be written, right or wrong."""

    tag: int
    vr: bytes
    value: bytes = field(repr=False)
    length: int | None = None
    """What it claims to have; None is the truth."""

    def encoded(self) -> bytes:
        """Explicit VR little endian (PS3.5 section 7.1.2)."""
        length = len(self.value) if self.length is None else self.length
        head = (self.tag >> 16).to_bytes(2, "little") + (self.tag & 0xFFFF).to_bytes(2, "little") + self.vr
        if self.vr in LONG_FORM:
            return head + b"\0\0" + (length & 0xFFFFFFFF).to_bytes(4, "little") + self.value
        return head + (length & 0xFFFF).to_bytes(2, "little") + self.value


@dataclass(frozen=True)
class Instance:
    """An instance in explicit VR little endian elements, and what its file meta information says about it."""

    name: str
    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    elements: tuple[Element, ...] = field(repr=False)

    def data_set(self) -> bytes:
        return b"".join(element.encoded() for element in self.elements)


def part10(instance: Instance, data_set: bytes) -> bytes:
    """A file with the meta information of `instance` around any bytes."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(instance.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(instance.sop_uid)
    meta.TransferSyntaxUID = UID(instance.transfer_syntax_uid)
    meta.ImplementationClassUID = UID("1.2.3")
    buffer = DicomBytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(buffer, meta)
    return buffer.getvalue() + data_set


def stack() -> list[Instance]:
    """A small study that is super-resolved when nothing is wrong with it: four T2 slices, four T1 slices."""
    return [_instance(f"study {n}", ds) for n, ds in enumerate(_study())]


def _study(slices: int = 4) -> list[Dataset]:
    """With the same UIDs every time, so that a seed names the same examples."""
    t2, t1 = study(slices)
    for series, number in ((t2, 1), (t1, 2)):
        for n, ds in enumerate(series):
            ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.10.7", f"1.2.826.0.1.3680043.10.7.{number}"
            ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.10.8"
            ds.SOPInstanceUID = f"{ds.SeriesInstanceUID}.{1_000_000 + n}"
    return [*t2, *t1]


def corpus(shared_data: Path | None) -> list[Instance]:
    """One instance of each kind; vendors' where `shared_data` has them."""
    sample = dcmread(SAMPLE / "T2" / "01.dcm")
    found = [_instance("sample", sample), *stack()[3:5]]
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        compressed = deepcopy(sample)
        compressed.compress(syntax, generate_instance_uid=False)
        found.append(_instance(UID(syntax).name, compressed))
    found.append(_instance("JPEG Lossless", _jpeg_lossless(sample)))
    deflated = replace(found[0], name="deflated", transfer_syntax_uid=str(DeflatedExplicitVRLittleEndian))
    frames = enhanced(_study(3)[:3])
    return [*found, deflated, _instance("enhanced", frames), *_vendors(shared_data)]


def _jpeg_lossless(sample: Dataset) -> Dataset:
    """With the pixels of another file, since nothing here writes JPEG Lossless."""
    file = get_testdata_file("JPGLosslessP14SV1_1s_1f_8b.dcm", download=False)
    assert file is not None, "the package pydicom-data brings it"
    donor, instance = dcmread(file), deepcopy(sample)
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"):
        setattr(instance, keyword, donor[keyword].value)
    instance["PixelData"].VR, instance["PixelData"].is_undefined_length = "OB", True
    instance.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    instance.SOPInstanceUID = f"{sample.SOPInstanceUID[:-1]}9"  # other pixels are another instance
    return instance


def _vendors(shared_data: Path | None) -> Iterator[Instance]:
    if shared_data is not None:
        for folder in sorted((shared_data / "vendor_dicom").iterdir()):
            yield _instance(folder.name, dcmread(min(folder.glob("*.dcm"))))


def _instance(name: str, ds: Dataset) -> Instance:
    ds = deepcopy(ds)
    ds.PatientName, ds.PatientID, ds.OtherPatientNames = f"{SECRET}^Ada", f"{SECRET}17", f"{SECRET}^Eve"
    ds.InstitutionName, ds.PatientComments = f"{SECRET} hospital", f"{SECRET} said"
    return Instance(
        name=name,
        sop_class_uid=str(ds.SOPClassUID),
        sop_uid=str(ds.SOPInstanceUID),
        transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
        elements=tuple(_elements(ds)),
    )


def _elements(ds: Dataset) -> Iterator[Element]:
    for tag in sorted(ds.keys()):
        element = ds.get_item(tag)
        assert element is not None
        if isinstance(element, RawDataElement):
            element = ds[tag]
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element, str(ds.get("SpecificCharacterSet") or "iso8859"))
        yield decoded(BytesIO(buffer.getvalue()))


def decoded(file: BytesIO) -> Element:
    """The element that is all of a file, in explicit VR little endian."""
    head = file.read(8)
    tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
    vr = head[4:6]
    if vr not in LONG_FORM:
        return Element(tag, vr, file.read())
    length = int.from_bytes(file.read(4), "little")
    return Element(tag, vr, file.read(), length if length == 0xFFFFFFFF else None)
