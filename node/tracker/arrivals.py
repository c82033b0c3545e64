"""What the receiver has made durable: recorded, and the match of its study opened again."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from node.tracker import transitions
from node.tracker.database import DatabaseError
from node.tracker.handle import Tracker
from node.tracker.outcomes import NewJob
from node.tracker.states import LEASED, Kind, State, allowed
from node.tracker.tables import Instance, Job, Series

MATCH_ATTEMPTS = 5


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


def find_instance(tracker: Tracker, sop_uid: str) -> Instance | None:
    """The stored instance of that SOP instance UID."""
    with tracker.read() as session:
        return session.get(Instance, sop_uid)


def record(tracker: Tracker, arrival: Arrival, quiet_s: float) -> bool:
    """Enter an instance whose file is durable, and open the match of its study (again). The match is due when the series
    has been quiet for `quiet_s` seconds, and at once when the scanner said how many instances there are and all are here.

    Returns False when the instance was there already; nothing changes then.
    """
    try:
        return _record(tracker, arrival, quiet_s)
    except DatabaseError as error:
        if not isinstance(error.__cause__, IntegrityError):
            raise
        # Two associations were first with the same study, on a database with several writers: the row is there now.
        return _record(tracker, arrival, quiet_s)


def _record(tracker: Tracker, arrival: Arrival, quiet_s: float) -> bool:
    now = tracker.clock()
    with tracker.write() as session:
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
        _reopen(session, now, arrival, now if series.complete else now + timedelta(seconds=quiet_s))
    return True


def _reopen(session: Session, now: datetime, arrival: Arrival, due: datetime) -> None:
    """Bring the study's match job to `receiving`, due at `due`. One that is running or held only learns that there is
    more (its revision), and one that was cancelled stays so until an administrator retries it."""
    key = f"match:{arrival.study_uid}"
    job = session.scalars(select(Job).where(Job.key == key).with_for_update()).one_or_none()
    if job is None:
        new = NewJob(Kind.MATCH, key, arrival.study_uid, payload={}, max_attempts=MATCH_ATTEMPTS, revision=1)
        first = "first instance of the study received"
        transitions.add(session, now, new, State.RECEIVING, arrival.source, first, due=due)
        return
    job.revision += 1
    if job.state is State.RECEIVING or job.state in LEASED:
        # Of several series, the first to fall quiet is looked at first; the match then says when to look again.
        transitions.make_due(session, job, min(due, job.next_attempt_at or due))
    elif allowed(job.state, State.RECEIVING):
        job.attempts = 0
        transitions.make_due(session, job, due)
        transitions.move(
            session, now, job, State.RECEIVING, arrival.source, "another instance of the study received"
        )  # fmt: skip
