"""What a dashboard shows: how much came and went, what waits, how each destination does."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import and_, func, select

from node.payloads import InferResult
from node.tracker.database import Database
from node.tracker.listing import StudyRow, reasons, study_row
from node.tracker.states import FINISHED, Kind, State
from node.tracker.studies import StudyState
from node.tracker.tables import Job, Study
from node.tracker.views import JobRow, Moment, View, job_row

HOURS = 24


class Hour(View):
    """What happened in an hour: studies received, pairs matched, results delivered."""

    begins: Moment
    received: int
    matched: int
    delivered: int


class DestinationRow(View):
    """How a destination does."""

    name: str
    backlog: int
    """Deliveries that are not finished."""
    oldest: Moment | None
    """When the oldest of them was asked for."""
    last_success: Moment | None
    last_error: str | None
    """Of the deliveries that wait to be tried again, or failed, the latest."""
    last_error_at: Moment | None


class DeviceRow(View):
    """The device that makes results."""

    name: str
    at: Moment
    """When it was last used."""
    memory_bytes: int | None
    """The most that was in use at once on it, up to then; None where the version that used it did not say."""


class QueueRow(View):
    """Jobs of a kind that are in a state, for a destination if they have one."""

    kind: Kind
    state: State
    destination: str | None
    count: int
    oldest: Moment
    """When the oldest of them was asked for."""


def queue(database: Database) -> list[QueueRow]:
    """The jobs that are not finished."""
    query = (
        select(Job.kind, Job.state, Job.destination, func.count(), func.min(Job.created_at))
        .where(Job.kind.in_(list(Kind)), Job.state.in_(set(State) - FINISHED))
        .group_by(Job.kind, Job.state, Job.destination)
    )
    with database.read() as session:
        return [
            QueueRow(kind=kind, state=state, destination=destination, count=count, oldest=oldest)
            for kind, state, destination, count, oldest in session.execute(query)
        ]


def hours(database: Database, now: datetime) -> list[Hour]:
    """The last 24 hours, the running one last. The zone of `now` says where an hour begins."""
    running = now.replace(minute=0, second=0, microsecond=0)
    first = running - timedelta(hours=HOURS - 1)
    with database.read() as session:
        moments = {
            "received": session.scalars(
                select(Study.first_received_at).where(Study.last_received_at >= first, Study.first_received_at >= first)
            ).all(),
            "matched": session.scalars(
                select(Job.created_at).where(
                    Job.kind == Kind.INFER, Job.state.in_(list(State)), Job.updated_at >= first
                )
            ).all(),
            "delivered": session.scalars(
                select(Job.updated_at).where(Job.kind == Kind.DELIVER, Job.state == State.DONE, Job.updated_at >= first)
            ).all(),
        }
    counts = {name: [0] * HOURS for name in moments}
    for name, found in moments.items():
        for moment in found:
            index = int((moment - first) / timedelta(hours=1))
            if 0 <= index < HOURS:
                counts[name][index] += 1
    return [Hour(begins=first + timedelta(hours=i), **{name: counts[name][i] for name in counts}) for i in range(HOURS)]


def waiting(database: Database, limit: int, *, phi: bool) -> tuple[int, list[StudyRow]]:
    """(how many studies wait for their partner, the latest of them with the reason in words)."""
    query = select(Study).where(Study.state == StudyState.WAITING)
    with database.read() as session:
        count = session.scalar(select(func.count()).select_from(query.subquery())) or 0
        found = session.scalars(query.order_by(Study.last_received_at.desc()).limit(limit)).all()
    why = reasons(database, [study.study_uid for study in found])
    return count, [study_row(study, why.get(study.study_uid), phi=phi) for study in found]


def destinations(database: Database, names: Sequence[str]) -> list[DestinationRow]:
    """Each destination of that name, in that order."""
    open_jobs = and_(Job.kind == Kind.DELIVER, Job.state.in_(set(State) - FINISHED))
    done = and_(Job.kind == Kind.DELIVER, Job.state == State.DONE)
    rows = []
    with database.read() as session:
        backlog = {
            name: (count, oldest)
            for name, count, oldest in session.execute(
                select(Job.destination, func.count(), func.min(Job.created_at))
                .where(open_jobs)
                .group_by(Job.destination)
            )
        }
        for name in names:
            of_it = Job.destination == name
            success = session.scalar(select(Job.updated_at).where(done, of_it).order_by(Job.updated_at.desc()).limit(1))
            trouble = session.execute(
                select(Job.error, Job.updated_at)
                .where(Job.kind == Kind.DELIVER, of_it, Job.state.in_((State.RETRY_WAIT, State.FAILED)))
                .order_by(Job.updated_at.desc())
                .limit(1)
            ).one_or_none()
            count, oldest = backlog.get(name, (0, None))
            rows.append(
                DestinationRow(
                    name=name,
                    backlog=count,
                    oldest=oldest,
                    last_success=success,
                    last_error=trouble and trouble[0],
                    last_error_at=trouble and trouble[1],
                )
            )
    return rows


def last_device(database: Database) -> DeviceRow | None:
    """The device that made the latest result; None when there is none yet."""
    latest = (
        select(Job.result, Job.updated_at)
        .where(Job.kind == Kind.INFER, Job.state == State.DONE)
        .order_by(Job.updated_at.desc())
        .limit(1)
    )
    with database.read() as session:
        found = session.execute(latest).one_or_none()
    if found is None or found.result is None:
        return None
    made = InferResult.model_validate(found.result)
    return DeviceRow(name=made.device, at=found.updated_at, memory_bytes=made.memory_bytes)


def last_errors(database: Database, limit: int) -> list[JobRow]:
    """The jobs that failed, or wait to be tried again, the latest first."""
    return _latest(database, (State.FAILED, State.RETRY_WAIT), limit)


def failed(database: Database, limit: int) -> list[JobRow]:
    """The jobs that have failed for good, the latest first."""
    return _latest(database, (State.FAILED,), limit)


def _latest(database: Database, states: Collection[State], limit: int) -> list[JobRow]:
    query = (
        select(Job).where(Job.kind.in_(list(Kind)), Job.state.in_(states)).order_by(Job.updated_at.desc()).limit(limit)
    )
    with database.read() as session:
        return [JobRow(**job_row(job)) for job in session.scalars(query)]


def kept(database: Database) -> tuple[int, int]:
    """(studies, bytes of their instances) that were received and not purged."""
    query = select(func.count(), func.coalesce(func.sum(Study.size), 0)).where(Study.purged_at.is_(None))
    with database.read() as session:
        studies, size = session.execute(query).one()
    return studies, int(size)


def last_received(database: Database) -> datetime | None:
    """When the latest instance came; None when none did yet."""
    with database.read() as session:
        return session.scalar(select(func.max(Study.last_received_at)))


def received_per_day(database: Database, now: datetime, days: int = 7) -> float:
    """Bytes received on a day, the mean of the last `days`; 0 when there was nothing."""
    since = now - timedelta(days=days)
    with database.read() as session:
        size, first = session.execute(
            select(func.coalesce(func.sum(Study.size), 0), func.min(Study.first_received_at)).where(
                Study.last_received_at >= since
            )
        ).one()
    if not size or first is None:
        return 0.0
    span = max(now - max(first, since), timedelta(days=1))
    return float(size) / (span / timedelta(days=1))
