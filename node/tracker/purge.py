"""Purge: remove a study and all that was made of it, except its row in `study` and its rows in the audit trail."""

from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from node.archive.facade import Archive
from node.archive.layout import keys_of_result, study_prefix
from node.errors import NotFoundError, TransitionError
from node.tracker.audit import Action, audit
from node.tracker.handle import Tracker
from node.tracker.labels import clear_labels
from node.tracker.states import FINISHED, LEASED, Kind
from node.tracker.studies import StudyState
from node.tracker.tables import Commitment, Delivery, Event, Instance, Job, Series, Study

SETTLED = (StudyState.DELIVERED, StudyState.DONE, StudyState.REFUSED, StudyState.FAILED, StudyState.CANCELLED)
"""States of a study in which no work on it is open."""


def settled_before(tracker: Tracker, moment: datetime) -> list[str]:
    """The settled studies whose last instance came before `moment`; the oldest first."""
    query = select(Study.study_uid).where(Study.state.in_(SETTLED), Study.last_received_at < moment)
    with tracker.read() as session:
        return list(session.scalars(query.order_by(Study.last_received_at, Study.study_uid)))


def purge(
    tracker: Tracker, archive: Archive, study_uid: str, actor: str, unless_received_after: datetime | None = None
) -> None:
    """Remove the rows of a study, then its files. When it is sent again it is received and processed as if it were new.

    In between the study takes no instances, and `resume` goes on after a crash. Raises NotFoundError when there is no
    such study, TransitionError when one of its jobs is being worked on, or more of it came after `unless_received_after`.
    """
    with tracker.write() as session:  # rows are locked in the order of an arrival: series, jobs, study
        session.scalars(select(Series).where(Series.study_uid == study_uid).with_for_update()).all()
        jobs = session.scalars(select(Job).where(Job.study_uid == study_uid).order_by(Job.id).with_for_update()).all()
        study = session.get(Study, study_uid, with_for_update=True)
        if study is None:
            raise NotFoundError(f"no study {study_uid} was received")
        if unless_received_after is not None and study.last_received_at > unless_received_after:
            raise TransitionError(f"more of study {study_uid} was received just now")
        busy = next((job for job in jobs if job.state in LEASED), None)
        if busy is not None:
            raise TransitionError(
                f"job {busy.id} of study {study_uid} is {busy.state} right now; purge it when that ends"
            )
        results = [job.key for job in jobs if job.kind is Kind.INFER]
        removed = {"series": study.series, "instances": study.instances, "bytes": study.size, "results": len(results)}
        audit(tracker, Action.PURGED, actor, study_uid, removed, session)
        # The report on a storage commitment is still owed, whatever it says then.
        _remove_rows(session, study_uid, [j.id for j in jobs if j.kind is not Kind.COMMIT or j.state in FINISHED])
        study.leftovers = [study_prefix(study_uid), *(key for name in results for key in keys_of_result(name))]
        study.purges += 1
        study.state, study.keep_until = StudyState.PURGING, None
        study.series = study.instances = study.size = 0
        clear_labels(study)
    remove_leftovers(tracker, archive, study_uid)


def resume(tracker: Tracker, archive: Archive) -> int:
    """Finish the purges, and the drops of series, that a crash has interrupted; returns how many."""
    with tracker.read() as session:
        study_uids = list(session.scalars(select(Study.study_uid).where(Study.leftovers.is_not(None))))
    for study_uid in study_uids:
        remove_leftovers(tracker, archive, study_uid)
    return len(study_uids)


def _remove_rows(session: Session, study_uid: str, job_ids: list[int]) -> None:
    for table in (Delivery, Commitment, Event):
        session.execute(delete(table).where(table.job_id.in_(job_ids)))
    session.execute(update(Job).where(Job.id.in_(job_ids)).values(parent_id=None))
    session.execute(delete(Job).where(Job.id.in_(job_ids)))
    session.execute(delete(Instance).where(Instance.study_uid == study_uid))
    session.execute(delete(Series).where(Series.study_uid == study_uid))


def remove_leftovers(tracker: Tracker, archive: Archive, study_uid: str) -> None:
    """Remove from the archive what a purge, or the drop of a series, has left there; then the study takes instances again."""
    with tracker.read() as session:
        leftovers = session.get_one(Study, study_uid).leftovers
    for key in leftovers or ():
        archive.delete(key)
    now = tracker.clock()
    with tracker.write() as session:
        study = session.get_one(Study, study_uid, with_for_update=True)
        if study.leftovers is None:
            return
        study.leftovers = None
        if session.scalars(select(Series.study_uid).where(Series.study_uid == study_uid)).first() is None:
            study.purged_at, study.state = now, StudyState.PURGED
