"""Lists of jobs and studies, page by page: filtered, searched and counted by the database, never in Python."""

import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, and_, false, func, or_, select
from sqlalchemy.orm import Session

from node.errors import NotFoundError
from node.tracker.database import Database
from node.tracker.states import Kind, State
from node.tracker.studies import StudyState
from node.tracker.tables import Event, Job, Series, Study
from node.tracker.views import JobRow, Moment, View, job_row

PAGE = 50
LARGEST_PAGE = 500

Row = TypeVar("Row")


class Page(BaseModel, Generic[Row]):
    """Part of a list."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[Row, ...]
    total: int
    """How many match, on all pages."""
    number: int
    """From 1."""
    pages: int


class StudyRow(View):
    """A study in a list. What identifies the patient is None for those who may not see it, and where it is not kept."""

    study_uid: str
    state: str
    first_received_at: Moment
    last_received_at: Moment
    series: int
    instances: int
    size: int
    purged_at: Moment | None
    patient_name: str | None
    patient_id: str | None
    accession_number: str | None
    study_date: str | None
    modality: str | None
    description: str | None
    reason: str | None
    """Why it waits, was refused or failed."""


class SeriesRow(View):
    """A series of a study."""

    series_uid: str
    number: int | None
    description: str | None
    modality: str | None
    instances: int
    expected: int | None


class ListedJob(JobRow):
    """A job in a list, with its patient."""

    patient_name: str | None
    patient_id: str | None
    why: str | None
    """The reason of its last change of state."""


class JobFilter(BaseModel):
    """Which jobs; empty fields do not filter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind | None = None
    state: State | None = None
    destination: str | None = None
    text: str = ""
    """Job number, patient ID, name, accession number, study date, description or the beginning of a UID."""
    since: date | None = None
    until: date | None = None
    """Changed on these days or between, in the zone of the node."""


