"""Studies: one row each. Its state follows from its jobs, and is updated in the transaction that changes one of them.

The row of a study is the last that a transaction locks, whatever it does before: two transactions never wait for each
other. So a change of a job is noted first, and the rows are brought up to date just before the commit.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.errors import StorageError
from node.tracker import labels
from node.tracker.states import FINISHED, LEASED, Kind, State
from node.tracker.tables import Job, Series, Study

if TYPE_CHECKING:
    from node.dicom.attributes import Header

_BATCH = 500


class StudyState(StrEnum):
    """What has become of a study, in words for a list."""

    RECEIVING = "receiving"
    MATCHING = "matching"
    WAITING = "waiting for its partner"
    WORKING = "super-resolving"
    DELIVERING = "delivering"
    HELD = "held"
    DELIVERED = "delivered"
    DONE = "super-resolved"
    """There is a result, and nobody to deliver it to."""
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PURGING = "being purged"
    PURGED = "purged"


def received(
    session: Session,
    now: datetime,
    study_uid: str,
    purges: int | None,
    series: Series,
    size: int,
    header: "Callable[[], Header] | None",
) -> None:
    """Count an instance that has come, of a series that counts it already. `header` reads that of the instance; None where
    [node] index_patient forbids labels. The caller is at the end of its transaction. StorageError when the study was
    purged more than the `purges` times that the caller saw before it kept the file."""
    session.flush()
    study = session.get(Study, study_uid, with_for_update=True)
    if study is None:
        study = Study(
            study_uid=study_uid, first_received_at=now, state=StudyState.RECEIVING, series=0, instances=0, size=0, purges=0,
            labelled=False,
        )  # fmt: skip
        session.add(study)
    if study.leftovers is not None or purges not in (None, study.purges):
        raise StorageError(f"study {study_uid} was purged while this instance was received; the sender may try again")
    if study.purged_at is not None:
        study.first_received_at, study.purged_at = now, None
    study.last_received_at = now
    study.instances += 1
    study.size += size
    if series.instances == 1:
        study.series += 1
    if header is not None and not study.labelled:
        labels.label_study(study, header())
    if header is not None and series.instances == 1:
        labels.label_series(study, series, header())


def note_change(session: Session, job: Job) -> None:
    """A job has changed its state in this transaction. Where a worker takes on what waited for it, its study stays in the
    state it is in."""
    if job.state not in LEASED or job.kind is Kind.MATCH:
        _changed(session).add(job.study_uid)


def restate_changed(session: Session) -> None:
    """Bring the state of every study whose jobs have changed up to date. Called at the end of each transaction."""
    changed = _changed(session)
    if not changed:
        return
    session.flush()
    for study_uid in sorted(changed):
        study = session.get(Study, study_uid, with_for_update=True)
        if study is not None:
            jobs = session.scalars(select(Job).where(Job.study_uid == study_uid).order_by(Job.id)).all()
            study.state = state_of(jobs)
    changed.clear()


def state_unstated(session: Session) -> None:
    """Give a state to studies that an earlier version recorded without one."""
    unstated = list(session.scalars(select(Study.study_uid).where(Study.state == "")))
    for start in range(0, len(unstated), _BATCH):
        _changed(session).update(unstated[start : start + _BATCH])
        restate_changed(session)
        session.flush()
        session.expunge_all()


def state_of(jobs: Sequence[Job]) -> StudyState:
    """The state of a study in words, from its jobs in the order of their ids.

    What is going on comes first, then what a person has to look at, then how it ended. Of the work on one target only
    the latest counts: an earlier result of the same series, or an earlier failure, is history.
    """
    match = next((job for job in jobs if job.kind is Kind.MATCH), None)
    latest = {job.target_series_uid: job for job in jobs if job.kind is Kind.INFER}
    infer = [job for job in latest.values() if job.state is not State.CANCELLED]
    further = _descendants(jobs, {job.id for job in infer})
    if match is not None and match.state is State.RECEIVING:
        return StudyState.RECEIVING
    if match is not None and match.state in {State.READY, State.RUNNING, State.RETRY_WAIT}:
        return StudyState.MATCHING
    unfinished = {job.kind for job in (*infer, *further) if job.state not in FINISHED | {State.HELD}}
    if Kind.INFER in unfinished:
        return StudyState.WORKING
    if unfinished:
        return StudyState.DELIVERING
    states = {job.state for job in (*infer, *further)} | ({match.state} if match is not None else set())
    if State.FAILED in states:
        return StudyState.FAILED
    if State.HELD in states:
        return StudyState.HELD
    if match is not None and match.state is State.WAITING_PAIR:
        return StudyState.WAITING
    if any(job.kind is Kind.DELIVER and job.state is State.DONE for job in further):
        return StudyState.DELIVERED
    if any(job.state is State.DONE for job in infer):
        return StudyState.DONE
    return StudyState.REFUSED if State.REFUSED in states else StudyState.CANCELLED


def _descendants(jobs: Sequence[Job], parents: set[int]) -> list[Job]:
    """What was made of the results of jobs, step by step. A child may be older than its parent: a delivery of a version
    without derive jobs gets its derive job later."""
    found: dict[int, Job] = {}
    while parents:
        children = [job for job in jobs if job.parent_id in parents and job.id not in found]
        found |= {job.id: job for job in children if job.kind not in {Kind.INFER, Kind.FETCH}}
        parents = {job.id for job in children} & found.keys()
    return [job for job in found.values() if job.state is not State.CANCELLED]


def _changed(session: Session) -> set[str]:
    studies: set[str] = session.info.setdefault("changed studies", set())
    return studies
