"""A frame of an Enhanced instance reads as the classic image it was made of."""

import gzip
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from node.dicom.frames import frame_number, images_of
from tests.dicom import T2, enhanced, mr_series

FLATTENED = (
    "ImageType", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "ImagePositionPatient", "PixelSpacing",
    "ImageOrientationPatient", "SliceThickness", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth",
    "TemporalPositionIdentifier", "AcquisitionMatrix", "InPlanePhaseEncodingDirection", "DiffusionBValue",
    "PatientName", "SeriesDescription", "Rows", "BitsStored", "SOPInstanceUID", "SpecificCharacterSet",
)  # fmt: skip


def classic(slices: int = 3) -> list[Dataset]:
    images = mr_series(
        slices, **T2, FlipAngle=90, InversionTime=150, RescaleSlope=2.5, RescaleIntercept=1, WindowCenter=500,
        WindowWidth=900, TemporalPositionIdentifier=2, AcquisitionMatrix=[0, 32, 24, 0], DiffusionBValue=0.0,
        InPlanePhaseEncodingDirection="COL", PatientName="Müller^Jürgen",
    )  # fmt: skip
    for n, image in enumerate(images):
        image.SOPInstanceUID = images[0].SOPInstanceUID
        image.RescaleSlope, image.EchoTime = 2.5 + n, 100 + n
    return images


def read_back(ds: Dataset) -> Dataset:
    """As it comes from a file: elements not yet converted."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()), stop_before_pixels=True)


def test_a_frame_reads_as_the_classic_image() -> None:
    images = classic()
    frames = list(images_of(read_back(enhanced(images))))
    assert [frame_number(frame) for frame in frames] == [1, 2, 3]
    for frame, image in zip(frames, images, strict=True):
        for keyword in FLATTENED:
            assert frame[keyword].value == image[keyword].value, keyword
            assert frame[keyword].VR == image[keyword].VR, keyword
        assert frame.ScanningSequence == "SE"
        assert "NumberOfFrames" not in frame


def test_a_single_frame_instance_is_its_own_view() -> None:
    (image,) = mr_series(1)
    assert [(view is image, frame_number(view)) for view in images_of(image)] == [(True, None)]


def test_words_of_enhanced_are_those_of_classic() -> None:
    ds = enhanced(classic(1))
    ds.EchoPulseSequence, ds.Spoiling, ds.SteadyStatePulseSequence = "BOTH", "RF", "LONGITUDINAL"
    ds.EchoPlanarPulseSequence, ds.SegmentedKSpaceTraversal, ds.TimeOfFlightContrast = "YES", "PARTIAL", "YES"
    modifier = ds.PerFrameFunctionalGroupsSequence[0].MRModifierSequence[0]
    modifier.InversionRecovery, modifier.SpectrallySelectedSuppression = "YES", "FAT"
    (frame,) = images_of(ds)
    assert list(frame.ScanningSequence) == ["SE", "GR", "IR", "EP"]
    assert list(frame.SequenceVariant) == ["SK", "SS", "SP"]
    assert (frame.ScanOptions, frame.AngioFlag) == ("FS", "Y")


def test_the_moment_of_a_frame_wins_over_that_of_its_instance() -> None:
    ds = enhanced(classic(1))
    ds.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].FrameAcquisitionDateTime = "20260102112233.5+0100"
    (frame,) = images_of(ds)
    assert (frame.AcquisitionDate, frame.AcquisitionTime) == ("20260102", "112233.5")


@pytest.mark.parametrize(("direction", "known"), [("PHASE", False), ("SLICE_SELECT", True)])
def test_partial_fourier_hides_the_acquired_matrix(direction: str, known: bool) -> None:
    ds = enhanced(classic(1))
    modifier = ds.PerFrameFunctionalGroupsSequence[0].MRModifierSequence[0]
    modifier.PartialFourier, modifier.PartialFourierDirection = "YES", direction
    (frame,) = images_of(ds)
    assert ("AcquisitionMatrix" in frame) == known


@pytest.mark.parametrize(("given", "agent"), [("YES", "Gadolinium"), ("NO", None)])
def test_frames_before_the_injection_have_no_contrast_agent(given: str, agent: str | None) -> None:
    ds, code, usage = enhanced(classic(1)), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-B0300", "SRT", "Gadolinium"
    usage.ContrastBolusAgentAdministered = given
    ds.ContrastBolusAgentSequence = [code]
    ds.PerFrameFunctionalGroupsSequence[0].ContrastBolusUsageSequence = [usage]
    (frame,) = images_of(ds)
    assert frame.get("ContrastBolusAgent") == agent


def test_legacy_converted_frames_read_as_their_sources() -> None:
    images = mr_series(3, **T2)
    converted = LegacyConvertedEnhancedMRImage(
        images, series_instance_uid="1.2.3", series_number=7, sop_instance_uid="1.2.3.4", instance_number=1
    )
    frames = list(images_of(read_back(converted)))
    assert {(f.SOPInstanceUID, f.SeriesNumber) for f in frames} == {("1.2.3.4", 7)}
    by_place = {float(image.ImagePositionPatient[2]): image for image in images}
    for frame in frames:
        image = by_place[float(frame.ImagePositionPatient[2])]
        for keyword in (
            "EchoTime",
            "RepetitionTime",
            "ScanningSequence",
            "PixelSpacing",
            "SliceThickness",
        ):
            assert frame[keyword].value == image[keyword].value, keyword


def test_a_scanners_own_enhanced_file() -> None:
    path = Path(nibabel.__file__).parent / "nicom/tests/data/philips_mprage.dcm.gz"
    with gzip.open(path) as file:
        header = dcmread(file, stop_before_pixels=True)  # type: ignore[arg-type]
    frames = list(images_of(header))
    assert len(frames) == 176
    assert {float(f.EchoTime) for f in frames} == {3.513}
    assert list(frames[5].AcquisitionMatrix) == [256, 0, 0, 256]
    step = np.subtract(frames[1].ImagePositionPatient, frames[0].ImagePositionPatient)
    assert np.isclose(np.linalg.norm(step), 1, atol=1e-3)


@pytest.mark.parametrize(
    "spoiled", ["PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "SOPClassUID"]
)
@pytest.mark.parametrize("value", [b"", b"\xff\xfe\x00\xe0", b"no sequence"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_groups_never_raise(spoiled: str, value: bytes) -> None:
    ds = enhanced(classic(2))
    tag = Tag(spoiled)
    ds[tag] = RawDataElement(tag, "SQ", len(value), value, 0, False, True)
    assert list(images_of(ds))