class StudyFilter(BaseModel):
    """Which studies; empty fields do not filter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: StudyState | None = None
    text: str = ""
    since: date | None = None
    until: date | None = None
    """Last received on these days or between, in the zone of the node."""


def jobs(database: Database, wanted: JobFilter, *, phi: bool, page: int = 1, size: int = PAGE) -> Page[ListedJob]:
    """The jobs that match, newest first. Without `phi` patients are neither shown nor searched for."""
    matching = and_(True, *_job_conditions(wanted, phi))
    with database.read() as session:
        total = session.scalar(select(func.count()).select_from(Job).where(matching)) or 0
        number, offset, pages = position(total, page, size)
        query = (
            select(Job, Study.patient_name, Study.patient_id)
            .outerjoin(Study, Study.study_uid == Job.study_uid)
            .where(matching)
            .order_by(Job.id.desc())
            .limit(size)
            .offset(offset)
        )
        found = session.execute(query).all()
        whys = _last_reasons(session, [job.id for job, _, _ in found])
    rows = tuple(
        ListedJob(
            **job_row(job),
            patient_name=name if phi else None,
            patient_id=patient_id if phi else None,
            why=whys.get(job.id),
        )
        for job, name, patient_id in found
    )
    return Page[ListedJob](rows=rows, total=total, number=number, pages=pages)


def job_ids(database: Database, wanted: JobFilter, *, phi: bool) -> list[int]:
    """The ids of all jobs that match, oldest first."""
    with database.read() as session:
        return list(session.scalars(select(Job.id).where(*_job_conditions(wanted, phi)).order_by(Job.id)))


def job_count(database: Database, wanted: JobFilter, *, phi: bool) -> int:
    """How many jobs match."""
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Job).where(*_job_conditions(wanted, phi))) or 0


def studies(database: Database, wanted: StudyFilter, *, phi: bool, page: int = 1, size: int = PAGE) -> Page[StudyRow]:
    """The studies that match, the one that was received last first. `phi` as for `jobs`."""
    matching = and_(True, *_study_conditions(wanted, phi))
    with database.read() as session:
        total = session.scalar(select(func.count()).select_from(Study).where(matching)) or 0
        number, offset, pages = position(total, page, size)
        query = (
            select(Study)
            .where(matching)
            .order_by(Study.last_received_at.desc(), Study.study_uid)
            .limit(size)
            .offset(offset)
        )
        found = list(session.scalars(query))
        reasons = _reasons(session, [study.study_uid for study in found])
    rows = tuple(study_row(study, reasons.get(study.study_uid), phi=phi) for study in found)
    return Page[StudyRow](rows=rows, total=total, number=number, pages=pages)


def find_study(database: Database, text: str) -> str:
    """The UID of the study that is meant: its UID, the beginning of it that no other study shares, or beginning…end as lists
    shorten it. NotFoundError says what it is instead."""
    beginning, _, end = text.partition("…")
    with database.read() as session:
        if session.get(Study, text) is not None:
            return text
        found = session.scalars(
            select(Study.study_uid)
            .where(
                Study.study_uid.startswith(beginning, autoescape=True), Study.study_uid.endswith(end, autoescape=True)
            )
            .order_by(Study.study_uid)
            .limit(3)
        ).all()
        holder = session.scalar(select(Series.study_uid).where(Series.series_uid == text))
        total = session.scalar(select(func.count()).select_from(Study)) or 0
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFoundError(f"several studies begin with {text}; give more of the UID")
    if holder is not None:
        raise NotFoundError(f"{text} is a series of study {holder}")
    raise NotFoundError(
        f"no study {text} was received (received: {total}); to find one by patient, accession number, date or UID: "
        "diffmsr-node studies TEXT"
    )


def study(database: Database, study_uid: str, *, phi: bool) -> StudyRow:
    """One study. NotFoundError when it is unknown."""
    with database.read() as session:
        found = session.get(Study, study_uid)
        if found is None:
            raise NotFoundError("no study of that UID was received")
        reason = _reasons(session, [study_uid]).get(study_uid)
    return study_row(found, reason, phi=phi)


def series(database: Database, study_uid: str) -> list[SeriesRow]:
    """The series of a study, by number."""
    query = select(Series).where(Series.study_uid == study_uid).order_by(Series.number, Series.series_uid)
    with database.read() as session:
        return [
            SeriesRow(
                series_uid=row.series_uid, number=row.number, description=row.description, modality=row.modality,
                instances=row.instances, expected=row.expected,
            )
            for row in session.scalars(query)
        ]  # fmt: skip


def study_row(study: Study, reason: str | None, *, phi: bool) -> StudyRow:
    """A study as a list shows it."""
    return StudyRow(
        study_uid=study.study_uid, state=study.state, first_received_at=study.first_received_at,
        last_received_at=study.last_received_at, series=study.series, instances=study.instances, size=study.size,
        purged_at=study.purged_at, patient_name=study.patient_name if phi else None,
        patient_id=study.patient_id if phi else None, accession_number=study.accession_number if phi else None,
        study_date=study.study_date, modality=study.modality, description=study.description, reason=reason,
    )  # fmt: skip


def reasons(database: Database, study_uids: Sequence[str]) -> dict[str, str]:
    """Why studies wait, were refused or failed: the last error of their match, else of a later job."""
    with database.read() as session:
        return _reasons(session, study_uids)


def _last_reasons(session: Session, job_ids: Sequence[int]) -> dict[int, str]:
    """Job to the reason of its last change of state."""
    last = select(func.max(Event.id)).where(Event.job_id.in_(job_ids)).group_by(Event.job_id)
    return {event.job_id: event.why for event in session.scalars(select(Event).where(Event.id.in_(last)))}


def _reasons(session: Session, study_uids: Sequence[str]) -> dict[str, str]:
    query = (
        select(Job.study_uid, Job.error)
        .where(Job.study_uid.in_(study_uids), Job.error.is_not(None), Job.state != State.CANCELLED)
        .order_by(Job.id)
    )
    return {row.study_uid: row.error for row in session.execute(query)}


def position(total: int, page: int, size: int) -> tuple[int, int, int]:
    """(page number, offset, number of pages); a page beyond the last is the last."""
    pages = max(1, -(-total // size))
    number = min(max(1, page), pages)
    return number, (number - 1) * size, pages


def _job_conditions(wanted: JobFilter, phi: bool) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.kind is not None:
        conditions.append(Job.kind == wanted.kind)
    if wanted.state is not None:
        conditions.append(Job.state == wanted.state)
    if wanted.destination:
        conditions.append(Job.destination == wanted.destination)
    conditions += days(Job.updated_at, wanted.since, wanted.until)
    for word in wanted.text.split():
        studies = select(Study.study_uid).where(_mentions(word, phi))
        found: list[ColumnElement[bool]] = [Job.study_uid.in_(studies)]
        if word.isdecimal() and len(word) < 16:
            found.append(Job.id == int(word))
        if _is_uid_prefix(word):
            found += [Job.target_series_uid.startswith(word), Job.reference_series_uid.startswith(word)]
        conditions.append(or_(*found))
    return conditions


def _study_conditions(wanted: StudyFilter, phi: bool) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.state is not None:
        conditions.append(Study.state == wanted.state)
    conditions += days(Study.last_received_at, wanted.since, wanted.until)
    return conditions + [_mentions(word, phi) for word in wanted.text.split()]


def _mentions(word: str, phi: bool) -> ColumnElement[bool]:
    """Whether a study matches one word of a search. People who may not see a name cannot find it by search either."""
    found: list[ColumnElement[bool]] = [Study.description.icontains(word, autoescape=True)]
    if _is_uid_prefix(word):
        found.append(Study.study_uid.startswith(word))
    if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", word):
        found.append(Study.study_date == word.replace("-", ""))
    if phi:
        found += [
            Study.patient_name.icontains(word, autoescape=True),
            Study.patient_id.istartswith(word, autoescape=True),
            Study.accession_number.istartswith(word, autoescape=True),
        ]
    return or_(false(), *found)


def _is_uid_prefix(word: str) -> bool:
    return re.fullmatch(r"[0-9][0-9.]*", word) is not None and "." in word


def days(column: Any, since: date | None, until: date | None) -> list[ColumnElement[bool]]:
    conditions = []
    if since is not None:
        conditions.append(column >= _midnight(since))
    if until is not None:
        conditions.append(column < _midnight(until + timedelta(days=1)))
    return conditions


def _midnight(day: date) -> datetime:
    """The beginning of a day in the zone of the node."""
    return datetime.combine(day, time()).astimezone()
