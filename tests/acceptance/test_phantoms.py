"""Real pairs of the ACR phantom, of GE and Siemens, with the T2 lowered fourfold: what `process` gains on a scanner's own
headers, classic and Enhanced. The files are not part of the repository (Apache licence; see `shared_data`)."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from diffmsr import kspace
from diffmsr.baselines import zero_filled
from diffmsr.metrics import psnr
from tests.acceptance.conftest import run_node
from tests.acceptance.test_geometry import shift_of
from tests.dicom import write

pytestmark = pytest.mark.acceptance

SCALE = 4
SLICES = slice(4, 7)
"""Of the eleven, from below: inside the phantom, where T1 and T2 show the same inserts."""


def depth(ds: Dataset) -> float:
    axes = np.reshape(np.array(ds.ImageOrientationPatient, dtype=float), (2, 3))
    return float(np.cross(*axes) @ np.array(ds.ImagePositionPatient, dtype=float))


def in_one_study(pair: str, folder: Path, t1: list[Dataset], t2: list[Dataset]) -> None:
    """Both series as if the phantom had not been moved between them: one study, frame of reference and place."""
    for ds in t1 + t2:
        ds.StudyInstanceUID, ds.FrameOfReferenceUID, ds.PatientID, ds.PatientName = (
            f"1.2.3.{len(pair)}",
            "1.2.4",
            "ACR",
            "ACR",
        )
        ds.pop("PatientBirthDate", None)
    write(t1, folder / pair / "t1")
    write(t2, folder / pair / "t2")


def low(pixels: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.clip(
        np.rint(kspace.crop_to(pixels, pixels.shape[-2] // SCALE, pixels.shape[-1] // SCALE)), 0, 65535
    ).astype("<u2")


def lower_classic(ds: Dataset) -> NDArray[np.float32]:
    """Lower an image fourfold; what it was."""
    truth = ds.pixel_array.astype(np.float32)
    pixels = low(truth)
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelSpacing = [float(v) * SCALE for v in ds.PixelSpacing]
    ds.AcquisitionMatrix = [int(n) // SCALE for n in ds.AcquisitionMatrix]
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue"):
        ds.pop(keyword, None)
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 0, 16, 15
    ds.PixelData = pixels.tobytes()
    return truth


def lower_enhanced(ds: Dataset) -> NDArray[np.float32]:
    truth = ds.pixel_array.astype(np.float32)
    pixels = low(truth)
    ds.Rows, ds.Columns = pixels.shape[1:]
    for groups in (ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence):
        for group in groups:
            for measures in group.get("PixelMeasuresSequence", []):
                measures.PixelSpacing = [float(v) * SCALE for v in measures.PixelSpacing]
            for geometry in group.get("MRFOVGeometrySequence", []):
                for keyword in ("MRAcquisitionFrequencyEncodingSteps", "MRAcquisitionPhaseEncodingStepsInPlane"):
                    if keyword in geometry:
                        geometry[keyword].value = int(geometry[keyword].value) // SCALE
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 0, 16, 15
    ds.PixelData = pixels.tobytes()
    return truth


def test_real_phantoms_of_two_vendors(shared_data: Path, tmp_path: Path) -> None:
    truths: dict[tuple[str, int], NDArray[np.float32]] = {}
    folders = sorted((shared_data / "vendor_dicom").glob("ACR_*_T2"))
    assert len(folders) >= 3
    for folder in folders:
        t2 = [dcmread(path) for path in folder.glob("*.dcm")]
        t1 = [dcmread(path) for path in folder.with_name(folder.name.replace("_T2", "_T1")).glob("*.dcm")]
        if "PerFrameFunctionalGroupsSequence" in t2[0]:
            for frame, truth in enumerate(lower_enhanced(t2[0]), 1):
                truths[str(t2[0].SOPInstanceUID), frame] = truth
        else:
            t2, t1 = sorted(t2, key=depth)[SLICES], sorted(t1, key=depth)[SLICES]
            for coarse, fine in zip(t2, t1, strict=True):
                fine.ImagePositionPatient, fine.ImageOrientationPatient = (
                    coarse.ImagePositionPatient,
                    coarse.ImageOrientationPatient,
                )
                truths[str(coarse.SOPInstanceUID), 1] = lower_classic(coarse)
        in_one_study(folder.name, tmp_path / "studies", t1, t2)
    done = run_node("process", str(tmp_path / "studies"), "-o", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    gains: dict[str, list[float]] = {}
    shifts = []
    for result in json.loads(done.stdout)["results"]:
        for path in Path(result["output"]).glob("*.dcm"):
            ds = dcmread(path)
            if "PixelData" not in ds:
                continue
            source = ds.SourceImageSequence[0]
            truth = truths[str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber", 1))]
            factor = float(ds.DerivationDescription.split("source intensity x ")[1].split(" ")[0].rstrip("."))
            found, filled = ds.pixel_array / factor, zero_filled(low(truth)[None].astype(np.float32), SCALE)[0]
            gains.setdefault(result["study_uid"], []).append(
                psnr(found.astype(np.float32), truth, truth.max()) - psnr(filled, truth, truth.max())
            )
            shifts.append(np.abs(shift_of(found, truth.astype(float))).max())
    assert len(gains) == len(folders)
    assert {study: float(np.mean(each)) for study, each in gains.items() if np.mean(each) < 6} == {}, gains
    assert max(shifts) < 0.1
