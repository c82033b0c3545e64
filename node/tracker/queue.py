"""How a job is worked on: claimed under a lease, kept by heartbeats, settled with an outcome, rescued when its worker died.

A worker owns a job while it holds its latest fence: a claim raises the job's `fence`, so whoever claimed before, and was
given up for dead, can no longer change it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from node.errors import LeaseLostError, TransitionError
from node.tracker import due, matches, pauses, transitions
from node.tracker.due import GROWN, Destinations
from node.tracker.handle import Tracker
from node.tracker.outcomes import Committing, Done, Failed, Matched, Missing, NewJob, Outcome, Postponed, Refused, Retry
from node.tracker.states import FINISHED, LEASED, Kind, State
from node.tracker.tables import Commitment, Job

LOOK_AGAIN = timedelta(days=1)
"""A job that waits for another job is due when the other one is done. If that never happens, it looks again after this
time."""

MAX_DEATHS = 20
"""A job that has taken down so many workers in a row fails. A worker that dies uses no attempt: most often the service was
killed, or the host lost power, and the job is healthy."""
WORKER_DIED = "E_WORKER_DIED"


@dataclass(frozen=True)
class Claim:
    """A job as its worker holds it."""

    job_id: int
    kind: Kind
    fence: int
    worker: str
    key: str
    study_uid: str
    payload: dict[str, Any]
    revision: int
    attempts: int
    was: State
    """The state it was claimed from."""


def backoff_s(attempt: int, initial_s: float, maximum_s: float, jitter: Callable[[], float] = random.random) -> float:
    """Seconds to wait after attempt number `attempt` (from 1): doubling from `initial_s` up to `maximum_s`, spread by
    a fifth to either side so that jobs that failed together do not come back together."""
    nominal: float = min(maximum_s, initial_s * 2.0 ** min(attempt - 1, 32))
    return nominal * (0.8 + 0.4 * jitter())


# ---------------------------------------------------------------------- to find work


def enqueue(tracker: Tracker, new: NewJob, actor: str, delay_s: float = 0) -> State:
    """Ask for work that no other job led to, due after `delay_s`; the state of the job for it, new or old."""
    now = tracker.clock()
    with tracker.write() as session:
        known = session.scalars(select(Job.state).where(Job.key == new.key)).one_or_none()
        if known is None:
            due = now + timedelta(seconds=delay_s)
            transitions.add(session, now, new, State.READY, actor, "requested", due=due)
        return known or State.READY


def next_due(tracker: Tracker, kind: Kind, destinations: Destinations | None = None) -> datetime | None:
    """When the first job of that kind is due, which may be in the past; None when none waits. A claim may still pass it
    over."""
    with tracker.read() as session:
        if pauses.all_paused(session, kind, None if destinations is None else destinations.one):
            return None
        return min(
            (at for at in session.execute(due.earliest(kind, destinations)).one() if at is not None), default=None
        )


def claim(tracker: Tracker, kind: Kind, worker: str, destinations: Destinations | None = None) -> Claim | None:
    """Take the job of that kind, and of these destinations, that has been due longest; None when none is due.

    A job for a pair whose series have grown since they were matched is passed over: the next match of its study
    either confirms or supersedes it.
    """
    now = tracker.clock()
    # A loss of power undoes a claim together with its worker, where the tracker is a file on the same host.
    with tracker.write(durable=tracker.database.is_shared) as session:
        job = session.scalars(due.first(kind, destinations), {"now": now}).one_or_none()
        if job is None:
            return None
        was = job.state
        transitions.take(session, now, job, worker, now + tracker.lease)
        return Claim(
            job_id=job.id, kind=job.kind, fence=job.fence, worker=worker, key=job.key, study_uid=job.study_uid,
            payload=job.payload, revision=job.revision, attempts=job.attempts, was=was,
        )  # fmt: skip


def outgrown(session: Session, job: Job) -> bool:
    """Whether a claim would pass the job over."""
    return session.scalar(select(Job.id).where(Job.id == job.id, GROWN)) is not None


def hasten(tracker: Tracker, destination: str) -> None:
    """Have the deliveries to a destination that wait for their next attempt tried at once: it can be reached again."""
    now = tracker.clock()
    waiting = (
        update(Job)
        .where(
            Job.kind == Kind.DELIVER,
            Job.state == State.RETRY_WAIT,
            Job.destination == destination,
            Job.first_failed_at.is_not(None),
            Job.next_attempt_at > now,
        )
        .values(next_attempt_at=now)
    )
    with tracker.write() as session:
        session.execute(waiting)
        transitions.wake(session, Kind.DELIVER)


# ---------------------------------------------------------------------- to hold it


def heartbeat(tracker: Tracker, claim: Claim, progress: tuple[int, int] | None = None) -> None:
    """Say that the worker is alive, and how far it is (done, of); LeaseLostError when the job is no longer this worker's."""
    now = tracker.clock()
    values: dict[str, Any] = {"lease_expires_at": now + tracker.lease}
    if progress is not None:
        values |= {"progress": progress[0], "progress_total": progress[1], "updated_at": now}
    held = (
        update(Job).where(Job.id == claim.job_id, Job.fence == claim.fence, Job.state.in_(LEASED)).values(**values)
    )  # fmt: skip
    with tracker.write() as session:
        if session.connection().execute(held).rowcount == 0:
            raise _lost(claim)


