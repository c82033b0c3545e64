"""What people read: the queue, a job with its history, a study. Every view is a typed record; `to_json` is what --json
prints."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from sqlalchemy import func, select

from node.archive.facade import Archive
from node.errors import NotFoundError
from node.payloads import JobResult, PairRequest
from node.result import Acquired, Quality
from node.tracker import steps
from node.tracker.database import Database
from node.tracker.states import Kind, State
from node.tracker.tables import Audit, Delivery, Event, Instance, Job, Series
from node.verdicts import StudyVerdict

SCHEMA = 1


def iso(moment: datetime) -> str:
    """UTC, to the millisecond, as 2026-11-22T10:00:00.000Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


Moment = Annotated[datetime, PlainSerializer(iso, return_type=str, when_used="json")]


class View(BaseModel):
    model_config = ConfigDict(frozen=True)

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


class JobRow(View):
    """A job in a listing."""

    id: int
    kind: Kind
    state: State
    study_uid: str
    target_series_uid: str | None
    reference_series_uid: str | None
    attempts: int
    max_attempts: int
    next_attempt_at: Moment | None
    error: str | None
    created_at: Moment
    updated_at: Moment
    progress: tuple[int, int]
    """Done, and in all; in slices or instances."""
    destination: str | None
    """Of a delivery."""
    summary: str | None
    """The last error, else what came of the job in one sentence."""


class JobEvent(View):
    """A change of state: when, by whom, and why."""

    at: Moment
    actor: str
    from_state: State | None = Field(serialization_alias="from")
    to_state: State = Field(serialization_alias="to")
    why: str


class InstanceDelivery(View):
    """One derived instance of a delivery."""

    sop_uid: str
    accepted: bool
    committed: bool
    """Whether the destination has reported its storage commitment."""
    status: str | None
    """The peer's last answer, in hex and words; None when it was not sent yet."""


class JobDetail(JobRow):
    """A job with its history and, for a delivery, each instance."""

    key: str
    parent_id: int | None
    worker: str | None
    payload: dict[str, Any]
    result: dict[str, Any] | None
    events: tuple[JobEvent, ...]
    instances: tuple[InstanceDelivery, ...]


class StudyJob(JobRow):
    """A job in the history of its study."""

    why: str | None
    """The reason of its last change of state."""
    quality: Quality | None
    """What was measured of the result of an infer job."""
    acquired: Acquired | None
    """How its target was found to be acquired, and what of it was undone."""


class StudyHistory(View):
    """What was decided on a study, and what the service has done with it since."""

    verdict: StudyVerdict
    jobs: tuple[StudyJob, ...]
    """Oldest first."""
    conflicts: dict[str, int]
    """Series instance UID to how often one of its instances was refused because it came again with other pixels."""


class AuditRow(View):
    """What was done, by whom, to which study."""

    at: Moment
    node: str
    actor: str
    action: str
    study_uid: str | None
    details: dict[str, Any]


class Totals(View):
    """What was received."""

    studies: int
    series: int
    instances: int
    bytes: int


