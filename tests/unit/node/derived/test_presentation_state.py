"""The mark over the images: conformant, over every image, never in the pixels, off unless asked for."""

import datetime
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pydicom
import pytest
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from node.config.settings import OutputSettings, ReportSettings
from node.derived.encode import Encoded, encode
from node.dicom.transfer_syntax import to_bytes
from tests.conftest import require

from .defects import spoil

NO_REPORT = ReportSettings(sop_class="none")


def encoded(study: Any, kind: Any = "mr", on: bool = True, report: ReportSettings = NO_REPORT) -> Encoded:
    output = OutputSettings(sop_class=kind, presentation_state=on)
    return encode(study.result, [*study.target, *study.reference], output, report, 9005)


@pytest.mark.parametrize("body_part", ["BRAIN", None])
@pytest.mark.parametrize("kind", ["mr", "sc", "legacy_enhanced"])
def test_conformant_over_every_image_and_not_in_the_pixels(
    kind: str, body_part: str | None, study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    for header in study.target:
        header.BodyPartExamined = body_part
    made = encoded(study, kind)
    (state,) = made.documents
    path = tmp_path / "state.dcm"
    path.write_bytes(to_bytes(state))
    assert conformance_errors(path) == []
    state = pydicom.dcmread(path)
    assert (state.SOPClassUID, state.Modality) == (GrayscaleSoftcopyPresentationStateStorage, "PR")
    assert (state.SeriesNumber, state.ContentQualification) == (29005, "RESEARCH")
    (annotation,) = state.GraphicAnnotationSequence
    assert annotation.TextObjectSequence[0].UnformattedTextValue == "AI-DERIVED, RESEARCH"
    assert annotation.GraphicLayer == state.GraphicLayerSequence[0].GraphicLayer
    marked = [item.ReferencedSOPInstanceUID for item in annotation.ReferencedImageSequence]
    assert marked == [image.SOPInstanceUID for image in made.images]
    assert list(state.DisplayedAreaSelectionSequence[0].PresentationPixelSpacing) == [0.625, 0.5]
    for image, pixels in zip(encoded(study, kind, on=False).images, made.images, strict=True):
        assert np.array_equal(image.pixel_array, pixels.pixel_array)


def test_off_by_default_and_sent_between_images_and_report(study: Any) -> None:
    assert OutputSettings().presentation_state is False
    assert encoded(study, on=False).documents == []
    made = encoded(study, report=ReportSettings())
    assert [i.Modality for i in made.instances] == ["MR", "MR", "MR", "PR", "SR"]
    assert len({i.SeriesInstanceUID for i in made.instances}) == 3


def test_of_a_defective_source(study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]) -> None:
    for header in study.target:
        spoil(header)
    (state,) = encoded(study).documents
    assert state.PatientSex == "0000"
    (tmp_path / "state.dcm").write_bytes(to_bytes(state))
    left = [e for e in conformance_errors(tmp_path / "state.dcm") if "Sex" not in e and "StudyDescription" not in e]
    assert left == []


def test_the_same_bytes_on_another_day(study: Any) -> None:
    (first,) = encoded(study).documents
    with mock.patch("highdicom.base.datetime") as base, mock.patch("highdicom.pr.content.datetime") as content:
        for clock in (base, content):
            clock.datetime.now.return_value = datetime.datetime(2031, 5, 6, 7, 8, 9)
            clock.date, clock.time = datetime.date, datetime.time
        (second,) = encoded(study).documents
    assert to_bytes(first) == to_bytes(second)


def test_dcmtk_applies_it(study: Any, tmp_path: Path) -> None:
    made = encoded(study)
    image, state, rendered = (tmp_path / name for name in ("image.dcm", "state.dcm", "rendered.pgm"))
    image.write_bytes(to_bytes(made.images[0]))
    state.write_bytes(to_bytes(made.documents[0]))
    subprocess.run([require("dcmp2pgm"), "-p", state, image, rendered], check=True, capture_output=True)
    header, _, content = rendered.read_bytes().partition(b"255\n")
    assert header == b"P5\n80 96 "
    shown = np.frombuffer(content, np.uint8).reshape(96, 80).astype(float)
    window = np.clip((made.images[0].pixel_array - 599.5) / 1199 + 0.5, 0, 1) * 255
    assert np.abs(shown - window).max() <= 1, "the source's window, and nothing over the pixels"
