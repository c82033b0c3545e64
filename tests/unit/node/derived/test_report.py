"""The report, as DICOM SR and as a page: what it says, that validators find nothing wrong, and who can read it."""

import datetime
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import highdicom
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage

from node.config.settings import OutputSettings, ReportSettings
from node.derived.encode import Encoded, encode
from node.dicom.transfer_syntax import to_bytes
from node.result import Acquired, AcquisitionFact, Quality, Registration
from tests.conftest import require

from .defects import spoil

WARNING = "W_COVERAGE: the reference covers 1 of 3 slices by less than 95 %, at worst by 90 %"
REASON = "slice 2 differs by 0.44 from the measured k-space, more than [report] max_inconsistency = 0.1"


@pytest.fixture
def measured(study: Any) -> Any:
    quality = Quality(
        consistency=[0.031, 0.044, 0.02],
        intensity_drift=[0.01, -0.02, 0.003],
        registration=Registration(
            shift_mm=(0.3, -0.125), rotation_deg=0.5, trusted=True, corrected=True, displacement_mm=0.7, spread_mm=0.1
        ),
        seed_spread=[1e-6, 2e-6, 1e-6],
        usable=True,
        reasons=[],
        expected_error=[0.11, 0.13, 0.12],
        unsure=[0.02, 0.04, 0.03],
    )
    return study.with_result(quality=quality, warnings=[WARNING])


def encoded(study: Any, kind: Any = "mr", sop_class: Any = "comprehensive_3d", **output: Any) -> Encoded:
    settings = OutputSettings(sop_class=kind, **output)
    return encode(
        study.result, [*study.target, *study.reference], settings, ReportSettings(sop_class=sop_class), 9005
    )  # fmt: skip


def written(document: Dataset, folder: Path) -> Path:
    path = folder / "report.dcm"
    path.write_bytes(to_bytes(document))
    return path


def contents(report: Dataset, name: str) -> list[Dataset]:
    """The content items of that name, at any depth."""
    found = [report] if report.get("ConceptNameCodeSequence", [Dataset()])[0].get("CodeMeaning") == name else []
    for item in report.get("ContentSequence", ()):
        found += contents(item, name)
    return found


def number(item: Dataset) -> float:
    return float(item.MeasuredValueSequence[0].NumericValue)


def derivation(item: Dataset) -> str | None:
    return next((i.ConceptCodeSequence[0].CodeMeaning for i in contents(item, "Derivation")), None)


