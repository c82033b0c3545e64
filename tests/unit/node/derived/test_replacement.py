"""A result that replaces one which was delivered: it says so wherever people look, and may reject the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from node.config.settings import OutputSettings, ReportSettings
from node.derived.encode import Encoded, encode
from node.derived.identifiers import REJECTION, series_number
from node.dicom.transfer_syntax import to_bytes

from .test_identifiers import OFFSET, header, pair


def encoded(study: Any, replaced: list[Dataset], note: Any = "none", kind: Any = "mr", number: int = 10005) -> Encoded:
    output = OutputSettings(sop_class=kind, rejection_note=note)
    headers = [*study.target, *study.reference]
    return encode(study.result, headers, output, ReportSettings(), number, replaced=replaced)


def test_a_replacement_says_which_series_it_replaces(study: Any) -> None:
    first = encoded(study, [], number=9005)
    second = encoded(study, first.images)
    for image in second.images:
        assert image.SeriesDescription.endswith(" (replaces 9005)")
        assert len(image.SeriesDescription) <= 64
        assert image.SeriesInstanceUID != first.images[0].SeriesInstanceUID
    (report,) = second.documents
    assert report.SeriesDescription.endswith(" (replaces 9005)")
    sentence = f"This series replaces derived series 9005 ({first.images[0].SeriesInstanceUID})"
    assert any(sentence in e.value for e in report.iterall() if e.keyword == "TextValue")
    assert sentence in second.page
    assert "replaces" not in first.page + str(first.documents[0]) + first.images[0].SeriesDescription


def test_a_long_description_leaves_room_for_it(study: Any) -> None:
    for one in study.target:
        one.SeriesDescription = "t2 " * 30
    description = encoded(study, encoded(study, [], number=9005).images).images[0].SeriesDescription
    assert len(description) <= 64
    assert description.startswith("AI SR x4: t2")
    assert description.endswith(" (replaces 9005)")


@pytest.mark.parametrize("kind", ["mr", "sc", "legacy_enhanced"])
@pytest.mark.parametrize("why, code", [("quality", "113001"), ("patient_safety", "113037")])
def test_a_rejection_note_names_every_image_that_is_replaced(
    why: str, code: str, kind: str, study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:  # fmt: skip
    first = encoded(study, [], why, kind, number=9005)
    assert KeyObjectSelectionDocumentStorage not in {d.SOPClassUID for d in first.documents}, "nothing is replaced"
    *_, note = encoded(study, first.images, why, kind).instances
    path = tmp_path / "note.dcm"
    path.write_bytes(to_bytes(note))
    assert conformance_errors(path) == []
    note = pydicom.dcmread(path)
    assert (note.SOPClassUID, note.Modality, note.SeriesNumber) == (
        KeyObjectSelectionDocumentStorage, "KO", 10005 + REJECTION,
    )  # fmt: skip
    assert note.ConceptNameCodeSequence[0].CodeValue == code
    (study_item,) = note.CurrentRequestedProcedureEvidenceSequence
    (series_item,) = study_item.ReferencedSeriesSequence
    named = {item.ReferencedSOPInstanceUID for item in series_item.ReferencedSOPSequence}
    assert named == {image.SOPInstanceUID for image in first.images}
    assert series_item.SeriesInstanceUID == first.images[0].SeriesInstanceUID
    assert note.StudyInstanceUID == first.images[0].StudyInstanceUID
    assert note.PatientID == first.images[0].PatientID


def test_the_same_replacement_gives_the_same_bytes(study: Any) -> None:
    first = encoded(study, [], number=9005).images
    one, other = (encoded(study, first, "quality") for _ in range(2))
    assert list(one.files()) == list(other.files())


def test_a_replacement_has_a_number_of_its_own_and_keeps_it() -> None:
    first = pair("1.5", "a")
    second = pair("1.5", "a", "b").model_copy(update={"replaces": "infer:1"})
    third = pair("1.5", "a", "b", "c").model_copy(update={"replaces": "infer:2"})
    made = [first, second, third]
    numbers = [series_number(each, made, [header("1.5", 5)], OFFSET) for each in made]
    assert numbers == [9005, 10005, 11005]
    assert series_number(second, made[:2], [header("1.5", 5)], OFFSET) == 10005