def leased(session: Session, claim: Claim) -> Job:
    """The claimed job; LeaseLostError when it is no longer its worker's."""
    job = session.get(Job, claim.job_id, with_for_update=True)
    if job is None or job.fence != claim.fence or job.state not in LEASED:
        raise _lost(claim)
    return job


def _lost(claim: Claim) -> LeaseLostError:
    return LeaseLostError(f"job {claim.job_id} was taken over, cancelled or superseded")


# ---------------------------------------------------------------------- to end it


def settle(tracker: Tracker, claim: Claim, outcome: Outcome) -> State:
    """End an attempt; returns the job's new state. All of it, next jobs included, is one transaction.

    Raises LeaseLostError, changing nothing, when the job is no longer this worker's.
    """
    now, actor = tracker.clock(), claim.worker
    with tracker.write() as session:
        if isinstance(outcome, Missing):  # locked before the job itself, as a match that supersedes both would
            maker = session.scalars(select(Job).where(Job.key == outcome.maker.key).with_for_update()).one_or_none()
        job = leased(session, claim)
        job.error = None
        match outcome:
            case Matched() | Refused() if claim.kind is Kind.MATCH:
                matches.settle(session, now, job, actor, claim.revision, outcome)
            case Matched():
                raise TransitionError("only a match ends in Matched")
            case Retry() | Failed() if claim.kind is Kind.MATCH and job.revision != claim.revision:
                transitions.begin_anew(job)  # as for an instance that comes after the failure
                job.error = outcome.sentence
                sentence = f"more instances arrived while the match failed: {outcome.sentence}"
                transitions.move(session, now, job, State.RECEIVING, actor, sentence)
            case Done(sentence, result, then):
                job.result = None if result is None else result.to_json()
                job.first_failed_at, job.deaths = None, 0
                for new in then:  # a match may have confirmed the pair, with more instances, while it was worked on
                    transitions.want(session, now, replace(new, revision=job.revision), job.id, actor)
                transitions.move(session, now, job, State.DONE, actor, sentence)
                _go_on_with(session, now, job)
            case Refused(code, sentence):
                job.result = None
                job.error = f"{code}: {sentence}"
                transitions.move(session, now, job, State.REFUSED, actor, job.error)
            case Committing():
                _await_report(session, now, job, actor, outcome)
            case Missing():
                _wait_for(session, now, job, actor, outcome, maker)
            case Postponed(sentence, delay_s):
                job.error = sentence
                job.attempts -= 1
                transitions.make_due(session, job, now + timedelta(seconds=delay_s))
                transitions.move(session, now, job, State.RETRY_WAIT, actor, sentence)
            case Retry(sentence, delay_s, give_up_after_s):
                job.error, job.deaths = sentence, 0
                job.first_failed_at = job.first_failed_at or now
                failing_s = (now - job.first_failed_at) / timedelta(seconds=1)
                if job.attempts >= job.max_attempts:
                    last = f"attempt {job.attempts} was the last: {sentence}"
                    transitions.move(session, now, job, State.FAILED, actor, last)
                elif give_up_after_s is not None and failing_s >= give_up_after_s:
                    last = f"given up, because it has failed for {failing_s / 3600:.1f} h: {sentence}"
                    transitions.move(session, now, job, State.FAILED, actor, last)
                else:
                    transitions.make_due(session, job, now + timedelta(seconds=delay_s))
                    transitions.move(session, now, job, State.RETRY_WAIT, actor, sentence)
            case Failed(sentence):
                job.error = sentence
                transitions.move(session, now, job, State.FAILED, actor, sentence)
        return job.state


