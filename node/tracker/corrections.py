"""What happens to an instance that comes again with other content: a corrected one replaces the one that is kept, and one with
other pixels is refused until an administrator drops the series."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from node.archive.facade import Archive
from node.errors import NotFoundError, StorageError, TransitionError
from node.tracker import instances, labels, purge, transitions
from node.tracker.arrivals import Arrival, reopen
from node.tracker.audit import Action, Detail, audit
from node.tracker.handle import Tracker
from node.tracker.states import FINISHED, LEASED, State
from node.tracker.tables import Instance, Job, Series, Study


def correct(tracker: Tracker, arrival: Arrival, changed: Sequence[str], quiet_s: float, version: int) -> bool:
    """Enter an instance whose attributes named in `changed` were corrected as the version after `version`, and have its
    study judged again.

    Returns False, changing nothing, when that version is no longer the one in use. Raises StorageError, changing nothing,
    when the study was purged since the file was kept.
    """
    now = tracker.clock()
    with tracker.write() as session:
        old = session.get(Instance, (arrival.study_uid, arrival.sop_uid, version), with_for_update=True)
        if old is None or old.replaced_at is not None:
            return False
        old.replaced_at = now
        session.add(Instance(
            sop_uid=arrival.sop_uid, series_uid=arrival.series_uid, study_uid=arrival.study_uid, version=version + 1,
            sop_class_uid=arrival.sop_class_uid, transfer_syntax_uid=arrival.transfer_syntax_uid, key=arrival.key,
            sha256=arrival.sha256, size=arrival.size, source=arrival.source, received_at=now,
        ))  # fmt: skip
        series = session.get_one(Series, (arrival.study_uid, arrival.series_uid), with_for_update=True)
        series.changes += 1
        series.last_received_at = now
        due = now + timedelta(seconds=quiet_s)
        reopen(session, now, arrival.study_uid, arrival.source, due, "an instance of the study was corrected")
        details: dict[str, Detail] = {
            "sop_instance": arrival.sop_uid,
            "version": version + 1,
            "attributes": list(changed),
        }
        audit(tracker, Action.CORRECTED, arrival.source, arrival.study_uid, details, session)
        session.flush()
        study = session.get_one(Study, arrival.study_uid, with_for_update=True)
        if arrival.purges is not None and study.purges != arrival.purges:
            raise StorageError(f"study {arrival.study_uid} was purged while this instance was received; send it again")
        study.last_received_at = now
        study.size += arrival.size - old.size
        if arrival.header is not None:
            header = arrival.header()
            labels.label_study(study, header)
            labels.label_series(study, series, header)
    return True


def note_conflict(tracker: Tracker, study_uid: str, series_uid: str) -> None:
    """Count that an instance of that series came again with other pixels and was refused."""
    one = (Series.study_uid == study_uid, Series.series_uid == series_uid)
    with tracker.write() as session:
        session.execute(update(Series).where(*one).values(conflicts=Series.conflicts + 1))


def studies_of_series(tracker: instances.Reader, series_uid: str) -> list[str]:
    """The studies that have instances of that series."""
    rows = select(Series.study_uid).where(Series.series_uid == series_uid, Series.instances > 0)
    with tracker.read() as session:
        return list(session.scalars(rows.order_by(Series.study_uid)))


def drop_series(tracker: Tracker, archive: Archive, study_uid: str, series_uid: str, actor: str) -> int:
    """Remove the instances of a series, so that it can be sent again with other content, and have its study judged again;
    returns how many instances that were. What was made of them and is finished stays.

    While its files are removed the study takes no instances. Raises NotFoundError when there is no such series,
    TransitionError when a job that needs it is being worked on.
    """
    now = tracker.clock()
    of_series = (Instance.study_uid == study_uid, Instance.series_uid == series_uid)
    with tracker.write() as session:  # rows are locked in the order of an arrival: series, jobs, study
        series = session.get(Series, (study_uid, series_uid), with_for_update=True)
        if series is None or not series.instances:
            raise NotFoundError(f"no series {series_uid} of study {study_uid} was received")
        _stop_work(session, now, study_uid, series_uid, actor)
        rows = session.scalars(select(Instance).where(*of_series)).all()
        kept = [row for row in rows if row.replaced_at is None]
        for row in kept:
            row.replaced_at = now  # the row stays, so that what comes next is another version
        series.changes += series.instances + 1
        series.instances, series.conflicts, series.expected = 0, 0, None
        reopen(session, now, study_uid, actor, now, "a series of the study was dropped by an administrator")
        details: dict[str, Detail] = {"series": series_uid, "instances": len(kept)}
        audit(tracker, Action.DROPPED, actor, study_uid, details, session)
        session.flush()
        study = session.get_one(Study, study_uid, with_for_update=True)
        study.instances -= len(kept)
        study.size -= sum(row.size for row in kept)
        study.series -= 1
        study.purges += 1
        study.leftovers = [*(study.leftovers or ()), *(row.key for row in rows)]
    purge.remove_leftovers(tracker, archive, study_uid)
    return len(kept)


def _stop_work(session: Session, now: datetime, study_uid: str, series_uid: str, actor: str) -> None:
    """Cancel what is not finished of the pairs that the series belongs to."""
    needing = select(Job).where(
        Job.study_uid == study_uid,
        or_(Job.target_series_uid == series_uid, Job.reference_series_uid == series_uid),
        Job.state.not_in(FINISHED),
    )
    for job in session.scalars(needing.order_by(Job.id).with_for_update()).all():
        if job.state in LEASED:
            raise TransitionError(
                f"job {job.id} of the series is {job.state} right now; drop the series when that ends"
            )
        job.next_attempt_at, job.error = None, "the series it was made from was dropped by an administrator"
        transitions.move(session, now, job, State.CANCELLED, actor, job.error)


def stored_count(tracker: instances.Reader, study_uid: str, series_uid: str | None = None) -> int:
    """How many instances of a study, or of one of its series, are kept."""
    rows = select(func.count()).select_from(Instance)
    rows = rows.where(Instance.study_uid == study_uid, Instance.replaced_at.is_(None))
    if series_uid is not None:
        rows = rows.where(Instance.series_uid == series_uid)
    with tracker.read() as session:
        return int(session.scalar(rows) or 0)
