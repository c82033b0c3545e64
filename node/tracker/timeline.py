"""How a study went through the stages: every job with its steps, the reason of each, and the seconds it took."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from node.tracker.database import Database
from node.tracker.states import FINISHED, LEASED, Kind, State
from node.tracker.tables import Event, Job
from node.tracker.views import Moment, View


class Step(View):
    """A change of state, and how long the job then stayed as it was."""

    at: Moment
    actor: str
    state: State
    why: str
    seconds: float | None
    """Until the next step, or until now; None after the last step of a job that is finished."""


class JobTimeline(View):
    """One job of a study."""

    id: int
    kind: Kind
    state: State
    destination: str | None
    waited_s: float
    worked_s: float
    """In the hands of a worker."""
    steps: tuple[Step, ...]


def timeline(database: Database, study_uid: str, now: datetime) -> list[JobTimeline]:
    """The jobs of a study, oldest first."""
    with database.read() as session:
        jobs = session.scalars(select(Job).where(Job.study_uid == study_uid).order_by(Job.id)).all()
        found = session.scalars(
            select(Event).where(Event.job_id.in_([job.id for job in jobs])).order_by(Event.id)
        ).all()
    events: dict[int, list[Event]] = {}
    for event in found:
        events.setdefault(event.job_id, []).append(event)
    return [_job(job, steps_of(events.get(job.id, []), now)) for job in jobs]


def steps(database: Database, job_id: int, now: datetime) -> tuple[Step, ...]:
    """The steps of one job."""
    with database.read() as session:
        return steps_of(session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.id)).all(), now)


def steps_of(events: Sequence[Event], now: datetime) -> tuple[Step, ...]:
    """The steps of one job, from its events in their order."""
    ends: list[datetime | None] = [event.at for event in events[1:]]
    ends.append(None if events and events[-1].to_state in FINISHED else now)
    return tuple(
        Step(
            at=event.at, actor=event.actor, state=event.to_state, why=event.why,
            seconds=None if end is None else max(0.0, (end - event.at).total_seconds()),
        )
        for event, end in zip(events, ends, strict=False)
    )  # fmt: skip


def _job(job: Job, steps: tuple[Step, ...]) -> JobTimeline:
    worked = sum(step.seconds or 0.0 for step in steps if step.state in LEASED)
    waited = sum(step.seconds or 0.0 for step in steps if step.state not in LEASED)
    return JobTimeline(
        id=job.id, kind=job.kind, state=job.state, destination=job.destination, waited_s=waited, worked_s=worked, steps=steps
    )  # fmt: skip
