"""The trust map as a Parametric Map: conformant, on the grid of the images, in their unit, off unless asked for."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import ParametricMapStorage

from node.config.settings import OutputSettings, ReportSettings
from node.derived.encode import Encoded, encode
from node.dicom.transfer_syntax import to_bytes
from node.identity import is_ours

from .defects import spoil

NO_REPORT = ReportSettings(sop_class="none")


def encoded(study: Any, on: bool = True, report: ReportSettings = NO_REPORT, **output: Any) -> Encoded:
    settings = OutputSettings(parametric_map=on, **output)
    return encode(study.result, [*study.target, *study.reference], settings, report, 9005)


@pytest.mark.parametrize("kind", ["mr", "sc", "legacy_enhanced"])
@pytest.mark.parametrize("syntax", ["explicit", "jpeg_ls"])
def test_conformant_on_the_grid_of_the_images_and_in_their_unit(
    kind: str, syntax: str, study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    made = encoded(study, sop_class=kind, transfer_syntax=syntax)
    (document,) = made.documents
    path = tmp_path / "map.dcm"
    path.write_bytes(to_bytes(document))
    assert conformance_errors(path) == []
    ds = pydicom.dcmread(path)
    assert (ds.SOPClassUID, ds.SeriesNumber, ds.ContentQualification) == (ParametricMapStorage, 49005, "RESEARCH")
    assert "research use only" in ds.ImageComments and "research" in ds.ContentDescription
    assert (ds.PatientID, ds.StudyInstanceUID) == (made.images[0].PatientID, made.images[0].StudyInstanceUID)
    assert is_ours(ds)
    images = {image.SOPInstanceUID for image in made.images}
    named = [frame.DerivationImageSequence[0].SourceImageSequence[0] for frame in ds.PerFrameFunctionalGroupsSequence]
    assert {item.ReferencedSOPInstanceUID for item in named} == images
    (mapping,) = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "[arb'U]"

    read = highdicom.imread(path)
    slope = float(mapping.RealWorldValueSlope)
    for number, frame in enumerate(ds.PerFrameFunctionalGroupsSequence, start=1):
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        index = int(np.abs(study.result.positions - place).sum(axis=1).argmin())
        values = read.get_frame(number, apply_real_world_transform=True)
        assert np.abs(values - study.result.expected_error[index]).max() <= slope / 2 + 1e-6


def test_defective_sources_give_a_conformant_map_but_for_identification(
    study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    for header in study.target:
        spoil(header)
    (document,) = encoded(study).documents
    path = tmp_path / "map.dcm"
    path.write_bytes(to_bytes(document))
    left = [e for e in conformance_errors(path) if "PatientSex" not in e and "StudyDescription" not in e]
    assert left == []


def test_off_by_default_and_without_a_trust_map_sent_before_the_report(study: Any) -> None:
    assert OutputSettings().parametric_map is False
    assert encoded(study, on=False).documents == []
    assert encoded(study.with_result(expected_error=None)).documents == []
    made = encoded(study, report=ReportSettings())
    assert [i.Modality for i in made.instances] == ["MR", "MR", "MR", "OT", "SR"]
    assert len({i.SeriesInstanceUID for i in made.instances}) == 3


def test_the_same_bytes_on_another_day(study: Any) -> None:
    first = list(encoded(study).files())
    with mock.patch("highdicom.base.datetime") as clock:
        clock.datetime.now.return_value = datetime.datetime(2031, 5, 6, 7, 8, 9)
        clock.date, clock.time = datetime.date, datetime.time
        assert list(encoded(study).files()) == first
