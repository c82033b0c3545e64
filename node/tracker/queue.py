"""How jobs move: recorded on arrival, claimed under a lease, kept by heartbeats, settled with an outcome, rescued when
their worker died. Every move is checked against `states.py` and leaves an event row.

A worker owns a job while it holds its latest fence: a claim raises the job's `fence`, so whoever claimed before, and
was given up for dead, can no longer change it.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from node.errors import LeaseLostError, NotFoundError, TransitionError
from node.tracker.database import Database, DatabaseError
from node.tracker.outcomes import Committing, Done, Failed, Matched, NewJob, Outcome, Refused, Retry
from node.tracker.states import CLAIMABLE, CLAIMED_AS, FINISHED, LEASED, Kind, State, allowed
from node.tracker.tables import Commitment, Event, Instance, Job, Series

LEASE_S = 60.0
HEARTBEAT_S = 10.0
MATCH_ATTEMPTS = 5

_SUPERSEDED = "superseded: the series it was made from changed, or match differently now"
_MEMBERS = (
    select(func.coalesce(func.sum(Series.instances), 0))
    .where(or_(Series.series_uid == Job.target_series_uid, Series.series_uid == Job.reference_series_uid))
    .correlate(Job)
    .scalar_subquery()
)
"""How many instances there are of a job's target and reference series now; compare `Job.revision`."""


@dataclass(frozen=True)
class Arrival:
    """What the receiver knows of an instance once its file is durable."""

    sop_uid: str
    series_uid: str
    study_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    sha256: str
    size: int
    source: str
    expected: int | None = None


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


