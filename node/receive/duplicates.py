"""How an instance that comes again under the same SOP instance UID differs from the one that is kept: not at all, when only
the transfer syntax differs; in attributes of patient and study, when a PACS has corrected those and sends its images again;
or in the image itself.

The peer chooses what is compared. A compressed stream of 30 kB may claim 20,000 x 20,000 pixels, and decoding one took 26 s
and 4.9 GB. So nothing is decoded that is larger than an image which this node accepts."""

from collections.abc import Iterable

import numpy as np
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.tag import BaseTag
from pydicom.uid import UID

from node.dicom.pixels import stored_frames

_PATIENT_AND_VISIT = frozenset({0x0010, 0x0012, 0x0032, 0x0038})
"""Groups of the patient, the clinical trial, the requested procedure and the visit."""

_PROVENANCE = frozenset({0x0400})
"""OriginalAttributesSequence (0400,0561), which holds the values before a correction, and digital signatures."""

_STUDY = frozenset({
    "SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence", "StudyID",
    "StudyDescription", "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName",
    "PhysiciansOfRecord", "PhysiciansOfRecordIdentificationSequence", "NameOfPhysiciansReadingStudy",
    "ProcedureCodeSequence", "ReferencedStudySequence", "ReferencedPatientSequence", "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence", "ReasonForPerformedProcedureCodeSequence", "RequestAttributesSequence",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "PerformingPhysicianName", "OperatorsName",
    "SeriesDescription", "ReferencedPerformedProcedureStepSequence", "PerformedProcedureStepID",
    "PerformedProcedureStepDescription", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
    "InstanceCoercionDateTime", "TimezoneOffsetFromUTC", "RetrieveAETitle", "InstanceAvailability",
})  # fmt: skip
"""Attributes of study, visit and procedure, and the texts that name a series."""


def differing(kept: Dataset, came: Dataset, max_matrix: int) -> list[BaseTag] | None:
    """The public attributes in which the two differ, in order. (Private ones come back as unknown bytes from implicit VR.)
    None when their pixels differ, or when that cannot be found out cheaply: rows or columns are above `max_matrix`, or all
    frames together above its square; or the pixels cannot be decoded."""
    try:
        ours, theirs = _attributes(kept), _attributes(came)
        found = [tag for tag in sorted(ours.keys() | theirs.keys()) if ours.get(tag) != theirs.get(tag)]
        return found if _same_pixels(kept, came, max_matrix) else None
    except Exception:  # what cannot be read cannot be shown to be the same
        return None


def is_correction(differences: Iterable[BaseTag]) -> bool:
    """Whether attributes of patient, visit and study are all that differs."""
    return all(
        tag.group in _PATIENT_AND_VISIT | _PROVENANCE or keyword_for_tag(tag) in _STUDY for tag in differences
    )  # fmt: skip


def names(tags: Iterable[BaseTag]) -> list[str]:
    """Their keywords, or the tags themselves where they have none."""
    return [keyword_for_tag(tag) or str(tag) for tag in tags]


def _attributes(data_set: Dataset) -> dict[BaseTag, str]:
    pixels = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}
    return {
        e.tag: str(e.value) for e in data_set if not e.tag.is_private and e.tag.element and e.keyword not in pixels
    }  # fmt: skip


def _same_pixels(kept: Dataset, came: Dataset, max_matrix: int) -> bool:
    if all(_is_native(one) for one in (kept, came)):
        return _same_native(kept, came)
    if _syntax(kept) == _syntax(came) and kept.PixelData == came.PixelData:
        return True
    if not all(_is_small(one, max_matrix) for one in (kept, came)):
        return False
    frames = zip(stored_frames(kept), stored_frames(came), strict=True)
    return all(np.array_equal(one, other) for one, other in frames)


def _is_native(data_set: Dataset) -> bool:
    return not _syntax(data_set).is_compressed


def _syntax(data_set: Dataset) -> UID:
    return UID(data_set.file_meta.TransferSyntaxUID)


def _same_native(ours: Dataset, theirs: Dataset) -> bool:
    """Uncompressed pixels, compared as bytes; of the one syntax that is big endian, swapped by the size of a sample."""
    one, other = (np.frombuffer(d.get("PixelData", b""), _sample_type(d)) for d in (ours, theirs))
    return np.array_equal(one, other)


def _sample_type(data_set: Dataset) -> np.dtype[np.generic]:
    order = "<" if _syntax(data_set).is_little_endian else ">"
    return np.dtype(f"{order}u{max(1, int(data_set.get('BitsAllocated', 8)) // 8)}")


def _is_small(data_set: Dataset, max_matrix: int) -> bool:
    rows, columns = int(data_set.Rows), int(data_set.Columns)
    frames, samples = int(data_set.get("NumberOfFrames") or 1), int(data_set.get("SamplesPerPixel", 1))
    return max(rows, columns) <= max_matrix and frames * samples * rows * columns <= max_matrix**2
