"""Headers of MR series as a scanner writes them, without pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import MRImageStorage

from node.match.stack_roles import ModelFacts

STUDY = "1.2.826.0.1.3680043.10.1"
FRAME = "1.2.826.0.1.3680043.10.2"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)

MODEL = ModelFacts("tiny", "1", 4, (("T2", "T1"), ("T2-FLAIR", "T1"), ("PD-FS", "PD")))

T1 = {"ScanningSequence": "SE", "RepetitionTime": 500, "EchoTime": 12}
T2 = {"ScanningSequence": "SE", "RepetitionTime": 4000, "EchoTime": 100}
FLAIR = {"ScanningSequence": ["SE", "IR"], "RepetitionTime": 9000, "EchoTime": 110, "InversionTime": 2500}
PD = {"ScanningSequence": "SE", "RepetitionTime": 3000, "EchoTime": 20}


def series(
    number: int,
    physics: dict[str, Any] = T2,
    *,
    slices: int = 5,
    matrix: tuple[int, int] = (64, 64),
    spacing: tuple[float, float] = (3.6, 3.6),
    step: float = 5.0,
    thickness: float = 4.0,
    orientation: Sequence[float] = AXIAL,
    centre: Sequence[float] = (0.0, 0.0, 0.0),
    first: int = 0,
    **attributes: Any,
) -> list[Dataset]:
    """The headers of one series whose middle lies at `centre`. `attributes` are set on each of them, over the rest;
    None deletes one. `first` numbers its first instance, to add to a series that is there already."""
    along_row, along_column = np.reshape(orientation, (2, 3))
    normal = np.cross(along_row, along_column)
    corner = np.asarray(centre) - along_row * spacing[1] * (matrix[1] - 1) / 2
    corner = corner - along_column * spacing[0] * (matrix[0] - 1) / 2
    uid = f"{STUDY}.{number}"
    headers = []
    for index in range(slices):
        position = corner + normal * step * (index - (slices - 1) / 2)
        values: dict[str, Any] = {
            "SOPClassUID": MRImageStorage,
            "SOPInstanceUID": f"{uid}.{first + index + 1}",
            "StudyInstanceUID": STUDY,
            "SeriesInstanceUID": uid,
            "FrameOfReferenceUID": FRAME,
            "PatientID": "4711",
            "PatientName": "Muster^Erika",
            "Modality": "MR",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
            "SeriesNumber": number,
            "InstanceNumber": first + index + 1,
            "SeriesDescription": "ax",
            "AcquisitionDate": "20260101",
            "AcquisitionTime": f"1{number % 10}0000",
            "Rows": matrix[0],
            "Columns": matrix[1],
            "PixelSpacing": list(spacing),
            "SliceThickness": thickness,
            "SpacingBetweenSlices": step,
            "ImageOrientationPatient": list(orientation),
            "ImagePositionPatient": position.tolist(),
            "AcquisitionMatrix": [0, matrix[1], matrix[0], 0],
            "InPlanePhaseEncodingDirection": "COL",
            "SamplesPerPixel": 1,
            "BitsAllocated": 16,
            "PhotometricInterpretation": "MONOCHROME2",
            **physics,
            **attributes,
        }
        header = Dataset()
        for keyword, value in values.items():
            if value is not None:
                setattr(header, keyword, value)
        headers.append(header)
    return headers


def t2(number: int = 3, **given: Any) -> list[Dataset]:
    return series(number, T2, **given)


def t1(number: int = 5, **given: Any) -> list[Dataset]:
    """A reference that fits `t2()`: the same field of view at the spacing of the output."""
    return series(number, T1, **{"matrix": (256, 256), "spacing": (0.9, 0.9), **given})
