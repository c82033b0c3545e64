"""Every kind of derived series: conformant, placed where its source lies, the same bytes each time."""

import copy
import datetime
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import LegacyConvertedEnhancedMRImageStorage, MRImageStorage, SecondaryCaptureImageStorage
from scipy.spatial.transform import Rotation

from node.config.settings import OutputSettings, ReportSettings
from node.derived import copied_attributes
from node.derived.encode import encode
from node.dicom.stored_values import decimals
from node.dicom.transfer_syntax import TRANSFER_SYNTAXES, to_bytes
from tests.dicom import enhanced

from .defects import spoil

COPIED = sorted(
    {
        "SpecificCharacterSet", *copied_attributes.PATIENT, *copied_attributes.CLINICAL_TRIAL, *copied_attributes.STUDY,
        *copied_attributes.DEIDENTIFICATION, *copied_attributes.SERIES, *copied_attributes.ACQUISITION, *copied_attributes.CONTRAST, *copied_attributes.MR,
        *copied_attributes.EQUIPMENT,
    }
    - {"StudyInstanceUID"}
)  # fmt: skip
KINDS = {
    "mr": MRImageStorage, "sc": SecondaryCaptureImageStorage, "legacy_enhanced": LegacyConvertedEnhancedMRImageStorage
}  # fmt: skip
VENDOR_SERIES = ["GE_HDxt_deidentified_T1_sag", "GE_Signa_T1_MPRAGE", "Siemens_Prisma_PD_T2_dualecho"]

every_kind = pytest.mark.parametrize("kind", KINDS)


def written(study: Any, folder: Path, kind: Any, syntax: Any = "explicit") -> list[Path]:
    output = OutputSettings(sop_class=kind, transfer_syntax=syntax)
    instances = encode(study.result, [*study.target, *study.reference], output, ReportSettings(), 9005).images
    paths = [folder / f"{n}.dcm" for n in range(len(instances))]
    for path, instance in zip(paths, instances, strict=True):
        path.write_bytes(to_bytes(instance))
    return paths


def volume(paths: list[Path]) -> Any:
    """As a viewer reads a series."""
    images = [highdicom.imread(path) for path in paths]
    return images[0].get_volume() if len(images) == 1 else highdicom.get_volume_from_series(images)


