"""The derived series as Secondary Capture Image Storage (PS3.3 A.8.1): one instance per super-resolved slice.

For a PACS that accepts nothing else. Attributes that place a slice in the patient are kept, as a standard extended SOP
class (PS3.4 B.4.1), so that viewers that read them can overlay it on its sources. Attributes that describe the acquisition
of an MR image are not kept.
"""

import numpy as np
from highdicom import CoordinateSystemNames
from highdicom.sc import SCImage
from pydicom.dataset import Dataset

from node.derived.copied_attributes import CONTRAST, MR
from node.derived.mr import mr_images
from node.derived.series import DerivedSeries
from node.identity import MANUFACTURER

_DIRECTIONS = (("L", "R"), ("P", "A"), ("H", "F"))


def secondary_captures(series: DerivedSeries) -> list[Dataset]:
    """One instance per slice, in the order of the result."""
    return [_secondary_capture(image) for image in mr_images(series)]


def _secondary_capture(image: Dataset) -> Dataset:
    cosines = np.array(image.ImageOrientationPatient, dtype=float)
    capture = SCImage(
        pixel_array=image.pixel_array,
        photometric_interpretation=image.PhotometricInterpretation,
        bits_allocated=image.BitsAllocated,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=(_direction(cosines[:3]), _direction(cosines[3:])),
        study_instance_uid=image.StudyInstanceUID,
        series_instance_uid=image.SeriesInstanceUID,
        series_number=image.SeriesNumber,
        sop_instance_uid=image.SOPInstanceUID,
        instance_number=image.InstanceNumber,
        manufacturer=MANUFACTURER,
    )
    # The time of encoding would give different bytes for the same content.
    for stamp in ("InstanceCreationDate", "InstanceCreationTime", "DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
        del capture[stamp]
    for element in image:
        if element.keyword not in (*MR, *CONTRAST, "SOPClassUID"):
            capture.add(element)
    return capture


def _direction(cosines: np.ndarray) -> str:
    """The side of the patient to which an axis mainly points (PatientOrientation, PS3.3 C.7.6.1.1.1)."""
    axis = int(np.argmax(np.abs(cosines)))
    return _DIRECTIONS[axis][int(cosines[axis] < 0)]
