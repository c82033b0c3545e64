"""Work that waits and that nobody will take: found for people to see, and brought to an end where that needs no person.

A job for a pair waits when its series have changed since they were matched, because the next match decides about it. When no
match is to come, it would wait for ever. The same is true of a job whose worker died, of one that waits for a job that
failed, and of a kind that the configuration has no worker for.
"""

from collections.abc import Collection, Iterator
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session, aliased

from node.tracker import transitions
from node.tracker.arrivals import MATCH_ATTEMPTS
from node.tracker.due import GROWN
from node.tracker.handle import Tracker
from node.tracker.instances import Reader
from node.tracker.outcomes import NewJob
from node.tracker.states import CLAIMABLE, FINISHED, LEASED, Kind, State
from node.tracker.tables import Job
from node.tracker.views import View

_COMING = (CLAIMABLE | LEASED) - {State.WAITING_PAIR}
"""States of a match that will decide about the jobs of its study by itself."""


class BlockedJob(View):
    """A job that is due or in work, and that no worker takes as the node is configured and running."""

    id: int
    kind: Kind
    state: State
    study_uid: str
    why: str
    """What it waits for, in words."""
    advice: str | None
    """What a person can do; None when it ends by itself."""


def blocked(tracker: Reader, now: datetime, unserved: Collection[Kind] = ()) -> list[BlockedJob]:
    """Every job that is due and cannot be claimed, oldest first. `unserved` are the kinds that the configuration has no worker
    for."""
    with tracker.read() as session:
        return [*_grown(session, now), *_unserved(session, now, unserved), *_abandoned(session, now), *_behind(session)]


def resolve(tracker: Tracker, unserved: Collection[Kind] = (), actor: str = "housekeep") -> int:
    """Bring to an end what is blocked and needs no person: a study is matched again when its jobs wait for a match that is
    not to come, and what has no worker is cancelled. Returns how many jobs that were."""
    now = tracker.clock()
    with tracker.read() as session:  # most often there is nothing to do, and a writer would lock out all others
        grown = [found for found in _grown(session, now) if found.advice is None]
        idle = list(_unserved(session, now, unserved))
    resolved = 0
    for study_uid in sorted({found.study_uid for found in grown}):
        with tracker.write() as session:
            resolved += _match_again(session, now, study_uid, actor)
    for found in idle:
        with tracker.write() as session:
            job = session.get(Job, found.id, with_for_update=True)
            if job is not None and job.state in CLAIMABLE:
                _cancel(session, now, job, actor, found.why)
                resolved += 1
    return resolved


def _due(now: datetime) -> ColumnElement[bool]:
    return and_(Job.state.in_(CLAIMABLE), or_(Job.next_attempt_at.is_(None), Job.next_attempt_at <= now))


def _grown(session: Session, now: datetime) -> Iterator[BlockedJob]:
    """Jobs of pairs whose series have changed since the match that led to them."""
    match = aliased(Job)
    rows = (
        select(Job, match)
        .outerjoin(match, and_(match.study_uid == Job.study_uid, match.kind == Kind.MATCH))
        .where(_due(now), GROWN)
        .order_by(Job.id)
    )
    for job, decider in session.execute(rows):
        why = "its series have changed since they were matched"
        if decider is None:
            yield _of(job, f"{why}, and the study is to be matched again")
        elif decider.state in _COMING:
            if decider.state not in LEASED and decider.next_attempt_at is not None and decider.next_attempt_at > now:
                why += "; the match waits until no more instances arrive"
            yield _of(job, f"{why}; match job {decider.id} decides next")
        elif decider.state is State.HELD:
            yield _of(job, f"{why}, and match job {decider.id} is held", f"diffmsr-node queue release {decider.id}")
        elif decider.state is State.FAILED:
            yield _of(job, f"{why}, and match job {decider.id} failed", f"diffmsr-node queue retry {decider.id}")
        else:
            yield _of(job, f"{why}, and match job {decider.id} is {decider.state}; the study is to be matched again")


def _unserved(session: Session, now: datetime, kinds: Collection[Kind]) -> Iterator[BlockedJob]:
    for job in session.scalars(select(Job).where(_due(now), Job.kind.in_(kinds)).order_by(Job.id)):
        yield _of(job, f"the configuration has no worker for {job.kind} jobs any more")


def _abandoned(session: Session, now: datetime) -> Iterator[BlockedJob]:
    for job in session.scalars(select(Job).where(Job.state.in_(LEASED), Job.lease_expires_at < now).order_by(Job.id)):
        yield _of(job, f"its worker {job.worker} died; housekeeping frees it")


def _behind(session: Session) -> Iterator[BlockedJob]:
    """Jobs that wait for another one that has ended, and not well."""
    maker = aliased(Job)
    rows = (
        select(Job, maker)
        .join(maker, maker.id == Job.parent_id)
        .where(Job.state == State.RETRY_WAIT, Job.error.contains("; waits for "), maker.state.in_(_ENDED_BADLY))
        .order_by(Job.id)
    )
    for job, made_by in session.execute(rows):
        act = "release" if made_by.state is State.HELD else "retry"
        advice = f"diffmsr-node queue {act} {made_by.id}"
        yield _of(job, f"it waits for {made_by.kind} job {made_by.id}, which is {made_by.state}", advice)


_ENDED_BADLY = (FINISHED - {State.DONE}) | {State.HELD}


def _of(job: Job, why: str, advice: str | None = None) -> BlockedJob:
    return BlockedJob(
        id=job.id, kind=job.kind, state=job.state, study_uid=job.study_uid, why=why, advice=advice
    )  # fmt: skip


def _match_again(session: Session, now: datetime, study_uid: str, actor: str) -> int:
    """Have a study matched again, if one of its jobs waits for that; returns how many of them there are."""
    sentence = "jobs of the study waited for a match that was not to come"
    key = f"match:{study_uid}"
    match = session.scalars(select(Job).where(Job.key == key).with_for_update()).one_or_none()
    if match is not None and match.state in _COMING | {State.HELD, State.FAILED}:
        return 0
    waiting = session.scalars(select(Job).where(Job.study_uid == study_uid, _due(now), GROWN)).all()
    if match is None:
        new = NewJob(Kind.MATCH, key, study_uid, payload={}, max_attempts=MATCH_ATTEMPTS, revision=1)
        transitions.add(session, now, new, State.RECEIVING, actor, sentence, due=now)
    elif match.state is State.CANCELLED:
        for job in waiting:
            _cancel(
                session, now, job, actor,
                f"its series have changed, and match job {match.id}, which would decide about it, was cancelled",
            )  # fmt: skip
    elif waiting:
        transitions.begin_anew(match)
        transitions.make_due(session, match, now)
        transitions.move(session, now, match, State.RECEIVING, actor, sentence)
    return len(waiting)


def _cancel(session: Session, now: datetime, job: Job, actor: str, sentence: str) -> None:
    job.next_attempt_at, job.error = None, sentence
    transitions.move(session, now, job, State.CANCELLED, actor, sentence)
