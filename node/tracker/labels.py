"""Labels: what a study and its series are called, kept for lists and search where `[node] index_patient` allows it.

They identify a patient, so they never reach a log, and one setting leaves every one of these columns empty.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.tracker.tables import Series, Study

if TYPE_CHECKING:
    from node.dicom.attributes import Header

STUDY_COLUMNS = ("patient_name", "patient_id", "accession_number", "study_date", "modality", "description")
SERIES_COLUMNS = ("modality", "number", "description")
"""What labels fill, and what is empty without them."""


@dataclass(frozen=True)
class StudyLabels:
    """What a header says about its study."""

    patient_name: str | None
    patient_id: str | None
    accession_number: str | None
    study_date: str | None
    description: str | None

    @classmethod
    def of(cls, header: "Header") -> "StudyLabels":
        from node.dicom.attributes import Attributes

        a = Attributes(header)
        return cls(
            patient_name=_fit(a.text("PatientName")),
            patient_id=_fit(a.text("PatientID"), 64),
            accession_number=_fit(a.text("AccessionNumber"), 64),
            study_date=_date(a.text("StudyDate")),
            description=_fit(a.text("StudyDescription")),
        )


@dataclass(frozen=True)
class SeriesLabels:
    """What a header says about its series."""

    modality: str | None
    number: int | None
    description: str | None

    @classmethod
    def of(cls, header: "Header") -> "SeriesLabels":
        from node.dicom.attributes import Attributes

        a = Attributes(header)
        return cls(_fit(a.text("Modality"), 16), a.integer("SeriesNumber"), _fit(a.text("SeriesDescription")))


def label_study(study: Study, header: "Header") -> None:
    """Fill the columns of a study."""
    labels = StudyLabels.of(header)
    study.patient_name, study.patient_id = labels.patient_name, labels.patient_id
    study.accession_number, study.study_date = labels.accession_number, labels.study_date
    study.description = labels.description
    study.labelled = True


def label_series(study: Study, series: Series, header: "Header") -> None:
    """Fill the columns of a series, and its modality into those of its study."""
    labels = SeriesLabels.of(header)
    series.modality, series.number, series.description = labels.modality, labels.number, labels.description
    if labels.modality:
        study.modality = "\\".join(sorted({*(study.modality or "").split("\\"), labels.modality} - {""}))[:64]


def clear_labels(study: Study) -> None:
    """Empty the columns of a study."""
    for column in STUDY_COLUMNS:
        setattr(study, column, None)
    study.labelled = False


def _fit(text: str | None, length: int | None = None) -> str | None:
    """The part of a text that a column can hold: a broken character set may have left characters that no database
    accepts."""
    return None if text is None else text[:length].encode("utf-8", "replace").decode()


def _date(text: str | None) -> str | None:
    return text if text is not None and re.fullmatch("[0-9]{8}", text) else None
