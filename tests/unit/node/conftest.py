"""A small oblique study, its result, and the tools that check and receive what is made of it."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from node.result import Result
from tests.conftest import require

TILT = 0.3
ORIENTATION = ((1.0, 0.0, 0.0), (0.0, float(np.cos(TILT)), float(np.sin(TILT))))
NORMAL = np.cross(*ORIENTATION)


@dataclass(frozen=True)
class Study:
    """Headers of target and reference, and a result of the target, four times as fine, on the grid of offset 0."""

    target: list[Dataset]
    reference: list[Dataset]
    result: Result

    def with_result(self, **changes: object) -> "Study":
        return replace(self, result=replace(self.result, **changes))  # type: ignore[arg-type]


def slice_header(
    series: str, i: int, rows: int, columns: int, spacing: tuple[float, float], description: str
) -> Dataset:
    """The header of an oblique slice as a scanner writes it, with more than may be passed on."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, f"1.2.826.1.{series}.{i + 1}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.826.1", f"1.2.826.1.{series}", "1.2.826.9"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Müller^Jörg", "PID 7", "19501231", "M"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20240102", "101112", "S1", "A-17"
    ds.ReferringPhysicianName, ds.StudyDescription = "House^G", "Brain"
    ds.SeriesDate, ds.SeriesTime, ds.ContentDate, ds.ContentTime = "20240102", "102000", "20240102", f"1020{i:02d}"
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "MR", "SCANNER WORKS", "Model 3"
    ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription, ds.ProtocolName = 5, i + 1, description, "t2"
    ds.BodyPartExamined, ds.PatientPosition, ds.PositionReferenceIndicator = "BRAIN", "HFS", ""
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", ["SK", "SP"], "", "2D"
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength, ds.MagneticFieldStrength = "4000", "95", "15", "3"
    ds.AcquisitionMatrix, ds.PixelBandwidth = [0, columns, rows, 0], "250"
    ds.ImagePositionPatient = [f"{v:.10g}" for v in np.array([-30.0, -40.0, 12.0]) + 5.0 * i * NORMAL]
    ds.ImageOrientationPatient = [f"{v:.10g}" for axis in ORIENTATION for v in axis]
    ds.PixelSpacing, ds.SliceThickness, ds.SpacingBetweenSlices = list(spacing), "4", "5"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.InPlanePhaseEncodingDirection, ds.FlipAngle = "COL", "150"
    ds.WindowCenter, ds.WindowWidth = "600", "1200"
    ds.OperatorsName, ds.PerformedProcedureStepID = "Nobody^N", "P1"
    ds.private_block(0x0029, "SCANNER WORKS", create=True).add_new(0x10, "LO", "private")
    return ds


@pytest.fixture
def study() -> Study:
    target = [slice_header("1", i, 24, 20, (2.5, 2.0), "t2_tse") for i in range(3)]
    reference = [slice_header("2", i, 80, 80, (0.8, 0.8), "t1_mprage") for i in range(4)]
    pixels = np.random.default_rng(3).random((3, 96, 80), dtype=np.float32) * 1500
    result = Result(
        pixels=pixels,
        expected_error=pixels[:, ::-1] / 50,
        positions=np.array([[float(v) for v in ds.ImagePositionPatient] for ds in target]),
        orientation=ORIENTATION,
        spacing=(2.5 / 4, 2.0 / 4),
        source_uids=[ds.SOPInstanceUID for ds in target],
        reference_uids=[[reference[i].SOPInstanceUID, reference[i + 1].SOPInstanceUID] for i in range(3)],
        model_name="tiny",
        model_version="1.0",
        weights_sha256="ab" * 32,
        scale=4,
        parameters={"precision": "float32", "grid_offset": "0"},
        warnings=[],
    )
    return Study(target, reference, result)


@pytest.fixture
def conformance_errors() -> Callable[[Path], list[str]]:
    """What dciodvfy calls an error in a file, less what it is wrong about."""
    tool = require("dciodvfy")

    def errors(path: Path) -> list[str]:
        # Its exit status says nothing reliable; its tables of 2022 do not know SyntheticData (0008,001C).
        run = subprocess.run([tool, "-new", str(path)], capture_output=True, text=True, errors="replace")
        lines = (run.stdout + run.stderr).splitlines()
        return [line for line in lines if line.startswith("Error") and "</(0008,001c)>" not in line]

    return errors
