"""The one place that creates a job or changes its state. Each change is checked against `states.py` and leaves an event."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.errors import TransitionError
from node.tracker import studies
from node.tracker.outcomes import NewJob
from node.tracker.states import CLAIMABLE, CLAIMED_AS, LEASED, Kind, State, allowed
from node.tracker.tables import Event, Job


def add(
    session: Session,
    now: datetime,
    new: NewJob,
    state: State,
    actor: str,
    sentence: str,
    *,
    due: datetime | None = None,
    parent_id: int | None = None,
) -> Job:
    """Create a job. It may be claimed at once, unless `due` says when."""
    job = Job(
        kind=new.kind, key=new.key, state=state, study_uid=new.study_uid, target_series_uid=new.target_series_uid,
        reference_series_uid=new.reference_series_uid, parent_id=parent_id, payload=new.payload, revision=new.revision,
        destination=new.destination, max_attempts=new.max_attempts, error=new.held, created_at=now, updated_at=now,
    )  # fmt: skip
    session.add(job)
    session.flush()
    if state in CLAIMABLE:
        make_due(session, job, due or now)
    _log(session, job, now, actor, None, sentence)
    return job


def want(session: Session, now: datetime, new: NewJob, parent_id: int | None, actor: str) -> None:
    """Create a job that another one led to, unless there is one for the same work already."""
    if session.scalars(select(Job.id).where(Job.key == new.key)).one_or_none() is not None:
        return
    state = State.READY if new.held is None else State.HELD
    add(session, now, new, state, actor, new.held or _requested(parent_id), parent_id=parent_id)


def _requested(parent_id: int | None) -> str:
    return "requested" if parent_id is None else f"requested by job {parent_id}"


def move(session: Session, now: datetime, job: Job, state: State, actor: str, sentence: str) -> None:
    """Change the state of a job. TransitionError when that change does not exist. A job that waits or has ended belongs to no
    worker. The caller sets when it may be claimed, see `make_due`."""
    before = job.state
    if not allowed(before, state):
        raise TransitionError(f"job {job.id} is {before}; it cannot become {state}")
    job.prior_state, job.state, job.updated_at = before, state, now
    if state not in LEASED:
        job.worker = job.lease_expires_at = None
    _log(session, job, now, actor, before, sentence)


def take(session: Session, now: datetime, job: Job, worker: str, lease_expires_at: datetime) -> None:
    """Give a job to a worker for its next attempt. The fence rises, so an earlier worker can no longer change the job."""
    job.fence += 1
    job.attempts += 1
    job.next_attempt_at = None
    job.progress = job.progress_total = 0
    move(session, now, job, CLAIMED_AS[job.kind], worker, f"attempt {job.attempts} of {job.max_attempts}")
    job.worker, job.lease_expires_at = worker, lease_expires_at


def begin_anew(job: Job) -> None:
    """Forget the attempts of a job that is asked for again."""
    job.attempts = job.deaths = 0
    job.first_failed_at = None


def make_due(session: Session, job: Job, at: datetime) -> None:
    """Set when the job may be claimed. The workers of this process learn of it when the transaction is committed."""
    job.next_attempt_at = at
    wake(session, job.kind)


def wake(session: Session, kind: Kind) -> None:
    """Have the workers of that kind look for work when the transaction is committed."""
    _woken(session).add(kind)


def woken_by(session: Session) -> frozenset[Kind]:
    """The kinds of jobs that a transaction has set a time for."""
    return frozenset(_woken(session))


def _woken(session: Session) -> set[Kind]:
    kinds: set[Kind] = session.info.setdefault("woken", set())
    return kinds


def _log(session: Session, job: Job, now: datetime, actor: str, before: State | None, sentence: str) -> None:
    studies.note_change(session, job)
    session.add(Event(job_id=job.id, at=now, actor=actor, from_state=before, to_state=job.state, why=sentence))
