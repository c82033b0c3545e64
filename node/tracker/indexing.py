"""Whether studies can be searched for by patient: applies `[node] index_patient` to studies that were received before."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from node.archive.facade import Archive
from node.dicom.attributes import Header
from node.tracker.handle import Tracker
from node.tracker.instances import one_header_of_each_series
from node.tracker.labels import SERIES_COLUMNS, STUDY_COLUMNS, label_series, label_study
from node.tracker.tables import Series, Study


def remove_labels(tracker: Tracker) -> None:
    """Empty the columns of every study and series."""
    with tracker.write() as session:
        session.execute(update(Study).where(Study.labelled).values(labelled=False, **dict.fromkeys(STUDY_COLUMNS)))
        session.execute(update(Series).values(dict.fromkeys(SERIES_COLUMNS)))


def add_labels(tracker: Tracker, archive: Archive, limit: int = 100) -> int:
    """Label at most `limit` studies that were received when that was not allowed, or by a version without labels: one
    header of each series is read. Returns how many were looked at; 0 when there is none left."""
    with tracker.read() as session:
        waiting = select(Study.study_uid).where(~Study.labelled, Study.purged_at.is_(None)).limit(limit)
        study_uids = list(session.scalars(waiting))
    for study_uid in study_uids:
        headers = one_header_of_each_series(tracker, archive, study_uid)
        with tracker.write() as session:
            _label_all(session, study_uid, headers)
    return len(study_uids)


def _label_all(session: Session, study_uid: str, headers: dict[str, Header]) -> None:
    study = session.get(Study, study_uid, with_for_update=True)
    if study is None:
        return
    study.labelled = True
    for series_uid, header in headers.items():
        series = session.get(Series, (study_uid, series_uid))
        if study.patient_id is None:
            label_study(study, header)
        if series is not None:
            label_series(study, series, header)
