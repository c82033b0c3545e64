"""The derived series: written, read back, and compared with its sources attribute by attribute."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pydicom
import pytest
from pydicom.uid import MRImageStorage

from node.config.settings import OutputSettings
from node.derived.identifiers import derived_uid
from node.dicom.stored_values import intensity_factor
from node.dicom.transfer_syntax import to_bytes
from node.errors import NotFoundError
from tests.dicom import enhanced

from .made import encode, read_back, write


def test_pixels_come_back_as_they_were_made(study: Any) -> None:
    found = np.stack([ds.pixel_array for ds in read_back(encode(study))])
    assert found.dtype == np.uint16
    assert np.array_equal(found, np.rint(study.result.pixels))


def test_marks_that_no_reader_can_miss(study: Any) -> None:
    for ds in read_back(encode(study)):
        assert list(ds.ImageType) == ["DERIVED", "SECONDARY", "OTHER", "AI", "SUPERRES"]
        assert ds.SyntheticData == "YES"
        assert ds.ContentQualification == "RESEARCH"
        assert ds.SeriesDescription == "AI SR x4: t2_tse"
        assert ds.SeriesNumber == 9005
        assert [(c.CodeValue, c.CodingSchemeDesignator) for c in ds.DerivationCodeSequence] == [
            ("113085", "DCM"),
            ("123110", "DCM"),
        ]
        for word in ("4x", "tiny 1.0", "ab" * 32, "research use only", "x 1."):
            assert word in ds.DerivationDescription
        purposes = [e.PurposeOfReferenceCodeSequence[0].CodeValue for e in ds.ContributingEquipmentSequence]
        assert purposes == ["109101", "109102", "109102", "109102"]
        assert ds.ContributingEquipmentSequence[0].Manufacturer == "SCANNER WORKS"
        assert "ab" * 32 in ds.ContributingEquipmentSequence[2].SoftwareVersions
        assert ds.Manufacturer != "SCANNER WORKS"


def test_sources_are_named_with_their_purpose(study: Any) -> None:
    for ds, target, reference in zip(
        read_back(encode(study)), study.result.source_uids, study.result.reference_uids, strict=True
    ):
        items = [
            (i.ReferencedSOPInstanceUID, i.PurposeOfReferenceCodeSequence[0].CodeValue) for i in ds.SourceImageSequence
        ]
        assert items == [(target, "121322"), *((uid, "128250") for uid in reference)]
        assert {i.SpatialLocationsPreserved for i in ds.SourceImageSequence} == {"NO"}
        assert [s.SeriesInstanceUID for s in ds.ReferencedSeriesSequence] == ["1.2.826.1.1", "1.2.826.1.2"]


def test_series_attributes_are_the_same_in_every_instance(study: Any) -> None:
    study.target[1].PatientID, study.target[2].SeriesTime, study.target[2].ProtocolName = "OTHER", "235959", "other"
    instances = read_back(encode(study))
    for keyword in (
        "PatientID",
        "SeriesTime",
        "ProtocolName",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDescription",
    ):
        assert len({str(ds[keyword].value) for ds in instances}) == 1, keyword


def test_inversion_time_is_passed_on_for_inversion_recovery_only(study: Any) -> None:
    for header in study.target:
        header.InversionTime = "900"
    assert "InversionTime" not in encode(study)[0]
    for header in study.target:
        header.ScanningSequence = ["SE", "IR"]
    assert encode(study)[0].InversionTime == 900


def test_same_inputs_give_the_same_bytes_on_another_day(study: Any) -> None:
    first = [to_bytes(i) for i in encode(study)]
    with mock.patch("highdicom.base.datetime") as base, mock.patch("highdicom.base_content.datetime") as content:
        import datetime

        for clock in (base, content):
            clock.datetime.now.return_value = datetime.datetime(2031, 5, 6, 7, 8, 9)
            clock.date, clock.time = datetime.date, datetime.time
        second = [to_bytes(i) for i in encode(study)]
    assert first == second


def test_headers_may_come_in_any_order(study: Any) -> None:
    shuffled = replace(study, target=study.target[::-1], reference=study.reference[::-1])
    assert [to_bytes(i) for i in encode(study)] == [to_bytes(i) for i in encode(shuffled)]


@pytest.mark.parametrize(
    "other",
    [
        lambda s: (s.with_result(weights_sha256="cd" * 32), {}),
        lambda s: (s.with_result(parameters={"precision": "bfloat16"}), {}),
        lambda s: (s.with_result(reference_uids=[[s.reference[0].SOPInstanceUID]] * 3), {}),
        lambda s: (s, {"software_version": "0.2.0"}),
        lambda s: (s, {"settings": OutputSettings(synthetic_data=False)}),
    ],
    ids=["weights", "parameters", "reference", "version", "settings"],
)
def test_what_changes_the_content_changes_every_uid(
    study: Any, other: Callable[[Any], tuple[Any, dict[str, Any]]]
) -> None:
    changed, options = other(study)
    one, two = encode(study), encode(changed, **options)
    assert one[0].SeriesInstanceUID != two[0].SeriesInstanceUID
    assert not {i.SOPInstanceUID for i in one} & {i.SOPInstanceUID for i in two}


def test_uids_are_valid_and_distinct(study: Any) -> None:
    series = encode(study)
    uids = [series[0].SeriesInstanceUID, *(i.SOPInstanceUID for i in series)]
    assert len(set(uids)) == 4
    assert all(pydicom.uid.UID(uid).is_valid for uid in uids)
    assert derived_uid("a", "bc") != derived_uid("ab", "c")


def test_instance_numbers_are_counted_where_the_sources_repeat_them(study: Any) -> None:
    for header in study.target:
        header.InstanceNumber = 1
    assert [i.InstanceNumber for i in encode(study)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("peak", "factor"), [(1500, 1), (65535, 1), (65536, 0.5), (200_000, 0.25), (1000, 2), (0.9, 2048), (0, 1)]
)
def test_intensities_are_scaled_only_when_sixteen_bits_need_it(peak: float, factor: float) -> None:
    assert intensity_factor(np.array([0, peak], np.float32)) == factor
    assert peak == 0 or 1024 <= peak * factor <= 65535


def test_the_window_follows_the_intensity_factor(study: Any) -> None:
    pixels = study.result.pixels / study.result.pixels.max() * 600
    ds = read_back(encode(study.with_result(pixels=pixels)))[0]
    assert (ds.WindowCenter, ds.WindowWidth) == (1200, 2400)
    assert "x 2." in ds.DerivationDescription


@pytest.mark.parametrize("place", ["target", "reference", "syntax"])
def test_lossy_sources_stay_lossy(study: Any, place: str) -> None:
    if place == "syntax":
        study.target[1].file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000
    else:
        header = {"target": study.target, "reference": study.reference}[place][1]
        header.LossyImageCompression, header.LossyImageCompressionRatio = "01", "11"
        header.LossyImageCompressionMethod = "ISO_15444_1"
    first, second, _ = read_back(encode(study))
    assert second.LossyImageCompression == "01"
    assert first.LossyImageCompression == ("01" if place == "reference" else "00")
    if place != "syntax":
        assert (second.LossyImageCompressionRatio, second.LossyImageCompressionMethod) == (11, "ISO_15444_1")


@pytest.mark.parametrize(("said", "expected"), [(["YES", "NO"], "YES"), (["NO", "NO"], "NO"), ([None, "NO"], None)])
def test_burned_in_annotation_is_said_only_as_far_as_the_sources_say_it(
    study: Any, said: list[str | None], expected: str | None
) -> None:
    for headers, value in zip((study.target, study.reference), said, strict=True):
        for header in headers:
            if value:
                header.BurnedInAnnotation = value
    assert encode(study)[0].get("BurnedInAnnotation") == expected


def test_a_missing_header_is_named(study: Any) -> None:
    with pytest.raises(NotFoundError, match=r"1\.2\.826\.1\.1\.3"):
        encode(replace(study, target=study.target[:2]))


def test_an_enhanced_target_gives_a_conformant_series_of_its_frames(
    study: Any, tmp_path: Path, conformance_errors: Callable[[Path], list[str]]
) -> None:
    target, reference = enhanced(study.target), enhanced(study.reference)
    uid, other = target.SOPInstanceUID, reference.SOPInstanceUID
    study = study.with_result(
        source_uids=[uid] * 3, source_frames=[2, 1, 3],
        reference_uids=[[other] * 2] * 3, reference_frames=[[1, 2], [2, 3], [3, 4]],
    )  # fmt: skip
    study = replace(study, target=[target], reference=[reference])
    derived = encode(study)
    assert len({ds.SOPInstanceUID for ds in derived}) == 3
    for path, ds, frame, frames in zip(
        write(derived, tmp_path), read_back(derived), [2, 1, 3], [[1, 2], [2, 3], [3, 4]], strict=True
    ):
        assert conformance_errors(path) == []
        named = [(i.ReferencedSOPInstanceUID, i.ReferencedFrameNumber) for i in ds.SourceImageSequence]
        assert named == [(uid, frame), *((other, n) for n in frames)]
        assert [len(s.ReferencedInstanceSequence) for s in ds.ReferencedSeriesSequence] == [1, 1]
        assert (ds.SOPClassUID, ds.EchoTime, ds.RepetitionTime) == (MRImageStorage, 95, 4000)
    assert [ds.InstanceNumber for ds in derived] == [1, 2, 3]
    missing = study.with_result(source_frames=[2, 1, 9])
    with pytest.raises(NotFoundError, match="frame 9"):
        encode(replace(missing, target=[target], reference=[reference]))


@pytest.mark.parametrize(("center", "width"), [(0, 1), (32768, 65536), (127, 256), (-500, 100)])
def test_a_window_that_shows_nothing_is_replaced(study: Any, center: int, width: int) -> None:
    for header in study.target:
        header.WindowCenter, header.WindowWidth = center, width
    pixels = study.result.pixels / study.result.pixels.max() * 4000
    for ds in read_back(encode(study.with_result(pixels=pixels))):
        shown = np.clip((ds.pixel_array - ds.WindowCenter) / ds.WindowWidth + 0.5, 0, 1)
        assert np.mean((shown > 0.02) & (shown < 0.98)) > 0.3