@pytest.mark.parametrize("kind", ["mr", "sc", "legacy_enhanced"])
@pytest.mark.parametrize(
    ("sop_class", "uid"), [("comprehensive_3d", Comprehensive3DSRStorage), ("comprehensive", ComprehensiveSRStorage)]
)
def test_dciodvfy_finds_no_error(
    kind: str, sop_class: str, uid: str, measured: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    (report,) = encoded(measured, kind, sop_class).documents
    assert report.SOPClassUID == uid
    assert conformance_errors(written(report, tmp_path)) == []


def test_pixelmed_finds_no_error(measured: Any, tmp_path: Path) -> None:
    """Of the report that has everything: figures, frames, and a defective source. It takes the validator 8 s."""
    tool = require("DicomSRValidator")
    for header in measured.target:
        spoil(header)
    (report,) = encoded(measured, "legacy_enhanced").documents
    options = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC "
    options += " ".join(f"-Djdk.xml.xpath{what}Limit=0" for what in ("TotalOp", "ExprOp", "ExprGrp"))
    run = subprocess.run(
        [tool, written(report, tmp_path)], capture_output=True, text=True, errors="replace",
        env=os.environ | {"JAVA_TOOL_OPTIONS": options},
    )  # fmt: skip
    lines = (run.stdout + run.stderr).splitlines()
    assert "Found Root Template TID_1500 (MeasurementReport)" in lines
    assert "Root Template Validation Complete" in lines
    assert "IOD validation complete" in lines
    assert [line for line in lines if "Error" in line] == []


def test_dcmtk_reads_it(measured: Any, tmp_path: Path) -> None:
    path = written(encoded(measured).documents[0], tmp_path)
    page = subprocess.run([require("dsr2html"), path], capture_output=True, check=True).stdout.decode("latin-1")
    for words in (
        "Imaging Measurement Report", "K-space inconsistency", "0.044", "research use only", WARNING, "DiffMSR tiny",
        "Usable - Does not meet the quality control standard",
    ):  # fmt: skip
        assert words in page
    dump = subprocess.run([require("dcmdump"), path], capture_output=True, check=True).stdout.decode("latin-1")
    assert "Comprehensive3DSRStorage" in dump


def test_it_says_what_was_measured_of_every_slice(measured: Any) -> None:
    made = encoded(measured)
    items = contents(made.documents[0], "K-space inconsistency")
    figures = {derivation(item): number(item) for item in items[:2]}
    assert figures == {"Maximum": 0.044, "Mean": pytest.approx(0.095 / 3, rel=1e-5)}
    named = [
        (number(item), item.ContentSequence[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in items[2:]
    ]
    assert named == list(zip([0.031, 0.044, 0.02], [i.SOPInstanceUID for i in made.images], strict=True))
    (worst, *_) = contents(made.documents[0], "Intensity drift")
    assert number(worst) == -0.02, "the farthest from 0"
    (shift,) = contents(made.documents[0], "Shift along a row")
    assert (number(shift), shift.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue) == (0.3, "mm")


def test_a_slice_is_named_by_its_frame(measured: Any) -> None:
    made = encoded(measured, "legacy_enhanced")
    (image,) = made.images
    for item, position in zip(
        contents(made.documents[0], "K-space inconsistency")[2:], measured.result.positions, strict=True
    ):
        frame = item.ContentSequence[-1].ReferencedSOPSequence[0].ReferencedFrameNumber
        place = image.PerFrameFunctionalGroupsSequence[frame - 1].PlanePositionSequence[0].ImagePositionPatient
        assert [float(v) for v in place] == pytest.approx(list(position), abs=1e-6)


@pytest.mark.parametrize(
    ("usable", "warnings", "code", "words"),
    [
        (True, [], "111237", "Usable. Every figure"),
        (True, [WARNING], "111236", "Usable, with warnings"),
        (False, [], "111235", "Not usable"),
        (None, [], None, "Not measured"),
    ],
)
def test_the_grade(measured: Any, usable: bool | None, warnings: list[str], code: str | None, words: str) -> None:
    quality = measured.result.quality
    reasons = [] if usable else [REASON]
    changed = None if usable is None else replace(quality, usable=usable, reasons=reasons)
    made = encoded(measured.with_result(quality=changed, warnings=warnings))
    grades = [i.ConceptCodeSequence[0].CodeValue for i in contents(made.documents[0], "Imaging Series Quality")]
    assert grades == ([code] if code else [])
    assert words in made.page
    texts = [item.TextValue for item in contents(made.documents[0], "Comment")]
    assert "research use only" in texts[0]
    assert set(warnings) <= set(texts)
    if usable is False:
        assert REASON in texts
        assert REASON in made.page
    if usable is None:
        assert "Quality: not measured." in texts


def test_it_names_the_algorithm(measured: Any) -> None:
    (report,) = encoded(measured).documents
    assert [i.TextValue for i in contents(report, "Algorithm Name")] == ["DiffMSR tiny"]
    assert [i.TextValue for i in contents(report, "Algorithm Version")] == ["1.0"]
    parameters = {i.TextValue for i in contents(report, "Algorithm Parameters")}
    assert {f"weights SHA-256 = {'ab' * 32}", "precision = float32", "grid_offset = 0"} <= parameters
    (family,) = contents(report, "Algorithm Family")
    assert family.ConceptCodeSequence[0].CodeMeaning == "Artificial Intelligence"


def test_it_belongs_to_the_study_as_a_series_of_its_own(measured: Any) -> None:
    made = encoded(measured)
    (report,) = made.documents
    image = made.images[0]
    assert (report.SeriesNumber, report.Modality, report.ContentQualification) == (19005, "SR", "RESEARCH")
    assert report.SeriesInstanceUID != image.SeriesInstanceUID
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber", "SpecificCharacterSet"):
        assert report[keyword].value == image[keyword].value, keyword
    referenced = {
        i.ReferencedSOPInstanceUID
        for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for i in series.ReferencedSOPSequence
    }
    assert referenced == {i.SOPInstanceUID for i in made.images}
    assert made.instances == [*made.images, report], "sent after the images"


def test_every_correction_is_a_warning_and_only_identification_stays_defective(
    measured: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    for header in measured.target:
        spoil(header)
    made = encoded(measured)
    (report,) = made.documents
    assert report.PatientSex == "0000"
    left = [e for e in conformance_errors(written(report, tmp_path)) if "Sex" not in e and "StudyDescription" not in e]
    assert left == []
    texts = {item.TextValue for item in contents(report, "Comment")}
    assert made.corrections
    for correction in made.corrections:
        assert f"W_ATTRIBUTES_CORRECTED: {correction}" in texts
        assert correction in made.page
    assert {
        "PatientSex copied as it stands, although it does not conform",
        "StudyID is missing in the source: written empty",
        "PixelAspectRatio left out: not allowed beside PixelSpacing",
        "ProtocolName shortened to what the standard allows",
    } <= set(made.corrections)


def test_without_any_date_it_is_still_conformant(
    study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    for header in study.target:
        for keyword in ("ContentDate", "ContentTime", "SeriesDate", "SeriesTime", "StudyDate", "StudyTime"):
            header.pop(keyword, None)
    assert conformance_errors(written(encoded(study).documents[0], tmp_path)) == []


@pytest.mark.parametrize("sop_class", ["comprehensive_3d", "comprehensive"])
def test_the_same_bytes_on_another_day(measured: Any, sop_class: str) -> None:
    first = encoded(measured, sop_class=sop_class)
    with mock.patch("highdicom.base.datetime") as base, mock.patch("highdicom.sr.sop.datetime") as document:
        for clock in (base, document):
            clock.datetime.now.return_value = datetime.datetime(2031, 5, 6, 7, 8, 9)
            clock.date, clock.time = datetime.date, datetime.time
        second = encoded(measured, sop_class=sop_class)
    assert to_bytes(first.documents[0]) == to_bytes(second.documents[0])
    assert first.page == second.page


def test_other_findings_make_another_report_of_the_same_images(measured: Any) -> None:
    one, two = encoded(measured), encoded(measured.with_result(warnings=[]))
    assert [i.SOPInstanceUID for i in one.images] == [i.SOPInstanceUID for i in two.images]
    assert one.documents[0].SOPInstanceUID != two.documents[0].SOPInstanceUID
    assert one.documents[0].SeriesInstanceUID != two.documents[0].SeriesInstanceUID


def test_it_says_how_the_target_was_acquired_and_what_was_undone(measured: Any) -> None:
    acquired = Acquired(
        [
            AcquisitionFact("acquired rows", "205 of 256", "both", 0.997),
            AcquisitionFact("noise", "unknown", "unknown", None),
        ],
        ["k-space cropped to 205 x 256", "fermi filter divided out"],
    )
    made = encoded(measured.with_result(acquired=acquired))
    comments = [item.TextValue for item in contents(made.documents[0], "Comment")]
    assert "Acquisition of the target: acquired rows: 205 of 256 (source: both, confidence 1.00)." in comments
    assert "Acquisition of the target: noise: unknown (source: unknown)." in comments
    assert "Undone before super-resolution: k-space cropped to 205 x 256, fermi filter divided out." in comments
    assert "k-space cropped to 205 x 256, fermi filter divided out." in made.page
    assert "<td>205 of 256</td><td>both</td>" in made.page
    assert "How the target was acquired" not in encoded(measured).page, "a result of a version before"


def test_none_leaves_the_page(measured: Any) -> None:
    made = encoded(measured, sop_class="none")
    assert made.documents == []
    assert "K-space inconsistency" in made.page


def test_compressed_images_have_an_uncompressed_report(measured: Any) -> None:
    (report,) = encoded(measured, transfer_syntax="jpeg_ls").documents
    assert report.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian


def test_highdicom_reads_it_back(measured: Any, tmp_path: Path) -> None:
    report = highdicom.sr.srread(written(encoded(measured).documents[0], tmp_path))
    (group,) = report.content.get_image_measurement_groups()
    names = [m.name.meaning for m in group.get_measurements()]
    assert names.count("K-space inconsistency") == 5


def test_the_page_is_self_contained_escaped_and_without_the_patient(measured: Any) -> None:
    for header in measured.target:
        header.SeriesDescription = "t2 <script>alert(1)</script>"
    page = encoded(measured.with_result(warnings=["W_X: a < b & c"])).page
    assert "<script" not in page
    assert "t2 &lt;script&gt;alert(1)" in page
    assert "W_X: a &lt; b &amp; c" in page
    for outside in ("http:", "https:", "src=", "@import", "url("):
        assert outside not in page
    for personal in ("Müller", "Jörg", "PID 7", "19501231", "A-17", "House"):
        assert personal not in page
    assert page.count("<rect") == 15, "five charts of three slices"
