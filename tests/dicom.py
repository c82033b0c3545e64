"""Synthetic MR series for tests: an affine intensity field on an oblique stack, written as a scanner would."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from node.config.match import StackLimits
from node.dicom.read import InstanceFile
from node.infer.volume import Volume, read_volume

T1 = {
    "RepetitionTime": "500",
    "EchoTime": "10",
    "ScanningSequence": "SE",
    "SequenceVariant": "NONE",
    "SeriesDescription": "t1",
}
T2 = {
    "RepetitionTime": "4000",
    "EchoTime": "100",
    "ScanningSequence": "SE",
    "SequenceVariant": "SK",
    "SeriesDescription": "t2",
}


def mr_series(
    slices: int = 4,
    rows: int = 24,
    columns: int = 32,
    spacing: float = 4.0,
    gap: float = 4.0,
    study_uid: str | None = None,
    series_uid: str | None = None,
    frame_uid: str | None = None,
    series_number: int = 1,
    seed: int = 0,
    **attributes: Any,
) -> list[Dataset]:
    """Instances of one series; `attributes` are set on each of them, over the defaults."""
    rng = np.random.default_rng(seed)
    study, series, frame = (uid or str(generate_uid()) for uid in (study_uid, series_uid, frame_uid))
    grid_r, grid_c = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    head = np.clip(1 - (grid_r**2 + grid_c**2), 0, None)
    instances = []
    for n in range(slices):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
        values = {
            "SpecificCharacterSet": "ISO_IR 100", "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
            "SOPClassUID": MRImageStorage, "SOPInstanceUID": generate_uid(), "StudyInstanceUID": study, "SeriesInstanceUID": series,
            "FrameOfReferenceUID": frame, "PositionReferenceIndicator": "", "StudyDate": "20260101", "StudyTime": "101500",
            "SeriesDate": "20260101", "SeriesTime": "101700", "AcquisitionDate": "20260101", "AcquisitionTime": "101800",
            "ContentDate": "20260101", "ContentTime": f"1019{n % 60:02d}", "AccessionNumber": "A1", "Modality": "MR",
            "Manufacturer": "TEST", "ManufacturerModelName": "Synthetic 1.5T", "PatientName": "Phantom^One", "PatientID": "P1",
            "PatientBirthDate": "19700101", "PatientSex": "O", "PatientPosition": "HFS", "BodyPartExamined": "BRAIN",
            "MRAcquisitionType": "2D", "MagneticFieldStrength": "1.5", "EchoTrainLength": "1", "ScanOptions": "",
            "StudyID": "1", "SeriesNumber": series_number, "InstanceNumber": n + 1, "ReferringPhysicianName": "",
            "ImagePositionPatient": [-columns / 2 * spacing, -rows / 2 * spacing, n * gap],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [spacing, spacing], "SliceThickness": gap,
            "SpacingBetweenSlices": gap, "Rows": rows, "Columns": columns, "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
        } | attributes  # fmt: skip
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        ds.file_meta.MediaStorageSOPInstanceUID = UID(ds.SOPInstanceUID)
        texture = 900 * head * (1 + 0.3 * np.sin(9 * grid_c + n / 3) * np.cos(7 * grid_r)) + rng.normal(
            40, 5, (rows, columns)
        )
        ds.PixelData = np.clip(texture, 0, 4095).astype("<u2").tobytes()
        ds["PixelData"].VR = "OW"
        instances.append(ds)
    return instances


def study(
    slices: int = 4, rows: int = 24, columns: int = 32, **target_attributes: Any
) -> tuple[list[Dataset], list[Dataset]]:
    """(target T2 at 4 mm, reference T1 at 1 mm) of one study, covering the same field of view."""
    study_uid, frame_uid = str(generate_uid()), str(generate_uid())
    t2 = mr_series(
        slices,
        rows,
        columns,
        4.0,
        study_uid=study_uid,
        frame_uid=frame_uid,
        series_number=2,
        **(T2 | target_attributes),
    )
    # Pixel centres: the corner of the field of view is the same, so the first pixel's centre lies further out.
    t1 = mr_series(slices, 4 * rows, 4 * columns, 1.0, study_uid=study_uid, frame_uid=frame_uid, series_number=1, **T1)
    for coarse, fine in zip(t2, t1, strict=True):
        x, y, z = coarse.ImagePositionPatient
        fine.ImagePositionPatient = [float(x) - 1.5, float(y) - 1.5, float(z)]
    return t2, t1


# Where Enhanced MR keeps what classic MR has in its header: macro, then its attribute and the classic one.
_SHARED = {
    "MRImageFrameTypeSequence": {"FrameType": "ImageType"},
    "MRTimingAndRelatedParametersSequence": {"RepetitionTime": "RepetitionTime", "FlipAngle": "FlipAngle"},
    "MRFOVGeometrySequence": {"InPlanePhaseEncodingDirection": "InPlanePhaseEncodingDirection"},
}
_PER_FRAME = {
    "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing", "SliceThickness": "SliceThickness"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRModifierSequence": {"InversionTimes": "InversionTime"},
    "FrameContentSequence": {"TemporalPositionIndex": "TemporalPositionIdentifier", "StackID": "StackID"},
    "PixelValueTransformationSequence": {"RescaleSlope": "RescaleSlope", "RescaleIntercept": "RescaleIntercept"},
    "FrameVOILUTSequence": {"WindowCenter": "WindowCenter", "WindowWidth": "WindowWidth"},
    "MRDiffusionSequence": {"DiffusionBValue": "DiffusionBValue"},
}
_IN_GROUPS = {k for macros in (_SHARED, _PER_FRAME) for attributes in macros.values() for k in attributes.values()}


def enhanced(images: Sequence[Dataset]) -> Dataset:
    """Classic images of one series, with or without pixels, as one Enhanced MR instance with a frame for each."""
    first = images[0]
    ds = Dataset()
    for element in first:
        if element.keyword not in {
            *_IN_GROUPS,
            "PixelData",
            "ScanningSequence",
            "SequenceVariant",
            "AcquisitionMatrix",
        }:
            ds.add(element)
    ds.SOPClassUID, ds.NumberOfFrames = EnhancedMRImageStorage, len(images)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]
    sequence = first.get("ScanningSequence") or ""
    ds.EchoPulseSequence = "GRADIENT" if "GR" in sequence else "SPIN"
    ds.EchoPlanarPulseSequence = "YES" if "EP" in sequence else "NO"
    shared = _groups(first, _SHARED)
    matrix = [n for n in first.get("AcquisitionMatrix") or () if n]
    if matrix:
        geometry = shared.setdefault("MRFOVGeometrySequence", [Dataset()]).value[0]
        geometry.MRAcquisitionFrequencyEncodingSteps, geometry.MRAcquisitionPhaseEncodingStepsInPlane = matrix
        geometry.InPlanePhaseEncodingDirection = "ROW" if first.InPlanePhaseEncodingDirection == "ROW" else "COLUMN"
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [_groups(image, _PER_FRAME) for image in images]
    for group, image in zip(ds.PerFrameFunctionalGroupsSequence, images, strict=True):
        inverted = "IR" in (image.get("ScanningSequence") or "")
        group.setdefault("MRModifierSequence", [Dataset()]).value[0].InversionRecovery = "YES" if inverted else "NO"
    if hasattr(first, "file_meta"):
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = UID(ds.SOPInstanceUID)
    if "PixelData" in first:
        ds.PixelData = b"".join(image.PixelData for image in images)
        ds["PixelData"].VR = "OW"
    return ds


def _groups(image: Dataset, macros: dict[str, dict[str, str]]) -> Dataset:
    """The functional groups of a frame that its classic image has something for."""
    groups = Dataset()
    for macro, attributes in macros.items():
        item = Dataset()
        for keyword, classic in attributes.items():
            if classic in image and not image[classic].is_empty:
                value = image[classic].value
                setattr(item, keyword, float(value) if dictionary_VR(keyword) == "FD" else value)
        if item:
            setattr(groups, macro, [item])
    return groups


def in_files(paths: Sequence[Path]) -> list[InstanceFile]:
    """Files, each as an instance to be read."""
    return [InstanceFile(path) for path in paths]


def volume_of(paths: Sequence[Path], frames: Sequence[int] | None = None) -> Volume:
    """The stack in these files, read with the default limits."""
    return read_volume(in_files(paths), frames, StackLimits().max_matrix)


def write(instances: Sequence[Dataset], folder: Path) -> list[Path]:
    """Part 10 files, named by number."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for n, ds in enumerate(instances):
        path = folder / f"{n:03d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