def job_row(job: Job) -> dict[str, Any]:
    """The fields of a JobRow."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "study_uid": job.study_uid,
        "target_series_uid": job.target_series_uid,
        "reference_series_uid": job.reference_series_uid,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "next_attempt_at": job.next_attempt_at,
        "error": job.error,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "progress": (job.progress, job.progress_total),
        "destination": job.destination,
        "summary": job.error or JobResult.model_validate(job.result or {}).sentence,
    }


def jobs(
    database: Database, state: State | None = None, kind: Kind | None = None, study_uid: str | None = None
) -> list[JobRow]:
    """The queue, oldest first."""
    query = select(Job).order_by(Job.id)
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    if study_uid is not None:
        query = query.where(Job.study_uid == study_uid)
    with database.read() as session:
        return [JobRow(**job_row(job)) for job in session.scalars(query)]


def job(database: Database, job_id: int) -> JobDetail:
    """One job with its events and, for a delivery, the status of every instance. NotFoundError when there is none."""
    with database.read() as session:
        found = session.get(Job, job_id)
        if found is None:
            raise NotFoundError(f"there is no job {job_id}; see: diffmsr-node queue list")
        events = session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.id)).all()
        deliveries = session.scalars(select(Delivery).where(Delivery.job_id == job_id).order_by(Delivery.sop_uid)).all()
        return JobDetail(
            **job_row(found),
            key=found.key,
            parent_id=found.parent_id,
            worker=found.worker,
            payload=found.payload,
            result=found.result,
            events=tuple(
                JobEvent(at=e.at, actor=e.actor, from_state=e.from_state, to_state=e.to_state, why=e.why)
                for e in events
            ),
            instances=tuple(
                InstanceDelivery(sop_uid=d.sop_uid, accepted=d.accepted, committed=d.committed, status=d.status)
                for d in deliveries
            ),
        )


def verdict(database: Database, study_uid: str) -> StudyVerdict:
    """The latest verdict of the matching on a study; NotFoundError when it is unknown, or was not matched yet."""
    query = select(Job).where(Job.kind == Kind.MATCH, Job.study_uid == study_uid)
    with database.read() as session:
        found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFoundError(f"no study {study_uid} was received, and there is no folder of that name")
    if not found.result:
        raise NotFoundError(f"study {study_uid} is {found.state}; it has not been matched yet, ask again in a moment")
    return StudyVerdict.model_validate(found.result)


def study_history(database: Database, archive: Archive, study_uid: str) -> StudyHistory:
    """The verdict on a study and its jobs, each with the reason of its last change and what was measured of its result.
    NotFoundError as `verdict`."""
    latest = verdict(database, study_uid)
    with database.read() as session:
        found = list(session.scalars(select(Job).where(Job.study_uid == study_uid).order_by(Job.id)))
        last = select(func.max(Event.id)).where(Event.job_id.in_([job.id for job in found])).group_by(Event.job_id)
        whys = {e.job_id: e.why for e in session.scalars(select(Event).where(Event.id.in_(last)))}
    measured = {job.id: archive.measured(job.key) for job in found if job.kind is Kind.INFER}
    return StudyHistory(
        verdict=latest,
        conflicts=conflicts_of_study(database, study_uid),
        jobs=tuple(
            StudyJob(
                **job_row(job),
                why=whys.get(job.id),
                quality=measured[job.id].quality if job.id in measured else None,
                acquired=measured[job.id].acquired if job.id in measured else None,
            )
            for job in found
        ),
    )


def conflicts_of_study(database: Database, study_uid: str) -> dict[str, int]:
    """Series instance UID to how often one of its instances was refused because it came again with other pixels."""
    rows = select(Series.series_uid, Series.conflicts).where(Series.study_uid == study_uid, Series.conflicts > 0)
    with database.read() as session:
        return {row.series_uid: row.conflicts for row in session.execute(rows.order_by(Series.series_uid))}


def conflicts(database: Database) -> int:
    """How often an instance was refused because it came again with other pixels under the same UID."""
    query = select(func.coalesce(func.sum(Series.conflicts), 0))
    with database.read() as session:
        return int(session.scalar(query) or 0)


def result_of(database: Database, job_id: int) -> tuple[str, PairRequest]:
    """The result of an infer, derive or deliver job, by its key in the archive, and what it was made for; NotFoundError when
    there is no such job, or it is one that has no result."""
    with database.read() as session:
        found = session.get(Job, job_id)
        if found is None:
            raise NotFoundError(f"there is no job {job_id}; see: diffmsr-node queue list")
        if found.kind not in (Kind.INFER, Kind.DERIVE, Kind.DELIVER):
            raise NotFoundError(f"job {job_id} is a {found.kind} job; infer, derive and deliver jobs have a report")
        return steps.result_of(found)


def audit_rows(database: Database, study_uid: str | None = None, limit: int = 100) -> list[AuditRow]:
    """The latest rows of the audit trail, oldest first."""
    query = select(Audit).order_by(Audit.id.desc()).limit(limit)
    if study_uid is not None:
        query = query.where(Audit.study_uid == study_uid)
    with database.read() as session:
        rows = [AuditRow.model_validate(row, from_attributes=True) for row in session.scalars(query)]
    return rows[::-1]


def job_counts(database: Database) -> dict[Kind, dict[State, int]]:
    """How many jobs there are, by kind and state."""
    table: dict[Kind, dict[State, int]] = {kind: {} for kind in Kind}
    with database.read() as session:
        for kind, state, count in session.execute(
            select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)
        ):
            table[kind][state] = count
    return table


def totals(database: Database) -> Totals:
    """Studies, series, instances and bytes received, without what was replaced or dropped."""
    with database.read() as session:
        studies, series = session.execute(
            select(func.count(Series.study_uid.distinct()), func.count()).where(Series.instances > 0)
        ).one()
        instances, size = session.execute(
            select(func.count(), func.coalesce(func.sum(Instance.size), 0)).where(Instance.replaced_at.is_(None))
        ).one()
    return Totals(studies=studies, series=series, instances=instances, bytes=int(size))


def requests(database: Database, study_uid: str) -> list[PairRequest]:
    """Every pair of a study that was ever requested to be super-resolved, oldest first."""
    query = select(Job.payload).where(Job.study_uid == study_uid, Job.kind == Kind.INFER).order_by(Job.id)
    with database.read() as session:
        return [PairRequest.model_validate(payload) for payload in session.scalars(query)]
