"""What a DICOM query asks for: studies by their attributes, and what is kept of one."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, select

from node.tracker.database import Database
from node.tracker.instances import current
from node.tracker.states import Kind, State
from node.tracker.tables import Instance, Job, Series, Study


@dataclass(frozen=True)
class StudyKeys:
    """Matching keys (PS3.4 C.2.2.2) that the tracker has columns for; what is empty does not filter."""

    study_uids: tuple[str, ...] = ()
    patient_name: str = ""
    """This and the next three may hold the wildcards * and ?."""
    patient_id: str = ""
    accession_number: str = ""
    description: str = ""
    first_date: str = ""
    last_date: str = ""
    """YYYYMMDD, both included."""
    modality: str = ""


def study_uids(database: Database, keys: StudyKeys) -> list[str]:
    """The studies that match and are kept, the one that was received last first."""
    query = select(Study.study_uid).where(Study.purged_at.is_(None), Study.instances > 0, _matching(keys))
    with database.read() as session:
        return list(session.scalars(query.order_by(Study.last_received_at.desc(), Study.study_uid)))


def instances(database: Database, study_uids: Sequence[str]) -> list[tuple[Instance, str | None]]:
    """The received instances of studies, in the order of their keys, each with the modality of its series where that is
    known."""
    of_series = and_(Series.study_uid == Instance.study_uid, Series.series_uid == Instance.series_uid)
    query = current().add_columns(Series.modality).outerjoin(Series, of_series)
    with database.read() as session:
        found = session.execute(query.where(Instance.study_uid.in_(study_uids)).order_by(Instance.key))
        return [(row, modality) for row, modality in found]


def results(database: Database, study_uids: Sequence[str]) -> list[str]:
    """The results of studies by their names in the archive, the latest last."""
    done = (Job.study_uid.in_(study_uids), Job.kind == Kind.INFER, Job.state == State.DONE)
    with database.read() as session:
        return list(session.scalars(select(Job.key).where(*done).order_by(Job.id)))


def _matching(keys: StudyKeys) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    if keys.study_uids:
        conditions.append(Study.study_uid.in_(keys.study_uids))
    for column, wanted in (
        (Study.patient_name, keys.patient_name),
        (Study.patient_id, keys.patient_id),
        (Study.accession_number, keys.accession_number),
        (Study.description, keys.description),
    ):
        if wanted:
            conditions.append(column.ilike(_pattern(wanted), escape="\\"))
    if keys.first_date:
        conditions.append(Study.study_date >= keys.first_date)
    if keys.last_date:
        conditions.append(Study.study_date <= keys.last_date)
    if keys.modality:
        conditions.append(("\\" + Study.modality + "\\").contains(f"\\{keys.modality}\\", autoescape=True))
    return and_(True, *conditions)


def _pattern(wanted: str) -> str:
    """The wildcards of DICOM as those of SQL."""
    escaped = wanted.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
