"""What is copied of a source: identification unchanged, the rest corrected."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from node.config.settings import OutputSettings, ReportSettings
from node.derived.encode import encode as node_encode
from node.dicom.read import parse
from node.dicom.text import of_bytes
from node.dicom.transfer_syntax import to_bytes

from .defects import spoil
from .made import encode, encoded, read_back, write


def test_identification_and_acquisition_are_copied_and_the_rest_drops_out(study: Any) -> None:
    for ds, source in zip(read_back(encode(study)), study.target, strict=True):
        for keyword in (
            "PatientName", "PatientID", "PatientSex", "StudyInstanceUID", "AccessionNumber", "FrameOfReferenceUID",
            "BodyPartExamined", "EchoTime", "RepetitionTime", "AcquisitionMatrix", "PixelBandwidth", "SliceThickness",
            "InstanceNumber", "ContentDate", "ContentTime", "InPlanePhaseEncodingDirection",
        ):  # fmt: skip
            assert ds[keyword].value == source[keyword].value, keyword
        for keyword in ("OperatorsName", "PerformedProcedureStepID", "InstanceCreationDate", "RescaleSlope"):
            assert keyword not in ds
        assert not any(element.tag.is_private for element in ds.iterall())


def test_defective_sources_are_mended_except_identification(
    study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    for header in study.target:
        spoil(header)
    made = encoded(study)
    derived, corrections = made.images, made.corrections
    for path, ds in zip(write(derived, tmp_path), read_back(derived), strict=True):
        assert ds.PatientSex == "0000"
        assert ds.StudyDescription == "S" * 65
        assert ds.SeriesDescription == ("AI SR x4: " + "D" * 65)[:64]
        assert ds.ProtocolName == "P" * 64
        assert ds.SequenceVariant == "NONE"
        scanner = ds.ContributingEquipmentSequence[0]
        assert (scanner.Manufacturer, scanner.InstitutionName, scanner.StationName) == (
            "SCANNER WORKS",
            "I" * 64,
            "N" * 16,
        )
        assert len(ds["SliceLocation"].value.original_string) <= 16
        for keyword in ("PixelAspectRatio", "Laterality", "AcquisitionMatrix", "AcquisitionTime"):
            assert keyword not in ds
        for keyword in (
            "ScanOptions",
            "EchoTrainLength",
            "StudyID",
            "ReferringPhysicianName",
            "PositionReferenceIndicator",
        ):
            assert ds[keyword].is_empty
        left = [
            line for line in conformance_errors(path) if "PatientSex" not in line and "StudyDescription" not in line
        ]
        assert left == []
    for keyword in (
        "ProtocolName",
        "Laterality",
        "AcquisitionMatrix",
        "AcquisitionTime",
        "SequenceVariant",
        "SliceLocation",
    ):
        assert [correction for correction in corrections if correction.startswith(keyword)], keyword


def test_unparsable_attributes_never_stop_a_delivery(study: Any) -> None:
    """Bytes that pydicom cannot even read, in an identification attribute and in another."""
    damaged = []
    for header in study.target:
        raw = to_bytes(header).replace(b"4000", b"4,00")
        damaged.append(pydicom.dcmread(BytesIO(raw)))
    study = replace(study, target=damaged)
    made = encoded(study)
    derived, corrections = made.images, made.corrections
    assert derived[0]["RepetitionTime"].is_empty
    assert any(correction.startswith("RepetitionTime") for correction in corrections)
    assert not any("4,00" in correction for correction in corrections)


def test_nothing_of_the_patient_is_in_the_corrections(study: Any) -> None:
    for header in study.target:
        header.ProtocolName = "Müller " * 20
    assert encoded(study).corrections == ["ProtocolName shortened to what the standard allows"]


def test_identification_is_copied_byte_for_byte_whatever_the_character_set_declares(study: Any) -> None:
    sent = read_back(study.target)
    for header in sent:  # UTF-8 is declared, the bytes are Latin-1
        header.SpecificCharacterSet = "ISO_IR 192"
        header.add(of_bytes(Tag("PatientName"), "PN", "Müller^Jörg".encode("latin-1")))
        header.add(of_bytes(Tag("StudyDescription"), "LO", "Schädel".encode("latin-1")))
        item = Dataset()
        item.add(of_bytes(Tag("PatientID"), "LO", "Ä1".encode("latin-1")))
        item.TypeOfPatientID = "TEXT"
        header.OtherPatientIDsSequence = [item]
    for syntax in ("explicit", "implicit", "jpeg_ls"):
        headers = [parse(BytesIO(to_bytes(header)), stop_before_pixels=True) for header in sent]
        for header in headers:
            assert "�" in str(header.PatientName), "decoded, as a stage before may have done"
        made = node_encode(
            study.result, [*headers, *study.reference], OutputSettings(transfer_syntax=syntax), ReportSettings(), 9005
        )
        for _, content in made.files():
            for text in ("Müller^Jörg", "Schädel", "Ä1"):
                assert text.encode("latin-1") in content
            assert "�".encode() not in content


def test_identifiers_of_linked_objects_keep_leading_zeros(study: Any) -> None:
    for header in study.target:
        header.FrameOfReferenceUID = "1.2.03.4"
    assert {ds.FrameOfReferenceUID for ds in read_back(encode(study))} == {"1.2.03.4"}


def test_text_of_several_values_never_shows_as_a_list(study: Any) -> None:
    for header in study.target:
        header.SeriesDescription = ["t2", "tse"]
    assert encode(study)[0].SeriesDescription == "AI SR x4: t2 tse"


def test_an_integer_written_with_a_fraction_is_that_integer(study: Any) -> None:
    for header in study.target:
        header.add(of_bytes(Tag("EchoTrainLength"), "IS", b"15.0"))
        header.AcquisitionMatrix = [0, 96, 64, 0]
    target = [parse(BytesIO(to_bytes(header)), stop_before_pixels=True) for header in study.target]
    made = encoded(replace(study, target=target))
    assert made.images[0].EchoTrainLength == 15
    assert list(made.images[0].AcquisitionMatrix) == [0, 96, 64, 0], "other values are copied as they were read"
    assert "EchoTrainLength written as the integer that it is" in made.corrections