@every_kind
@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
def test_dciodvfy_finds_no_error_and_pixels_are_those_of_the_result(
    kind: str, syntax: str, study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    paths = written(study, tmp_path, kind, syntax)
    for path in paths:
        assert conformance_errors(path) == []
    stored = [pydicom.dcmread(path) for path in paths]
    assert {ds.SOPClassUID for ds in stored} == {KINDS[kind]}
    assert {ds.file_meta.TransferSyntaxUID for ds in stored} == {TRANSFER_SYNTAXES[syntax]}
    found = np.concatenate([ds.pixel_array.reshape(-1, 96, 80) for ds in stored])
    expected = np.rint(study.result.pixels)
    assert np.array_equal(found, expected) or np.array_equal(found, expected[::-1])


@every_kind
def test_geometry_agrees_with_the_source_at_the_corners(kind: str, study: Any, tmp_path: Path) -> None:
    """On an oblique stack. Grid offset 0: fine pixel (4 r, 4 c) lies on coarse pixel (r, c)."""
    derived = volume(written(study, tmp_path, kind))
    coarse = np.arange(3 * 24 * 20, dtype=np.uint16).reshape(3, 24, 20)
    for header, pixels in zip(study.target, coarse, strict=True):
        header.PixelData = pixels.tobytes()
        header["PixelData"].VR = "OW"
    source = highdicom.get_volume_from_series(study.target)
    corners = np.array([[s, r, c] for s in (0, 2) for r in (0, 23) for c in (0, 19)])
    assert derived.spatial_shape == (3, 96, 80)
    places = derived.map_indices_to_reference(corners * [1, 4, 4])
    assert np.abs(places - source.map_indices_to_reference(corners)).max() < 1e-3
    # And the pixels of a slice are where the slice is.
    expected = {
        round(float(p[2]), 3): pixels for p, pixels in zip(study.result.positions, study.result.pixels, strict=True)
    }
    for n in range(3):
        z = round(float(derived.map_indices_to_reference(np.array([[n, 0, 0]]))[0, 2]), 3)
        assert np.array_equal(derived.array[n], np.rint(expected[z]))


@every_kind
@pytest.mark.parametrize("series", VENDOR_SERIES)
def test_real_sources_give_conformant_instances(
    kind: str,
    series: str,
    shared_data: Path,
    study: Any,
    tmp_path: Path,
    conformance_errors: Callable[[Path], list[str]],
) -> None:
    paths = sorted((shared_data / "vendor_dicom" / series).glob("*.dcm"))[:3]
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    study = replace(study.with_result(source_uids=[h.SOPInstanceUID for h in headers]), target=headers)
    output = OutputSettings(sop_class=kind, presentation_state=True)  # type: ignore[arg-type]
    made = encode(study.result, [*study.target, *study.reference], output, ReportSettings(), 9005)
    path = tmp_path / "made.dcm"
    for instance in made.instances:
        path.write_bytes(to_bytes(instance))
        assert conformance_errors(path) == []
        derived = pydicom.dcmread(path)
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
            assert derived.get(keyword) == headers[0].get(keyword), keyword


@every_kind
def test_defective_sources_give_conformant_instances_but_for_identification(
    kind: str, study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    for header in study.target:
        spoil(header)
    for path in written(study, tmp_path, kind):
        derived = pydicom.dcmread(path)
        assert (derived.PatientSex, derived.StudyDescription) == ("0000", "S" * 65)
        left = [e for e in conformance_errors(path) if "PatientSex" not in e and "StudyDescription" not in e]
        assert left == []


@every_kind
def test_the_same_bytes_on_another_day(kind: Any, study: Any) -> None:
    output = OutputSettings(sop_class=kind)
    headers = [*study.target, *study.reference]
    first = [to_bytes(i) for i in encode(study.result, headers, output, ReportSettings(), 9005).images]
    with mock.patch("highdicom.base.datetime") as clock, mock.patch("highdicom.sc.sop.datetime") as capture_clock:
        for each in (clock, capture_clock):
            each.datetime.now.return_value = datetime.datetime(2031, 5, 6, 7, 8, 9)
            each.date, each.time = datetime.date, datetime.time
        second = [to_bytes(i) for i in encode(study.result, headers[::-1], output, ReportSettings(), 9005).images]
    assert first == second


def test_no_two_kinds_share_a_uid(study: Any) -> None:
    headers = [*study.target, *study.reference]
    made = [encode(study.result, headers, OutputSettings(sop_class=k), ReportSettings(), 9005).images for k in KINDS]  # type: ignore[arg-type]
    uids = [uid for instances in made for i in instances for uid in {i.SOPInstanceUID}]
    assert len(set(uids)) == len(uids)
    assert len({i.SeriesInstanceUID for instances in made for i in instances}) == len(KINDS)


@every_kind
def test_every_kind_is_marked_and_names_its_sources(kind: Any, study: Any, tmp_path: Path) -> None:
    named: set[str] = set()
    for path in written(study, tmp_path, kind):
        derived = pydicom.dcmread(path)
        assert derived.SeriesDescription == "AI SR x4: t2_tse"
        assert (derived.SyntheticData, derived.ContentQualification) == ("YES", "RESEARCH")
        assert derived.ImageType[0] == "DERIVED"
        assert derived.ManufacturerModelName == "DiffMSR node"
        assert "InstanceCreationDate" not in derived
        named |= {e.value for e in derived.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    assert named == {str(h.SOPInstanceUID) for h in [*study.target, *study.reference]}, "these and nothing else"
    if kind != "sc":
        assert any(e.keyword == "AcquisitionMatrix" for e in derived.iterall())


@every_kind
@pytest.mark.parametrize("flag", ["lossy", "burned in"])
def test_what_the_sources_have_lost_is_said(kind: str, flag: str, study: Any, tmp_path: Path) -> None:
    source: Dataset = study.target[1]
    if flag == "lossy":
        source.LossyImageCompression, source.LossyImageCompressionRatio = "01", "11"
        source.LossyImageCompressionMethod = "ISO_15444_1"
    else:
        source.BurnedInAnnotation = "YES"
    derived = [pydicom.dcmread(path) for path in written(study, tmp_path, kind)]
    if flag == "lossy":
        assert "01" in {ds.LossyImageCompression for ds in derived}
        assert {ds.get("LossyImageCompressionMethod") for ds in derived} - {None} == {"ISO_15444_1"}
    else:
        assert "YES" in {ds.get("BurnedInAnnotation") for ds in derived}


@every_kind
def test_frames_as_sources_give_conformant_series(
    kind: str, study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    target, reference = enhanced(study.target), enhanced(study.reference)
    frames = study.with_result(
        source_uids=[target.SOPInstanceUID] * 3, source_frames=[1, 2, 3],
        reference_uids=[[reference.SOPInstanceUID] * 2] * 3, reference_frames=[[1, 2], [2, 3], [3, 4]],
    )  # fmt: skip
    (tmp_path / "frames").mkdir()
    derived = written(replace(frames, target=[target], reference=[reference]), tmp_path / "frames", kind)
    for path in derived:
        assert conformance_errors(path) == []
    same = volume(derived).get_geometry()
    assert np.allclose(same.affine, volume(written(study, tmp_path, kind)).affine)


WRONG = {
    "not in the character set it claims": (b"ISO_IR 192", "Müller^Jörg".encode("latin-1")),
    "an unknown character set": (b"ISO_IR 999", "Müller^Jörg".encode("latin-1")),
    "characters no name may have": (b"ISO_IR 100", b"Muller\x07^\\J\xf6g"),
}


@every_kind
@pytest.mark.parametrize("wrong", WRONG)
def test_identification_reads_as_in_the_source(kind: Any, wrong: str, study: Any) -> None:
    """The PACS files by what it reads, right or wrong."""
    character_set, name = WRONG[wrong]
    headers = []
    for header in (*study.target, *study.reference):
        header.PatientName, header.SpecificCharacterSet = "N" * len(name), "ISO_IR 100"
        content = to_bytes(header).replace(b"N" * len(name), name).replace(b"ISO_IR 100", character_set)
        headers.append(pydicom.dcmread(BytesIO(content)))
    output = OutputSettings(sop_class=kind, transfer_syntax="implicit", presentation_state=True)
    for instance in encode(study.result, headers, output, ReportSettings(), 9005).instances:
        written = pydicom.dcmread(BytesIO(to_bytes(instance)))
        assert written.SpecificCharacterSet == character_set.decode()
        assert written["PatientName"].value == headers[0]["PatientName"].value
        assert "\ufffd" in str(written.PatientName) or name in to_bytes(instance), (
            "byte for byte where that can be read"
        )


@every_kind
def test_identification_of_a_wrong_vr_keeps_its_value(
    kind: Any, study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    headers = []
    for header in (*study.target, *study.reference):
        content = to_bytes(header)
        for right, wrong in (
            (b"\x10\x00\x10\x00PN", b"\x10\x00\x10\x00LO"),
            (b"\x08\x00\x20\x00DA", b"\x08\x00\x20\x00SH"),
        ):
            assert right in content
            content = content.replace(right, wrong)
        headers.append(pydicom.dcmread(BytesIO(content)))
    made = encode(study.result, headers, OutputSettings(sop_class=kind), ReportSettings(), 9005)
    for instance in made.instances:
        (tmp_path / "made.dcm").write_bytes(to_bytes(instance))
        written = pydicom.dcmread(tmp_path / "made.dcm")
        assert (written["PatientName"].VR, written.PatientName) == ("PN", "Müller^Jörg")
        assert (written["StudyDate"].VR, written.StudyDate) == ("DA", "20240102")
        assert conformance_errors(tmp_path / "made.dcm") == []
    assert "PatientName copied as it stands, although it does not conform" in made.corrections


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(st.floats(0.4, 4), st.floats(0.4, 4)),
    gap=st.floats(0.8, 9),
    corner=st.tuples(*[st.floats(-250, 250)] * 3),
    matrix=st.tuples(st.integers(5, 24), st.integers(5, 24)),
    kind=st.sampled_from(list(KINDS)),
)
def test_any_geometry_agrees_at_the_corners(
    angles: Any, spacing: Any, gap: float, corner: Any, matrix: Any, kind: str, study: Any, tmp_path: Path
) -> None:
    """Source and output, written with the 16 characters of a decimal string and read as a viewer does."""
    row, column, normal = Rotation.from_euler("xyz", angles).as_matrix().T
    rows, columns = matrix
    targets = copy.deepcopy(study.target)
    for i, header in enumerate(targets):
        header.ImageOrientationPatient = decimals(np.array([*row, *column]))
        header.ImagePositionPatient = decimals(np.array(corner) + i * gap * normal)
        header.PixelSpacing, header.SpacingBetweenSlices = decimals(spacing), decimals([gap])[0]
        header.Rows, header.Columns = rows, columns
        header.PixelData = np.zeros((rows, columns), np.uint16).tobytes()
        header["PixelData"].VR = "OW"
    result = replace(
        study.result,
        pixels=np.ones((3, 4 * rows, 4 * columns), np.float32),
        positions=np.array([[float(v) for v in header.ImagePositionPatient] for header in targets]),
        orientation=(tuple(row), tuple(column)),
        spacing=(spacing[0] / 4, spacing[1] / 4),
    )
    derived = volume(written(replace(study, result=result, target=targets), tmp_path, kind))
    source = highdicom.get_volume_from_series(targets)
    corners = np.array([[s, r, c] for s in (0, 2) for r in (0, rows - 1) for c in (0, columns - 1)])
    places = derived.map_indices_to_reference(corners * [1, 4, 4])
    assert np.abs(places - source.map_indices_to_reference(corners)).max() < 1e-3


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example(keyword="SpecificCharacterSet", value=b"\x00\x01", kind="mr")
@example(keyword="SpecificCharacterSet", value=b"ISO_IR 100\\\xff\x00", kind="sc")
@given(
    keyword=st.sampled_from(COPIED),
    value=st.one_of(
        st.none(), st.binary(max_size=70), st.sampled_from([b"x" * 200, b"-1\\2\\3", b"20240101120000", b"\\"])
    ),
    kind=st.sampled_from(list(KINDS)),
)
def test_no_attribute_of_a_source_stops_a_delivery(keyword: str, value: bytes | None, kind: Any, study: Any) -> None:
    """The attribute is missing, or has bytes that are not a value of its VR, in every slice."""
    targets = copy.deepcopy(study.target)
    tag = Tag(keyword)
    for header in targets:
        header.pop(tag, None)
        if value is not None:
            header[tag] = RawDataElement(tag, dictionary_VR(keyword), len(value), value, 0, False, True)
    output = OutputSettings(sop_class=kind, presentation_state=True)
    made = encode(study.result, [*targets, *study.reference], output, ReportSettings(), 9005)
    for instance in made.instances:
        assert pydicom.dcmread(BytesIO(to_bytes(instance))).SOPInstanceUID == instance.SOPInstanceUID
