"""What people read: the queue, a job with its history, a study. Every view is plain data, ready for JSON."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from node.archive.facade import Archive
from node.errors import NotFoundError
from node.payloads import PairRequest
from node.tracker.database import Database
from node.tracker.states import Kind, State
from node.tracker.tables import Delivery, Event, Instance, Job, Series

SCHEMA = 1


def iso(moment: datetime | None) -> str | None:
    """UTC, to the millisecond, as 2026-11-22T10:00:00.000Z."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "study_uid": job.study_uid,
        "target_series_uid": job.target_series_uid,
        "reference_series_uid": job.reference_series_uid,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "next_attempt_at": iso(job.next_attempt_at),
        "error": job.error,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.updated_at),
    }


def jobs(
    database: Database, state: State | None = None, kind: Kind | None = None, study_uid: str | None = None
) -> list[dict[str, Any]]:
    """The queue, oldest first, with the fields `queue list --json` promises plus progress and destination."""
    query = select(Job).order_by(Job.id)
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    if study_uid is not None:
        query = query.where(Job.study_uid == study_uid)
    with database.read() as session:
        return [
            _row(job)
            | {
                "progress": [job.progress, job.progress_total],
                "destination": job.payload.get("destination"),
                "summary": job.error or (job.result or {}).get("sentence"),
            }
            for job in session.scalars(query)
        ]


def job(database: Database, job_id: int) -> dict[str, Any]:
    """One job with its events and, for a delivery, the status of every instance. NotFoundError when there is none."""
    with database.read() as session:
        found = session.get(Job, job_id)
        if found is None:
            raise NotFoundError(f"there is no job {job_id}; see: diffmsr-node queue list")
        events = session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.id)).all()
        deliveries = session.scalars(select(Delivery).where(Delivery.job_id == job_id).order_by(Delivery.sop_uid)).all()
        return _row(found) | {
            "key": found.key,
            "parent_id": found.parent_id,
            "worker": found.worker,
            "progress": [found.progress, found.progress_total],
            "payload": found.payload,
            "result": found.result,
            "events": [
                {"at": iso(e.at), "actor": e.actor, "from": e.from_state, "to": e.to_state, "why": e.why}
                for e in events
            ],
            "instances": [{"sop_uid": d.sop_uid, "accepted": d.accepted, "status": d.status} for d in deliveries],
        }


def verdict(database: Database, study_uid: str) -> dict[str, Any]:
    """What the matching said of a study last; NotFoundError when it is unknown, or was not matched yet."""
    with database.read() as session:
        found = session.scalars(select(Job).where(Job.kind == Kind.MATCH, Job.study_uid == study_uid)).one_or_none()
    if found is None:
        raise NotFoundError(f"no study {study_uid} was received, and there is no folder of that name")
    if not found.result:
        raise NotFoundError(f"study {study_uid} is {found.state}; it has not been matched yet, ask again in a moment")
    return found.result


def study_history(database: Database, archive: Archive, study_uid: str) -> list[dict[str, Any]]:
    """The jobs of a study, oldest first, each with the reason of its last change and what was measured of its result."""
    with database.read() as session:
        found = list(session.scalars(select(Job).where(Job.study_uid == study_uid).order_by(Job.id)))
        last = select(func.max(Event.id)).where(Event.job_id.in_([job.id for job in found])).group_by(Event.job_id)
        whys = {e.job_id: e.why for e in session.scalars(select(Event).where(Event.id.in_(last)))}
    rows = []
    for job in found:
        quality = archive.quality(job.key) if job.kind is Kind.INFER else None
        destination = job.payload.get("destination")
        rows.append(
            _row(job)
            | {
                "destination": destination,
                "why": whys.get(job.id),
                "quality": None if quality is None else asdict(quality),
            }
        )
    return rows


def result_of(database: Database, job_id: int) -> tuple[str, PairRequest]:
    """The result of an infer, derive or deliver job, by its key in the archive, and what it was made for; NotFoundError when
    there is no such job, or it is one that has no result."""
    with database.read() as session:
        found = session.get(Job, job_id)
        if found is None:
            raise NotFoundError(f"there is no job {job_id}; see: diffmsr-node queue list")
        if found.kind not in (Kind.INFER, Kind.DERIVE, Kind.DELIVER):
            raise NotFoundError(f"job {job_id} is a {found.kind} job; infer, derive and deliver jobs have a report")
        if found.kind is Kind.INFER:
            return found.key, PairRequest.model_validate(found.payload)
        return str(found.payload["result"]), PairRequest.model_validate(found.payload["request"])


def counts(database: Database) -> dict[str, dict[str, int]]:
    """How many jobs there are, by kind and state."""
    table: dict[str, dict[str, int]] = {kind.value: {} for kind in Kind}
    with database.read() as session:
        for kind, state, count in session.execute(
            select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)
        ):
            table[kind][state] = count
    return table


def totals(database: Database) -> dict[str, int]:
    """Studies, series, instances and bytes received."""
    with database.read() as session:
        studies, series = session.execute(select(func.count(Series.study_uid.distinct()), func.count())).one()
        instances, size = session.execute(
            select(func.count(), func.coalesce(func.sum(Instance.size), 0)).select_from(Instance)
        ).one()
    return {"studies": studies, "series": series, "instances": instances, "bytes": int(size)}


def instance_paths(database: Database, study_uid: str) -> dict[str, str]:
    """SOP instance UID to file of a study's instances; NotFoundError when the study is unknown."""
    with database.read() as session:
        rows = session.execute(select(Instance.sop_uid, Instance.path).where(Instance.study_uid == study_uid))
        paths = {row.sop_uid: row.path for row in rows}
    if not paths:
        raise NotFoundError(f"no instance of study {study_uid} was received")
    return paths


def requests(database: Database, study_uid: str) -> list[PairRequest]:
    """What was ever asked to be super-resolved of a study, oldest first."""
    query = select(Job.payload).where(Job.study_uid == study_uid, Job.kind == Kind.INFER).order_by(Job.id)
    with database.read() as session:
        return [PairRequest.model_validate(payload) for payload in session.scalars(query)]


def one_instance_a_series(database: Database, study_uid: str) -> list[str]:
    """The file of one instance of every series of a study."""
    first = select(func.min(Instance.path)).where(Instance.study_uid == study_uid).group_by(Instance.series_uid)
    with database.read() as session:
        return list(session.scalars(first))


def series_sizes(database: Database, study_uid: str) -> dict[str, int]:
    """Series instance UID to the number of instances stored, of a study's series."""
    with database.read() as session:
        rows = session.execute(select(Series.series_uid, Series.instances).where(Series.study_uid == study_uid))
        return {row.series_uid: row.instances for row in rows}
