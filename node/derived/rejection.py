"""A rejection note (IHE RAD TF-2, Imaging Object Change Management): a Key Object Selection Document (PS3.3 A.35.4) that tells
a PACS which instances are no longer valid, here those of a derived series that is replaced."""

from typing import Literal

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from node.derived.corrections import copy_identification, undate, unidentified
from node.derived.identifiers import REJECTION, derived_uid
from node.derived.series import DerivedSeries
from node.identity import MANUFACTURER, MODEL_NAME

TITLES = {
    "quality": CodedConcept("113001", "DCM", "Rejected for Quality Reasons"),
    "patient_safety": CodedConcept("113037", "DCM", "Rejected for Patient Safety Reasons"),
}
"""CID 7010 of PS3.16."""


def rejection_note(series: DerivedSeries, why: Literal["quality", "patient_safety"]) -> Dataset:
    """The note that rejects every image that `series` replaces, as a series of its own in their study."""
    rejected = [unidentified(image) for image in series.replaced]
    uid = derived_uid(series.uid, "rejection note", why)
    note: Dataset = KeyObjectSelectionDocument(
        evidence=rejected,
        content=KeyObjectSelection(TITLES[why], referenced_objects=rejected, description=series.replacement),
        series_instance_uid=uid,
        series_number=series.number + REJECTION,
        sop_instance_uid=derived_uid(uid, "document"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    note.ManufacturerModelName, note.SoftwareVersions = MODEL_NAME, series.software_version
    note.ContentDate, note.ContentTime = series.moment
    undate(note)
    copy_identification(note, series.header, [])
    note.SeriesDescription = series.titled("rejection note ")
    return note
