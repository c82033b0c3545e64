"""Make the study that `diffmsr-node demo` sends: a few slices of open_ms patient04 as DICOM, in node/demo/sample/.

    python tests/make_sample.py ../shared/data/open_ms/patient04

The T2 is truncated in k-space to a quarter in each in-plane direction, as a scanner acquiring a quarter of the matrix
would have it; the full-resolution T2 is kept apart as the withheld truth. Slices above the orbits only: no face. The
attributes a NIfTI file does not keep (echo times, say) are plausible values, as node/demo/sample/NOTICE says.
"""

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from diffmsr import kspace

SCALE = 4
SLICES = range(22, 30)  # of the T2, counted from below; at the level of the ventricles and above
ROOT = "2.25.311724117291872264"  # of this sample's UIDs
STUDY, FRAME = f"{ROOT}.1", f"{ROOT}.2"
LPS = np.array([-1.0, -1.0, 1.0])  # NIfTI counts to the right and to the front, DICOM to the left and to the back


class Stack:
    """A NIfTI volume as DICOM sees it: arrays (slice, row, column) with positions and direction cosines."""

    def __init__(self, path: Path) -> None:
        image = nibabel.load(path)
        self.pixels: NDArray[Any] = np.asarray(image.dataobj).transpose(2, 1, 0)
        steps = image.affine[:3, :3] * LPS[:, None]
        self.origin = image.affine[:3, 3] * LPS
        self.column_spacing, self.row_spacing, self.gap = np.linalg.norm(steps, axis=0)
        self.x, self.y, self.step = steps[:, 0] / self.column_spacing, steps[:, 1] / self.row_spacing, steps[:, 2]

    def position(self, index: int) -> NDArray[Any]:
        return self.origin + index * self.step


def instance(
    stack: Stack, index: int, pixels: NDArray[np.uint16], spacing: tuple[float, float], number: int, **more: Any
) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
    series = f"{ROOT}.{10 + int(more['SeriesNumber'])}"
    ds.file_meta.MediaStorageSOPInstanceUID = UID(f"{series}.{number}")
    values = {
        "SpecificCharacterSet": "ISO_IR 100", "ImageType": ["ORIGINAL", "PRIMARY", "M"], "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": f"{series}.{number}", "StudyInstanceUID": STUDY, "SeriesInstanceUID": series, "FrameOfReferenceUID": FRAME,
        "PositionReferenceIndicator": "", "StudyDate": "20160101", "StudyTime": "120000", "SeriesDate": "20160101",
        "SeriesTime": "120000", "AcquisitionDate": "20160101", "AcquisitionTime": "120000", "ContentDate": "20160101",
        "ContentTime": "120000", "AccessionNumber": "", "Modality": "MR", "Manufacturer": "", "ReferringPhysicianName": "",
        "StudyDescription": "open_ms patient04 (CC BY)", "PatientName": "OPEN_MS^PATIENT04", "PatientID": "OPEN_MS-04",
        "PatientBirthDate": "", "PatientSex": "O", "PatientPosition": "HFS", "BodyPartExamined": "BRAIN", "StudyID": "1",
        "PatientIdentityRemoved": "YES", "DeidentificationMethod": "published by its authors without identifying data",
        "MRAcquisitionType": "2D", "ScanningSequence": "SE", "SequenceVariant": "SK", "ScanOptions": "", "BurnedInAnnotation": "NO",
        "InstanceNumber": number, "ImagePositionPatient": [f"{v:.6f}" for v in stack.position(index)],
        "ImageOrientationPatient": [f"{v:.8f}" for v in (*stack.x, *stack.y)], "PixelSpacing": [f"{v:.8f}" for v in spacing],
        "SliceThickness": f"{stack.gap:.4f}", "SpacingBetweenSlices": f"{stack.gap:.4f}", "Rows": pixels.shape[0],
        "Columns": pixels.shape[1], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16,
        "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0, "PixelData": pixels.astype("<u2").tobytes(),
    } | more  # fmt: skip
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds["PixelData"].VR = "OW"
    return ds


def main(patient: Path, output: Path) -> None:
    t2, t1 = Stack(patient / "study1_T2W.nii.gz"), Stack(patient / "study1_T1W.nii.gz")
    for name in ("T1", "T2"):
        (output / name).mkdir(parents=True, exist_ok=True)
    truth = t2.pixels[SLICES.start : SLICES.stop].astype(np.float32)
    rows, columns = (n // SCALE for n in truth.shape[1:])
    low = kspace.crop_to(truth, rows, columns)
    spacing = (t2.row_spacing * SCALE, t2.column_spacing * SCALE)
    acquired = {"AcquisitionMatrix": [0, columns, rows, 0], "InPlanePhaseEncodingDirection": "COL"}
    for number, (index, pixels) in enumerate(zip(SLICES, low, strict=True), 1):
        ds = instance(
            t2, index, np.clip(np.round(pixels), 0, 65535).astype(np.uint16), spacing, number, SeriesNumber=2,
            SeriesDescription="T2W low resolution", RepetitionTime="4000", EchoTime="100", EchoTrainLength="15", **acquired,
        )  # fmt: skip
        ds.save_as(output / "T2" / f"{number:02d}.dcm", enforce_file_format=True)

    normal = np.cross(t2.x, t2.y)
    depths = [float(normal @ t1.position(i)) for i in range(len(t1.pixels))]
    lowest, highest = (float(normal @ t2.position(i)) for i in (SLICES[0], SLICES[-1]))
    margin = t1.gap * 1.01
    chosen = [i for i, depth in enumerate(depths) if lowest - margin <= depth <= highest + margin]
    for number, index in enumerate(chosen, 1):
        ds = instance(
            t1, index, t1.pixels[index].astype(np.uint16), (t1.row_spacing, t1.column_spacing), number, SeriesNumber=1,
            SeriesDescription="T1W", RepetitionTime="500", EchoTime="12", EchoTrainLength="1",
        )  # fmt: skip
        ds.save_as(output / "T1" / f"{number:02d}.dcm", enforce_file_format=True)
    np.savez_compressed(
        output / "truth.npz",
        pixels=truth.astype(np.uint16),
        source_uids=np.array([f"{ROOT}.12.{n + 1}" for n in range(len(truth))]),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parents[1] / "node" / "demo" / "sample")
