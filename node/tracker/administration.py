"""What an administrator does to a job. Each act leaves an event with the administrator's name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.config.settings import DestinationSettings
from node.errors import NodeError, NotFoundError, TransitionError
from node.payloads import PairRequest
from node.tracker import deliveries, queue, steps, transitions
from node.tracker.audit import Action, audit
from node.tracker.handle import Tracker
from node.tracker.matches import SUPERSEDED
from node.tracker.outcomes import NewJob
from node.tracker.states import FINISHED, LEASED, Kind, State, allowed
from node.tracker.tables import Job

Act = Literal["retry", "cancel", "hold", "release"]

_BECOMES: dict[Act, State] = {
    "retry": State.READY, "cancel": State.CANCELLED, "hold": State.HELD, "release": State.READY
}  # fmt: skip
_SENTENCES: dict[Act, str] = {
    "retry": "retried by an administrator",
    "cancel": "cancelled by an administrator",
    "hold": "held by an administrator",
    "release": "released by an administrator",
}

_ONLY: dict[Act, str] = {
    "retry": "only a job that waits, failed, or was refused or cancelled can be retried",
    "cancel": "only a job that waits or is held can be cancelled",
    "hold": "only a job that waits can be held",
    "release": "only a held job can be released",
}

_AT_ONCE = 100
"""Jobs in one transaction: enough that thousands take seconds, few enough that nobody waits long for the lock."""

_WITH_RESULT = frozenset({Kind.INFER, Kind.DERIVE, Kind.DELIVER})


def retry(tracker: Tracker, job_id: int, actor: str) -> None:
    """Retry a failed, refused, cancelled, waiting or held job now, with all its attempts."""
    _alone(tracker, job_id, "retry", actor)


def cancel(tracker: Tracker, job_id: int, actor: str) -> None:
    """Cancel a job that is not running."""
    _alone(tracker, job_id, "cancel", actor)


def hold(tracker: Tracker, job_id: int, actor: str) -> None:
    """Hold a job that has not begun or waits for a retry, until it is released."""
    _alone(tracker, job_id, "hold", actor)


def release(tracker: Tracker, job_id: int, actor: str) -> None:
    """Release a held job."""
    _alone(tracker, job_id, "release", actor)


def act_on(tracker: Tracker, job_ids: Sequence[int], act: Act, actor: str) -> dict[int, NodeError]:
    """Do the same to many jobs, some of them in each transaction. Returns the jobs that stay as they are, each with a
    NotFoundError or TransitionError that says why."""
    refused: dict[int, NodeError] = {}
    for start in range(0, len(job_ids), _AT_ONCE):
        now = tracker.clock()
        with tracker.write() as session:
            for job_id in job_ids[start : start + _AT_ONCE]:
                try:
                    _act(tracker, session, now, job_id, act, actor)
                except (NotFoundError, TransitionError) as error:  # raised before anything was changed
                    refused[job_id] = error
    return refused


def _alone(tracker: Tracker, job_id: int, act: Act, actor: str) -> None:
    for error in act_on(tracker, [job_id], act, actor).values():
        raise error


def check(tracker: Tracker, job_id: int, act: Act) -> None:
    """Raise what `act_on` would refuse it with: NotFoundError or TransitionError."""
    with tracker.read() as session:
        _check(session, _job(session, job_id), act)


def _check(session: Session, job: Job, act: Act) -> None:
    state, job_id = _BECOMES[act], job.id
    if job.state in LEASED:
        raise TransitionError(f"job {job_id} is {job.state} right now; wait until it ends, or stop the service")
    if act == "release" and job.state is not State.HELD:
        raise TransitionError(f"job {job_id} is {job.state}; {_ONLY[act]}")
    if act == "retry" and job.state is State.DONE:
        again = f". To send its result again: diffmsr-node queue resend {job_id}" if job.kind in _WITH_RESULT else ""
        raise TransitionError(f"job {job_id} is finished; {_ONLY[act]}{again}")
    if not allowed(job.state, state):
        done = "finished" if job.state is State.DONE else f"{job.state}{' already' if job.state is state else ''}"
        raise TransitionError(f"job {job_id} is {done}; {_ONLY[act]}")
    if state is State.READY and act != "release" and queue.outgrown(session, job):
        raise _outgrown(job)


def _act(tracker: Tracker, session: Session, now: datetime, job_id: int, act: Act, actor: str) -> None:
    state, sentence = _BECOMES[act], _SENTENCES[act]
    job = _job(session, job_id)
    _check(session, job, act)
    if state is State.READY:
        job.error = None
        transitions.make_due(session, job, now)
    else:
        job.next_attempt_at = None
    if act == "retry":
        transitions.begin_anew(job)
    if act == "hold":
        job.error = sentence
    transitions.move(session, now, job, state, actor, sentence)
    _audit(tracker, session, job, actor, sentence)


def _audit(tracker: Tracker, session: Session, job: Job, actor: str, sentence: str) -> None:
    details = {"job": job.id, "kind": job.kind.value, "act": sentence}
    audit(tracker, Action.ADMINISTERED, actor, job.study_uid or None, details, session)


def _job(session: Session, job_id: int) -> Job:
    job = session.get(Job, job_id, with_for_update=True)
    if job is None:
        raise NotFoundError(f"there is no job {job_id}; see: diffmsr-node queue list")
    return job


def _outgrown(job: Job) -> TransitionError:
    return TransitionError(
        f"job {job.id} is {job.state}, and its series have changed since. The newest match of the study decides what "
        "happens to them: diffmsr-node queue list"
    )


# ---------------------------------------------------------------------- to send again


@dataclass(frozen=True)
class Resent:
    """A delivery that an administrator requested."""

    job_id: int
    destination: str
    state: State
    """`ready`, or the state of a delivery that was on its way already, or is held."""


def resend_job(
    tracker: Tracker, job_id: int, destinations: Sequence[DestinationSettings], actor: str, to: str | None = None
) -> list[Resent]:
    """Send the result of an infer, derive or deliver job, whether it was sent before or not.

    `destinations` are those of the configuration, and `to` names one of them. Without `to` the result goes to the
    destination of a deliver job, and to all destinations from another job. Raises NotFoundError when there is no such
    job, result or destination, and TransitionError when the result is of series that have grown since.
    """
    now = tracker.clock()
    with tracker.write() as session:
        job = _job(session, job_id)
        if job.kind not in _WITH_RESULT:
            raise NotFoundError(
                f"job {job_id} is a {job.kind} job; infer, derive and deliver jobs have a result to send"
            )
        made = select(Job).where(Job.key == steps.result_of(job)[0])
        infer = session.scalars(made.with_for_update()).one_or_none()
        if infer is None or infer.state is not State.DONE:
            raise NotFoundError(f"job {job_id} has no result to send yet; see: diffmsr-node queue show {job_id}")
        if queue.outgrown(session, infer):
            raise _outgrown(infer)
        chosen = _chosen(destinations, to or job.destination)
        return [_resend(tracker, session, now, infer, destination, actor) for destination in chosen]


def resend_study(
    tracker: Tracker, study_uid: str, destinations: Sequence[DestinationSettings], actor: str, to: str | None = None
) -> list[Resent]:
    """Send every result of a study that no later match has superseded, to all destinations or to the one that `to` names.
    NotFoundError when there is none."""
    now = tracker.clock()
    with tracker.write() as session:
        chosen = _chosen(destinations, to)
        sent = []
        for infer in _results(session, study_uid):
            for destination in chosen:
                known = _delivery(session, infer, destination)
                if known is None or known.state is not State.CANCELLED or known.error != SUPERSEDED:
                    sent.append(_resend(tracker, session, now, infer, destination, actor))
        if not sent:
            raise NotFoundError(f"study {study_uid} has no result to send; see: diffmsr-node explain {study_uid}")
        return sent


def _chosen(destinations: Sequence[DestinationSettings], name: str | None) -> list[DestinationSettings]:
    chosen = [d for d in destinations if name is None or d.name == name]
    if not chosen:
        if not destinations:
            raise NotFoundError("there is nowhere to send to: no [[destinations]] are configured")
        raise NotFoundError(f"no [[destinations]] is named {name!r}; known: {', '.join(d.name for d in destinations)}")
    return chosen


def _results(session: Session, study_uid: str) -> Iterator[Job]:
    """The results of a study that are neither outgrown nor replaced by another result."""
    done = select(Job).where(Job.study_uid == study_uid, Job.kind == Kind.INFER, Job.state == State.DONE)
    rows = session.scalars(done.order_by(Job.id).with_for_update()).all()
    current = [infer for infer in rows if not queue.outgrown(session, infer)]
    replaced = {infer.payload.get("replaces") for infer in current}
    yield from (infer for infer in current if infer.key not in replaced)


def _delivery(session: Session, infer: Job, destination: DestinationSettings) -> Job | None:
    key = _new(infer, destination).key
    return session.scalars(select(Job).where(Job.key == key).with_for_update()).one_or_none()


def _new(infer: Job, destination: DestinationSettings) -> NewJob:
    request = PairRequest.model_validate(infer.payload)
    new = steps.deliver_job(infer.key, request, destination.name, destination.max_attempts)
    return replace(new, revision=infer.revision)


def _resend(
    tracker: Tracker, session: Session, now: datetime, infer: Job, destination: DestinationSettings, actor: str
) -> Resent:
    job = _delivery(session, infer, destination)
    if job is None:
        derive = session.scalars(
            select(Job.id).where(Job.parent_id == infer.id, Job.kind == Kind.DERIVE)
        ).one_or_none()  # fmt: skip
        sentence = "delivery requested by an administrator"
        new = _new(infer, destination)
        job = transitions.add(session, now, new, State.READY, actor, sentence, parent_id=derive or infer.id)
        _audit(tracker, session, job, actor, sentence)
    elif job.state in FINISHED:
        deliveries.forget(session, job)
        transitions.begin_anew(job)
        job.error, job.revision = None, infer.revision
        transitions.make_due(session, job, now)
        sentence = "redelivery requested by an administrator"
        transitions.move(session, now, job, State.READY, actor, sentence)
        _audit(tracker, session, job, actor, sentence)
    return Resent(job.id, destination.name, job.state)


# ---------------------------------------------------------------------- to replay


def replay(tracker: Tracker, job_id: int, actor: str) -> int:
    """Have the study of an infer, derive or deliver job super-resolved again, and compared with what was kept; the id of
    the job that does so. A replay of the study that has not begun yet is that job. Raises NotFoundError when there is no
    such job, or it has no result."""
    now = tracker.clock()
    with tracker.write() as session:
        job = _job(session, job_id)
        if job.kind not in _WITH_RESULT:
            raise NotFoundError(f"job {job_id} is a {job.kind} job; only what has a result can be replayed")
        waits = select(Job).where(Job.kind == Kind.REPLAY, Job.study_uid == job.study_uid, Job.state == State.READY)
        known = session.scalars(waits).first()
        if known is not None:
            return known.id
        new = steps.replay_job(job.study_uid, now)
        sentence = "replay requested by an administrator"
        made = transitions.add(session, now, new, State.READY, actor, sentence)
        _audit(tracker, session, made, actor, sentence)
        return made.id
