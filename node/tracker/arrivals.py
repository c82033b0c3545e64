"""Records what the receiver has made durable, and opens the match of its study again."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, Integer, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from node.errors import StorageError
from node.tracker import instances, studies, transitions
from node.tracker.audit import Action, audit
from node.tracker.database import DatabaseError
from node.tracker.handle import Tracker
from node.tracker.outcomes import NewJob
from node.tracker.states import LEASED, Kind, State, allowed
from node.tracker.tables import Base, Instance, Job, Series, Study

if TYPE_CHECKING:
    from node.dicom.attributes import Header

MATCH_ATTEMPTS = 5

COUNTED_QUIET_S = 1.0
"""How long a series has to be quiet when as many instances are here as the scanner said: the count may be wrong."""

_LOST = "E_STORED_"
"""What the error begins with when a job failed because the archive had lost what it needs."""


_instance, _series, _job, _study = (Base.metadata.tables[name] for name in ("instance", "series", "job", "study"))

# Made once: SQLAlchemy takes longer to make a statement than the database to execute it.
_ENTER = insert(_instance)
_EXPECTED = func.coalesce(bindparam("said", type_=Integer), _series.c.expected)
_COUNT_IN_SERIES = (
    update(_series)
    .where(
        _series.c.study_uid == bindparam("study"),
        _series.c.series_uid == bindparam("series"),
        _series.c.instances > 0,
        _series.c.instances + bindparam("more") != func.coalesce(_EXPECTED, -1),
    )
    .values(instances=_series.c.instances + bindparam("more"), expected=_EXPECTED, last_received_at=bindparam("now"))
)
_COUNT_IN_MATCH = (
    update(_job)
    .where(_job.c.key == bindparam("match"), _job.c.state == State.RECEIVING, _job.c.next_attempt_at <= bindparam("at"))
    .values(revision=_job.c.revision + bindparam("more"))
)
_COUNT_IN_STUDY = (
    update(_study)
    .where(
        _study.c.study_uid == bindparam("study"),
        _study.c.purged_at.is_(None),
        _study.c.leftovers.is_(None),
        or_(_study.c.labelled, bindparam("unlabelled_is_fine", type_=Boolean)),
    )
    .values(
        instances=_study.c.instances + bindparam("more"),
        size=_study.c.size + bindparam("bytes"),
        last_received_at=bindparam("now"),
    )
)


@dataclass(slots=True)
class Arrival:
    """What the receiver knows about an instance once its file is durable."""

    sop_uid: str
    series_uid: str
    study_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    key: str
    sha256: str
    size: int
    source: str
    expected: int | None = None
    header: "Callable[[], Header] | None" = None
    """Reads what its study and series are labelled by, when they are new; None where [node] index_patient forbids labels."""
    purges: int | None = 0
    """How often the study had been purged before the file was kept, as `look_up` said. None: what was kept is in the log of
    arrivals, which a purge does not touch."""


@dataclass(frozen=True)
class KnownInstance:
    """What the tracker knows already when an instance comes."""

    instance: Instance | None
    purges: int


def look_up(tracker: Tracker, study_uid: str, sop_uid: str) -> KnownInstance:
    """What is known of an instance. Call this before its file is kept. StorageError while its study is being purged."""
    with tracker.read() as session:
        study = session.get(Study, study_uid)
        one = instances.current().where(Instance.study_uid == study_uid, Instance.sop_uid == sop_uid)
        instance = session.scalars(one).one_or_none()
    if study is not None and study.leftovers is not None:
        raise StorageError(f"study {study_uid} is being purged; the sender may try again")
    return KnownInstance(instance, 0 if study is None else study.purges)


def was_purged(tracker: Tracker, study_uid: str, since: datetime) -> bool:
    """Whether a study was purged after that time, or is being purged."""
    with tracker.read() as session:
        study = session.get(Study, study_uid)
    return study is not None and (study.leftovers is not None or (study.purged_at or since) > since)


def is_purged(tracker: Tracker, study_uid: str) -> bool:
    """Whether a study was purged and not received again, or is being purged."""
    with tracker.read() as session:
        study = session.get(Study, study_uid)
    return study is not None and (study.leftovers is not None or study.purged_at is not None)


def record(tracker: Tracker, arrival: Arrival, quiet_s: float, *, durable: bool = True) -> bool:
    """Enter an instance whose file is durable, and open the match of its study (again). The match is due when the series
    has been quiet for `quiet_s` seconds, and after a second when the scanner said how many instances there are and all are here.

    Returns False when the instance was there already; nothing changes then. Raises StorageError, changing nothing, when
    the study was purged since the file was kept, so that the file may be gone, or is being purged. When it is not `durable`,
    a loss of power may undo it; the caller is able to enter the instance again.
    """
    try:
        return _record(tracker, arrival, quiet_s, durable)
    except DatabaseError as error:
        if not isinstance(error.__cause__, IntegrityError):
            raise
        # Two associations were first with the same study, on a database with several writers: the row is there now.
        return _record(tracker, arrival, quiet_s, durable)


def _record(tracker: Tracker, arrival: Arrival, quiet_s: float, durable: bool) -> bool:
    now = tracker.clock()
    with tracker.write(durable=durable) as session:
        latest = session.scalars(instances.versions(arrival.study_uid, arrival.sop_uid).limit(1)).one_or_none()
        if latest is not None and latest.replaced_at is None:
            return False
        version = 1 if latest is None else latest.version + 1
        session.add(Instance(**(_row(arrival, now) | {"version": version})))
        series = session.get(Series, (arrival.study_uid, arrival.series_uid), with_for_update=True)
        if series is None:
            series = Series(series_uid=arrival.series_uid, study_uid=arrival.study_uid, instances=0)
            session.add(series)
            which = {"series": arrival.series_uid, "sop_class": arrival.sop_class_uid}
            audit(tracker, Action.STORED, arrival.source, arrival.study_uid, which, session)
        series.instances += 1
        series.expected = arrival.expected or series.expected
        series.last_received_at = now
        _reopen(
            session,
            now,
            arrival,
            now + timedelta(seconds=min(quiet_s, COUNTED_QUIET_S) if series.complete else quiet_s),
        )
        studies.received(session, now, arrival.study_uid, arrival.purges, series, arrival.size, arrival.header)
    return True


def record_further(tracker: Tracker, arrivals: Sequence[Arrival], quiet_s: float) -> bool:
    """Enter instances that add nothing but themselves, all in one short transaction that a loss of power may undo, as `record`
    does when it is not durable. False, changing nothing, when one of them means more: it is there already, it begins a
    series or completes one, its study is being purged, or its match waits for nothing."""
    now = tracker.clock()
    studies = Counter(arrival.study_uid for arrival in arrivals)
    series = Counter((arrival.study_uid, arrival.series_uid) for arrival in arrivals)
    try:
        # Rows are locked in one order by all transactions: series, jobs, studies, each by UID. See studies.py.
        with tracker.database.transaction(durable=False, patience_s=tracker.patience_s) as connection:
            connection.execute(_ENTER, [_row(arrival, now) for arrival in arrivals])
            changes = [(_COUNT_IN_SERIES, _of_series(arrivals, *uids, series[uids], now)) for uids in sorted(series)]
            due = now + timedelta(seconds=quiet_s)
            changes += [
                (_COUNT_IN_MATCH, {"match": f"match:{uid}", "more": studies[uid], "at": due}) for uid in sorted(studies)
            ]
            changes += [(_COUNT_IN_STUDY, _of_study(arrivals, uid, now)) for uid in sorted(studies)]
            for change, values in changes:
                if connection.execute(change, values).rowcount != 1:
                    raise _MeansMoreError
    except _MeansMoreError:
        return False
    except DatabaseError as error:
        if not isinstance(error.__cause__, IntegrityError):
            raise
        return False
    return True


class _MeansMoreError(Exception):
    """An arrival changes more than counts."""


def _row(arrival: Arrival, now: datetime) -> dict[str, Any]:
    return {
        "sop_uid": arrival.sop_uid, "series_uid": arrival.series_uid, "study_uid": arrival.study_uid, "version": 1,
        "sop_class_uid": arrival.sop_class_uid, "transfer_syntax_uid": arrival.transfer_syntax_uid, "key": arrival.key,
        "sha256": arrival.sha256, "size": arrival.size, "source": arrival.source, "received_at": now,
    }  # fmt: skip


def _of_series(
    arrivals: Sequence[Arrival], study_uid: str, series_uid: str, more: int, now: datetime
) -> dict[str, Any]:
    mine = [a for a in arrivals if (a.study_uid, a.series_uid) == (study_uid, series_uid)]
    said = next((a.expected for a in reversed(mine) if a.expected), None)
    return {"study": study_uid, "series": series_uid, "more": more, "said": said, "now": now}


def _of_study(arrivals: Sequence[Arrival], study_uid: str, now: datetime) -> dict[str, Any]:
    mine = [a for a in arrivals if a.study_uid == study_uid]
    labelled = all(a.header is None for a in mine)
    size = sum(a.size for a in mine)
    return {"study": study_uid, "more": len(mine), "bytes": size, "now": now, "unlabelled_is_fine": labelled}


def repair(tracker: Tracker, arrival: Arrival, quiet_s: float) -> None:
    """Record that an instance whose file was lost has come again: the match of its study is opened again, and the jobs
    that failed without it are tried again."""
    now = tracker.clock()
    with tracker.write() as session:
        row = session.scalars(instances.versions(arrival.study_uid, arrival.sop_uid).limit(1).with_for_update()).one()
        row.key, row.sha256, row.size = arrival.key, arrival.sha256, arrival.size
        row.transfer_syntax_uid = arrival.transfer_syntax_uid
        _reopen(session, now, arrival, now + timedelta(seconds=quiet_s))
        failed = select(Job).where(
            Job.study_uid == arrival.study_uid, Job.state == State.FAILED, Job.error.startswith(_LOST)
        )
        for job in session.scalars(failed.with_for_update()).all():
            transitions.begin_anew(job)
            job.error = None
            transitions.make_due(session, job, now)
            transitions.move(session, now, job, State.READY, arrival.source, "a lost instance was received again")
        audit(
            tracker, Action.REPAIRED, arrival.source, arrival.study_uid, {"sop_instance": arrival.sop_uid}, session
        )  # fmt: skip


def _reopen(session: Session, now: datetime, arrival: Arrival, due: datetime) -> None:
    reopen(session, now, arrival.study_uid, arrival.source, due, "another instance of the study received")


def reopen(session: Session, now: datetime, study_uid: str, actor: str, due: datetime, sentence: str) -> None:
    """Bring the study's match job to `receiving`, due at `due`. One that is running or held only learns that there is
    more (its revision), and one that was cancelled stays so until an administrator retries it."""
    key = f"match:{study_uid}"
    job = session.scalars(select(Job).where(Job.key == key).with_for_update()).one_or_none()
    if job is None:
        new = NewJob(Kind.MATCH, key, study_uid, payload={}, max_attempts=MATCH_ATTEMPTS, revision=1)
        first = "first instance of the study received"
        transitions.add(session, now, new, State.RECEIVING, actor, first, due=due)
        return
    job.revision += 1
    if job.state is State.RECEIVING or job.state in LEASED:
        # Of several series, the first to fall quiet is looked at first; the match then says when to look again.
        transitions.make_due(session, job, min(due, job.next_attempt_at or due))
    elif allowed(job.state, State.RECEIVING):
        transitions.begin_anew(job)
        transitions.make_due(session, job, due)
        transitions.move(session, now, job, State.RECEIVING, actor, sentence)
