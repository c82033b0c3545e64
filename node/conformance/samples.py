"""Derived objects of two synthetic results that have nothing in common: what is equal in both is equal in every result."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from node.config.settings import OutputSettings, Settings
from node.derived import copied_attributes
from node.derived.encode import Encoded, encode
from node.result import Result

COPIED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Patient", copied_attributes.PATIENT),
    ("Clinical Trial", copied_attributes.CLINICAL_TRIAL),
    ("Study", copied_attributes.STUDY),
    ("De-identification", copied_attributes.DEIDENTIFICATION),
    ("Series, Frame of Reference", copied_attributes.SERIES),
    ("Acquisition, Image Plane", copied_attributes.ACQUISITION),
    ("Contrast/Bolus", copied_attributes.CONTRAST),
    ("MR Image", copied_attributes.MR),
)
SOP_CLASSES: tuple[Literal["mr", "sc", "legacy_enhanced"], ...] = get_args(
    OutputSettings.model_fields["sop_class"].annotation
)


def samples(settings: Settings, sop_class: Literal["mr", "sc", "legacy_enhanced"]) -> tuple[Encoded, ...]:
    """The derived objects of two results that have nothing in common."""
    output = settings.output.model_copy(
        update={"sop_class": sop_class, "presentation_state": True, "parametric_map": True}
    )
    return tuple(encode(*_result(n), output, settings.report, number) for n, number in ((1, 9001), (2, 9102)))


def _result(n: int) -> tuple[Result, list[Dataset]]:
    """A result and the headers of its sources, which depend on `n` in every attribute."""

    def header(series: int, number: int) -> Dataset:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.Modality = MRImageStorage, "MR"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.{n}", f"1.2.{n}.{series}"
        ds.SOPInstanceUID = f"1.2.{n}.{series}.{number}"
        ds.FrameOfReferenceUID, ds.SeriesDescription = f"1.2.{n}.9", f"series {n}"
        ds.SeriesNumber, ds.InstanceNumber = str(n), str(number)
        ds.Rows = ds.Columns = 4 * n
        ds.WindowCenter, ds.WindowWidth = str(100 + n), str(300 + n)
        ds.BurnedInAnnotation = "NO" if n == 1 else "YES"
        if n == 2:
            ds.LossyImageCompression, ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = (
                "01",
                10,
                "ISO_15444_1",
            )
        ds.ScanningSequence, ds.SequenceVariant = "SE", "NONE"
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient, ds.PixelSpacing = [n, n, 5 * n * number], [n, n]
        ds.SliceThickness = str(n)
        return ds

    numbers = range(n, 2 * n + 1)
    targets, references = [header(1, i) for i in numbers], [header(2, i) for i in numbers]
    across, down = (float(of(0.1 if n == 1 else 1.5)) for of in (np.cos, np.sin))
    pixels = np.random.default_rng(n).random((n + 1, 16 * n, 12 * n), dtype=np.float32) * 1000 * n
    result = Result(
        pixels=pixels,
        expected_error=pixels / np.float32(10 * n),
        positions=np.array([[n, n, 5.0 * n * i] for i in numbers]),
        orientation=((across, down, 0.0), (-down, across, 0.0)),
        spacing=(0.25 * n, 0.3 * n),
        source_uids=[ds.SOPInstanceUID for ds in targets],
        reference_uids=[[ds.SOPInstanceUID] for ds in references],
        model_name=f"model{n}",
        model_version=str(n),
        weights_sha256=f"{n:064x}",
        scale=4,
        parameters={"precision": f"p{n}"},
        warnings=[],
    )
    return result, [*targets, *references]


class Fact(BaseModel):
    """A part of the statement."""

    model_config = ConfigDict(frozen=True)


class WrittenAttribute(Fact):
    """An attribute that the node writes itself."""

    tag: str
    name: str
    vr: str
    value: str
    """Where it is the same in every object; else empty."""


class WrittenObject(Fact):
    """What the node writes itself into objects of one SOP class."""

    uid: str
    name: str
    written: tuple[WrittenAttribute, ...]


def written_attributes(first: Sequence[Dataset], second: Sequence[Dataset]) -> list[WrittenObject]:
    """For each SOP class the attributes that the node writes itself: all that are not copied from the target."""
    copied = {keyword for _, keywords in COPIED for keyword in keywords}
    others = {str(instance.SOPClassUID): instance for instance in second}
    objects: dict[str, WrittenObject] = {}
    for instance in first:
        if str(instance.SOPClassUID) not in objects:
            other = others[str(instance.SOPClassUID)]
            either = {e.tag: e for e in (*other, *instance)}
            written = [either[tag] for tag in sorted(either) if either[tag].keyword not in copied]
            objects[str(instance.SOPClassUID)] = WrittenObject(
                uid=str(instance.SOPClassUID),
                name=UID(instance.SOPClassUID).name,
                written=tuple(
                    WrittenAttribute(
                        tag=str(e.tag).upper(), name=e.name, vr=str(e.VR), value=_fixed(e.tag, instance, other)
                    )
                    for e in written
                ),
            )
    return list(objects.values())


def _fixed(tag: BaseTag, one: Dataset, other: Dataset) -> str:
    """The value where it is the same in every object, for a code sequence its codes; else nothing."""
    if tag not in one or tag not in other or one[tag].value != other[tag].value:
        return ""
    element = one[tag]
    if element.VR == "SQ":
        codes = [i for i in element.value if "CodeValue" in i]
        return "; ".join(f"({i.CodeValue}, {i.CodingSchemeDesignator}, {i.CodeMeaning})" for i in codes)
    if element.is_empty:
        return "empty"
    values = element.value if element.VM > 1 else [element.value]
    return "\\".join(str(UID(v).name if element.VR == "UI" else v) for v in values)
