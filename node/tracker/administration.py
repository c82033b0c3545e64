"""What an administrator does to a job. Each act leaves an event with the administrator's name."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from node.errors import NotFoundError, TransitionError
from node.tracker import queue, transitions
from node.tracker.handle import Tracker
from node.tracker.states import FINISHED, LEASED, State, allowed
from node.tracker.tables import Job


def retry(tracker: Tracker, job_id: int, actor: str) -> None:
    """Try a failed, refused, cancelled, waiting or held job again now, with all its attempts."""

    def again(session: Session, job: Job, now: datetime) -> str:
        job.attempts = 0
        job.error = None
        transitions.make_due(session, job, now)
        return "retried by an administrator"

    _act(tracker, job_id, State.READY, actor, again)


def cancel(tracker: Tracker, job_id: int, actor: str) -> None:
    """Stop a job that is not running."""

    def stop(session: Session, job: Job, now: datetime) -> str:
        job.next_attempt_at = None
        return "cancelled by an administrator"

    _act(tracker, job_id, State.CANCELLED, actor, stop)


def hold(tracker: Tracker, job_id: int, actor: str) -> None:
    """Keep a job that has not begun, or waits to be tried again, from going on until it is released."""

    def keep(session: Session, job: Job, now: datetime) -> str:
        job.next_attempt_at = None
        job.error = "held by an administrator"
        return job.error

    _act(tracker, job_id, State.HELD, actor, keep)


def release(tracker: Tracker, job_id: int, actor: str) -> None:
    """Let a held job go on its way now."""

    def go_on(session: Session, job: Job, now: datetime) -> str:
        if job.state is not State.HELD:
            raise TransitionError(f"job {job.id} is {job.state}, not held")
        job.error = None
        transitions.make_due(session, job, now)
        return "released by an administrator"

    _act(tracker, job_id, State.READY, actor, go_on)


def _act(
    tracker: Tracker, job_id: int, state: State, actor: str, change: Callable[[Session, Job, datetime], str]
) -> None:
    now = tracker.clock()
    with tracker.write() as session:
        job = session.get(Job, job_id, with_for_update=True)
        if job is None:
            raise NotFoundError(f"there is no job {job_id}; see: diffmsr-node queue list")
        if job.state in LEASED:
            raise TransitionError(f"job {job_id} is {job.state} right now; wait until it ends, or stop the service")
        if not allowed(job.state, state):
            raise TransitionError(f"job {job_id} is {job.state}; it cannot become {state}")
        if state is State.READY and job.state in FINISHED and queue.outgrown(session, job):
            raise TransitionError(
                f"job {job_id} is {job.state}, and its series have grown since; the newest match of the study says what "
                "becomes of them now: diffmsr-node queue list"
            )
        transitions.move(session, now, job, state, actor, change(session, job, now))