def _await_report(session: Session, now: datetime, job: Job, actor: str, outcome: Committing) -> None:
    job.error = outcome.sentence
    if job.attempts > job.max_attempts:
        transitions.move(session, now, job, State.FAILED, actor, f"requested too often: {outcome.sentence}")
        return
    # The report may have come before the one who asked for it has settled.
    answered = session.get_one(Commitment, outcome.transaction_uid).answered_at is not None
    transitions.make_due(session, job, now if answered else now + timedelta(seconds=outcome.patience_s))
    transitions.move(session, now, job, State.COMMITTING, actor, outcome.sentence)


def _wait_for(session: Session, now: datetime, job: Job, actor: str, outcome: Missing, maker: Job | None) -> None:
    """Have the job that makes what is missing done again, and wait until it is."""
    if maker is None:
        new = replace(outcome.maker, revision=job.revision)
        maker = transitions.add(session, now, new, State.READY, actor, outcome.sentence, parent_id=job.parent_id)
    elif maker.state is State.DONE:
        transitions.begin_anew(maker)
        maker.revision = job.revision
        transitions.make_due(session, maker, now)
        transitions.move(session, now, maker, State.READY, actor, f"to be done again: {outcome.sentence}")
    stuck = f", which is {maker.state}: {maker.error}" if maker.state in FINISHED else ""
    job.parent_id = maker.id
    job.attempts -= 1
    job.error = f"{outcome.sentence}; waits for {maker.kind} job {maker.id}{stuck}"
    transitions.make_due(session, job, now + LOOK_AGAIN)
    transitions.move(session, now, job, State.RETRY_WAIT, actor, job.error)


def _go_on_with(session: Session, now: datetime, maker: Job) -> None:
    """What waits for something that this job has made is due."""
    waiting = select(Job).where(Job.parent_id == maker.id, Job.state == State.RETRY_WAIT)
    for job in session.scalars(waiting.with_for_update()):
        transitions.make_due(session, job, now)


def give_back(tracker: Tracker, claim: Claim) -> None:
    """Give a job back untried, when the service stops: the attempt does not count."""
    now = tracker.clock()
    with tracker.write() as session:
        job = session.get(Job, claim.job_id, with_for_update=True)
        if job is not None and job.fence == claim.fence and job.state in LEASED:
            job.attempts -= 1
            transitions.make_due(session, job, now)
            transitions.move(session, now, job, State.READY, claim.worker, "the service is stopping")


def rescue(tracker: Tracker, dead: Callable[[str], bool] | None = None, actor: str = "housekeep") -> int:
    """Free jobs whose lease ran out, or whose worker is known to be `dead`; returns how many.

    The attempt does not count. A job that takes its worker down each time fails after MAX_DEATHS.
    """
    now = tracker.clock()
    ours = Job.lease_expires_at < now if dead is None else Job.state.in_(LEASED)  # an index for each
    leased = select(Job.id, Job.worker, Job.lease_expires_at).where(ours)
    with tracker.read() as session:  # most often there is none, and a writer would lock out all others
        orphaned = [
            job_id
            for job_id, worker, until in session.execute(leased)
            if (until is not None and until < now) or (dead is not None and dead(worker or ""))
        ]
    return sum(_free(tracker, now, job_id, dead, actor) for job_id in orphaned)


def _free(tracker: Tracker, now: datetime, job_id: int, dead: Callable[[str], bool] | None, actor: str) -> bool:
    with tracker.write() as session:
        held = select(Job).where(Job.id == job_id, Job.state.in_(LEASED)).with_for_update(skip_locked=True)
        job = session.scalars(held).one_or_none()
        if job is None or job.lease_expires_at is None:
            return False
        if job.lease_expires_at >= now and not (dead and dead(job.worker or "")):
            return False
        job.attempts -= 1
        job.deaths += 1
        sentence = f"its worker {job.worker} died"
        if job.deaths >= MAX_DEATHS:
            job.error = f"{WORKER_DIED}: {job.deaths} workers in a row died while they held this job"
            transitions.move(session, now, job, State.FAILED, actor, job.error)
        else:
            transitions.make_due(session, job, now)
            transitions.move(session, now, job, State.READY, actor, sentence)
    return True