class Queue:
    """The moves. `clock` gives the time, aware; tests turn it by hand."""

    def __init__(
        self, database: Database, lease_s: float = LEASE_S, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.database = database
        self.lease = timedelta(seconds=lease_s)
        self.clock = clock

    # ------------------------------------------------------------------ receive

    def find_instance(self, sop_uid: str) -> Instance | None:
        """The stored instance of that SOP instance UID."""
        with self.database.read() as session:
            return session.get(Instance, sop_uid)

    def record(self, arrival: Arrival, quiet_s: float) -> bool:
        """Enter an instance whose file is durable, and (re)open the match of its study: due when the series has been
        quiet for `quiet_s`, at once when the scanner said how many there are and all are here.

        Returns False when the instance was there already; nothing changes then.
        """
        try:
            return self._record(arrival, quiet_s)
        except DatabaseError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            # Two associations were first with the same study, on a database with several writers: the row is there now.
            return self._record(arrival, quiet_s)

    def _record(self, arrival: Arrival, quiet_s: float) -> bool:
        now = self.clock()
        with self.database.write() as session:
            if session.get(Instance, arrival.sop_uid) is not None:
                return False
            session.add(Instance(
                sop_uid=arrival.sop_uid, series_uid=arrival.series_uid, study_uid=arrival.study_uid,
                sop_class_uid=arrival.sop_class_uid, transfer_syntax_uid=arrival.transfer_syntax_uid, path=arrival.path,
                sha256=arrival.sha256, size=arrival.size, source=arrival.source, received_at=now,
            ))  # fmt: skip
            series = session.get(Series, arrival.series_uid, with_for_update=True)
            if series is None:
                series = Series(series_uid=arrival.series_uid, study_uid=arrival.study_uid, instances=0)
                session.add(series)
            series.instances += 1
            series.expected = arrival.expected or series.expected
            series.last_received_at = now
            self._reopen(session, arrival, now if series.complete else now + timedelta(seconds=quiet_s))
        return True

    def _reopen(self, session: Session, arrival: Arrival, due: datetime) -> None:
        """Bring the study's match job to `receiving`, due at `due`; one that is running or held only learns that
        there is more (its revision), and one that was cancelled stays so until an administrator retries it."""
        key = f"match:{arrival.study_uid}"
        job = session.scalars(select(Job).where(Job.key == key).with_for_update()).one_or_none()
        if job is None:
            new = NewJob(Kind.MATCH, key, arrival.study_uid, payload={}, max_attempts=MATCH_ATTEMPTS, revision=1)
            self._add(
                session, new, State.RECEIVING, due, actor=arrival.source, why="first instance of the study received"
            )
            return
        job.revision += 1
        state = job.state
        if state is State.RECEIVING or state in LEASED:
            # Of several series, the first to fall quiet is looked at first; the match then says when to look again.
            job.next_attempt_at = min(due, job.next_attempt_at or due)
        elif allowed(state, State.RECEIVING):
            job.attempts = 0
            job.next_attempt_at = due
            self._move(session, job, State.RECEIVING, arrival.source, "another instance of the study received")

    def ask(self, new: NewJob, actor: str, delay_s: float = 0) -> State:
        """Ask for work that no other job led to, due after `delay_s`; the state of the job for it, new or old."""
        with self.database.write() as session:
            known = session.scalars(select(Job.state).where(Job.key == new.key)).one_or_none()
            if known is None:
                due = self.clock() + timedelta(seconds=delay_s)
                self._add(session, new, State.READY, due, actor, "asked for")
            return known or State.READY

    # ------------------------------------------------------------------ work

    def claim(self, kind: Kind, worker: str) -> Claim | None:
        """Take the job of that kind that has been due longest, in one statement; None when none is due.

        A job for a pair whose series have grown since they were matched is passed over: the next match of its study
        either confirms or supersedes it.
        """
        now = self.clock()
        due = select(Job.id).where(
            Job.kind == kind, Job.state.in_(CLAIMABLE), or_(Job.next_attempt_at.is_(None), Job.next_attempt_at <= now)
        )
        if kind is not Kind.MATCH:
            due = due.where(Job.revision == _MEMBERS)
        due = due.order_by(Job.next_attempt_at, Job.id).limit(1).with_for_update(skip_locked=True)
        statement = (
            update(Job)
            .where(Job.id == due.scalar_subquery())
            .values(
                prior_state=Job.state, state=CLAIMED_AS[kind], worker=worker, fence=Job.fence + 1, attempts=Job.attempts + 1,
                lease_expires_at=now + self.lease, next_attempt_at=None, progress=0, progress_total=0, updated_at=now,
            )
            .returning(Job)
            .execution_options(synchronize_session=False)
        )  # fmt: skip
        with self.database.write() as session:
            job = session.scalars(statement).one_or_none()
            if job is None:
                return None
            self._log(
                session,
                job.id,
                now,
                worker,
                job.prior_state,
                job.state,
                f"attempt {job.attempts} of {job.max_attempts}",
            )
            return Claim(
                job_id=job.id, kind=job.kind, fence=job.fence, worker=worker, key=job.key, study_uid=job.study_uid,
                payload=job.payload, revision=job.revision, attempts=job.attempts,
                was=job.prior_state or State.READY,
            )  # fmt: skip

    def heartbeat(self, claim: Claim, progress: tuple[int, int] | None = None) -> None:
        """Say that the worker is alive, and how far it is (done, of); LeaseLostError when the job is no longer its."""
        now = self.clock()
        values: dict[str, Any] = {"lease_expires_at": now + self.lease}
        if progress is not None:
            values |= {"progress": progress[0], "progress_total": progress[1], "updated_at": now}
        with self.database.write() as session:
            held = (
                update(Job)
                .where(Job.id == claim.job_id, Job.fence == claim.fence, Job.state.in_(LEASED))
                .values(**values)
            )
            if session.connection().execute(held).rowcount == 0:
                raise LeaseLostError(f"job {claim.job_id} was taken over, cancelled or superseded")

    def settle(self, claim: Claim, outcome: Outcome) -> State:
        """End an attempt; returns the job's new state. All of it, next jobs included, is one transaction.

        Raises LeaseLostError, changing nothing, when the job is no longer this worker's.
        """
        now = self.clock()
        with self.database.write() as session:
            job = session.get(Job, claim.job_id, with_for_update=True)
            if job is None or job.fence != claim.fence or job.state not in LEASED:
                raise LeaseLostError(f"job {claim.job_id} was taken over, cancelled or superseded")
            job.error = None
            match outcome:
                case Done(why, result, then):
                    job.result = result
                    for new in then:  # a match may have confirmed the pair, with more instances, while it was worked on
                        self._want(session, replace(new, revision=job.revision), parent_id=job.id, actor=claim.worker)
                    self._move(session, job, State.DONE, claim.worker, why)
                case Matched() | Refused() if claim.kind is Kind.MATCH:
                    self._settle_match(session, job, claim, outcome)
                case Matched():
                    raise TransitionError("only a match ends in Matched")
                case Refused(code, sentence, result):
                    job.result = result
                    job.error = f"{code}: {sentence}"
                    self._move(session, job, State.REFUSED, claim.worker, job.error)
                case Committing(why, transaction_uid, patience_s):
                    # The report may have come before the one who asked for it has settled.
                    answered = session.get_one(Commitment, transaction_uid).answered_at is not None
                    job.error = why
                    if job.attempts > job.max_attempts:
                        self._move(session, job, State.FAILED, claim.worker, f"asked too often: {why}")
                    else:
                        job.next_attempt_at = now if answered else now + timedelta(seconds=patience_s)
                        self._move(session, job, State.COMMITTING, claim.worker, why)
                case Retry(error) | Failed(error) if claim.kind is Kind.MATCH and job.revision != claim.revision:
                    job.attempts, job.error = 0, error  # as for an instance that comes after the failure
                    why = f"more instances arrived while the match failed: {error}"
                    self._move(session, job, State.RECEIVING, claim.worker, why)
                case Retry(error, delay_s):
                    job.error = error
                    if job.attempts >= job.max_attempts:
                        self._move(
                            session, job, State.FAILED, claim.worker, f"attempt {job.attempts} was the last: {error}"
                        )
                    else:
                        job.next_attempt_at = now + timedelta(seconds=delay_s)
                        self._move(session, job, State.RETRY_WAIT, claim.worker, error)
                case Failed(error):
                    job.error = error
                    self._move(session, job, State.FAILED, claim.worker, error)
            return job.state

    def _settle_match(self, session: Session, job: Job, claim: Claim, outcome: Matched | Refused) -> None:
        """A match ends `done`, `waiting-pair` or `refused`; in `receiving` when more arrived while it ran."""
        job.result = outcome.verdict if isinstance(outcome, Matched) else outcome.result
        receiving = job.revision != claim.revision or (isinstance(outcome, Matched) and outcome.receiving)
        self._supersede(session, job.study_uid, outcome.wanted, receiving, claim.worker)
        for new in outcome.wanted:
            self._want(session, new, parent_id=job.id, actor=claim.worker)
        job.attempts = 0
        if job.revision != claim.revision:  # `record` has set when to look again
            self._move(
                session, job, State.RECEIVING, claim.worker, "more instances arrived while the study was matched"
            )
        elif isinstance(outcome, Refused):
            job.error = f"{outcome.code}: {outcome.sentence}"
            self._move(session, job, State.REFUSED, claim.worker, job.error)
        else:
            job.next_attempt_at = outcome.look_again_at
            if outcome.receiving:
                state = State.RECEIVING
            elif outcome.waiting:
                state = State.WAITING_PAIR
                job.error = outcome.why
            else:
                state = State.DONE
            self._move(session, job, state, claim.worker, outcome.why)

    def _supersede(
        self, session: Session, study_uid: str, wanted: Iterable[NewJob], receiving: bool, actor: str
    ) -> None:
        """Cancel the study's unfinished work that the newest match no longer asks for, confirm what it still does, and
        take up again what an earlier match had given up."""
        revisions = {new.key: new.revision for new in wanted}
        infers = session.scalars(
            select(Job).where(Job.study_uid == study_uid, Job.kind == Kind.INFER).with_for_update()
        ).all()
        for infer in infers:
            children = session.scalars(
                select(Job).where(Job.parent_id == infer.id, Job.kind == Kind.DELIVER).with_for_update()
            ).all()
            for job in [infer, *children]:
                if infer.key in revisions:
                    job.revision = revisions[infer.key]
                    if job.state is State.CANCELLED and job.error == _SUPERSEDED:
                        self._take_up(session, job, actor)
                elif job.state not in FINISHED:
                    job.next_attempt_at = None
                    job.error = _SUPERSEDED
                    self._move(session, job, State.CANCELLED, actor, job.error)
        fetches = select(Job).where(Job.study_uid == study_uid, Job.kind == Kind.FETCH, Job.state.not_in(FINISHED))
        for job in session.scalars(fetches.with_for_update()):
            # One that runs goes on: what it brings is of this study, and leads to the next match.
            if not receiving and job.key not in revisions and job.state not in LEASED:
                job.next_attempt_at = None
                job.error = "superseded: the study has changed since, or waits no longer"
                self._move(session, job, State.CANCELLED, actor, job.error)

    def _take_up(self, session: Session, job: Job, actor: str) -> None:
        held = job.prior_state is State.HELD
        job.attempts, job.error, job.next_attempt_at = 0, None, self.clock()
        self._move(session, job, State.READY, actor, "the series match again as they did")
        if held:
            job.error, job.next_attempt_at = "held, as it was before it was superseded", None
            self._move(session, job, State.HELD, actor, job.error)

    def _want(self, session: Session, new: NewJob, parent_id: int, actor: str) -> None:
        """Create the job, unless there is one for the same work already."""
        if session.scalars(select(Job.id).where(Job.key == new.key)).one_or_none() is not None:
            return
        if new.held is not None:
            self._add(session, new, State.HELD, None, actor, new.held, parent_id)
        else:
            self._add(session, new, State.READY, self.clock(), actor, "asked for", parent_id)

    # ------------------------------------------------------------------ care

    def rescue(self, dead: Callable[[str], bool] = lambda worker: False, actor: str = "housekeep") -> int:
        """Free jobs whose lease ran out, or whose worker is known to be `dead`; returns how many.

        The attempt counts: a job that kills its worker every time fails when its attempts are used up.
        """
        now = self.clock()
        rescued = 0
        with self.database.write() as session:
            leased = select(Job).where(Job.state.in_(LEASED)).with_for_update(skip_locked=True)
            for job in session.scalars(leased).all():
                expired = job.lease_expires_at is not None and job.lease_expires_at < now
                if not expired and not dead(job.worker or ""):
                    continue
                rescued += 1
                why = f"its worker {job.worker} died in attempt {job.attempts} of {job.max_attempts}"
                if job.attempts >= job.max_attempts:
                    job.error = why
                    self._move(session, job, State.FAILED, actor, why)
                else:
                    job.next_attempt_at = now
                    self._move(session, job, State.READY, actor, why)
        return rescued

    def release_lease(self, claim: Claim) -> None:
        """Give a job back untried, when the service stops: the attempt does not count."""
        with self.database.write() as session:
            job = session.get(Job, claim.job_id, with_for_update=True)
            if job is not None and job.fence == claim.fence and job.state in LEASED:
                job.attempts -= 1
                job.next_attempt_at = self.clock()
                self._move(session, job, State.READY, claim.worker, "the service is stopping")

    def retry(self, job_id: int, actor: str) -> None:
        """Try a failed, refused, cancelled, waiting or held job again now, with all its attempts."""

        def again(job: Job) -> str:
            job.attempts = 0
            job.error = None
            job.next_attempt_at = self.clock()
            return "retried by an administrator"

        self._administer(job_id, State.READY, actor, again)

    def cancel(self, job_id: int, actor: str) -> None:
        """Stop a job that is not running."""

        def stop(job: Job) -> str:
            job.next_attempt_at = None
            return "cancelled by an administrator"

        self._administer(job_id, State.CANCELLED, actor, stop)

    def hold(self, job_id: int, actor: str) -> None:
        """Keep a job that has not begun, or waits to be tried again, from going on until it is released."""

        def keep(job: Job) -> str:
            job.next_attempt_at = None
            job.error = "held by an administrator"
            return job.error

        self._administer(job_id, State.HELD, actor, keep)

    def release(self, job_id: int, actor: str) -> None:
        """Let a held job go on its way now."""

        def go_on(job: Job) -> str:
            if job.state is not State.HELD:
                raise TransitionError(f"job {job.id} is {job.state}, not held")
            job.error = None
            job.next_attempt_at = self.clock()
            return "released by an administrator"

        self._administer(job_id, State.READY, actor, go_on)

    def _administer(self, job_id: int, state: State, actor: str, change: Callable[[Job], str]) -> None:
        with self.database.write() as session:
            job = session.get(Job, job_id, with_for_update=True)
            if job is None:
                raise NotFoundError(f"there is no job {job_id}; see: diffmsr-node queue list")
            if job.state in LEASED:
                raise TransitionError(f"job {job_id} is {job.state} right now; wait until it ends, or stop the service")
            if not allowed(job.state, state):
                raise TransitionError(f"job {job_id} is {job.state}; it cannot become {state}")
            if state is State.READY and job.state in FINISHED and self._outgrown(session, job):
                raise TransitionError(
                    f"job {job_id} is {job.state}, and its series have grown since; what to make of them now, the newest "
                    "match of the study says: diffmsr-node queue list"
                )
            self._move(session, job, state, actor, change(job))

    @staticmethod
    def _outgrown(session: Session, job: Job) -> bool:
        """Whether a claim would pass the job over, and no match to come would look at it."""
        if job.kind is Kind.MATCH:
            return False
        return session.scalar(select(Job.id).where(Job.id == job.id, Job.revision != _MEMBERS)) is not None

    # ------------------------------------------------------------------ bookkeeping

    def _add(
        self,
        session: Session,
        new: NewJob,
        state: State,
        due: datetime | None,
        actor: str,
        why: str,
        parent_id: int | None = None,
    ) -> None:
        now = self.clock()
        job = Job(
            kind=new.kind, key=new.key, state=state, study_uid=new.study_uid, target_series_uid=new.target_series_uid,
            reference_series_uid=new.reference_series_uid, parent_id=parent_id, payload=new.payload, revision=new.revision,
            max_attempts=new.max_attempts, next_attempt_at=due, error=new.held, created_at=now, updated_at=now,
        )  # fmt: skip
        session.add(job)
        session.flush()
        self._log(session, job.id, now, actor, None, state, why)

    def _move(self, session: Session, job: Job, state: State, actor: str, why: str) -> None:
        before = job.state
        if not allowed(before, state):
            raise TransitionError(f"job {job.id} is {before}; it cannot become {state}")
        now = self.clock()
        job.prior_state, job.state, job.updated_at = before, state, now
        if state not in LEASED:
            job.worker = job.lease_expires_at = None
        self._log(session, job.id, now, actor, before, state, why)

    @staticmethod
    def _log(
        session: Session, job_id: int, at: datetime, actor: str, before: State | None, after: State, why: str
    ) -> None:
        session.add(Event(job_id=job_id, at=at, actor=actor, from_state=before, to_state=after, why=why))
