"""What every destination has said of every derived instance. Written as it is said, so that a retry sends the rest only."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from node.tracker.handle import Tracker
from node.tracker.queue import Claim, leased
from node.tracker.tables import Delivery, Job


def enter(tracker: Tracker, claim: Claim, files: Mapping[str, Path]) -> None:
    """List the instances of a delivery (SOP instance UID to file), none of them accepted yet. Once is enough, unless they
    were made again with other identifiers since."""
    now = tracker.clock()
    with tracker.write() as session:
        job = leased(session, claim)
        known = set(session.scalars(select(Delivery.sop_uid).where(Delivery.job_id == claim.job_id)))
        if known and known <= files.keys():
            return
        forget(session, job)
        for sop_uid, path in files.items():
            session.add(Delivery(job_id=claim.job_id, sop_uid=sop_uid, path=str(path), updated_at=now))


def entered(tracker: Tracker, claim: Claim) -> list[Delivery]:
    """The instances of a delivery, in the order of their UIDs; empty before they were listed."""
    with tracker.read() as session:
        rows = select(Delivery).where(Delivery.job_id == claim.job_id).order_by(Delivery.path)
        return list(session.scalars(rows))


def note(
    tracker: Tracker, claim: Claim, sop_uid: str, accepted: bool, status: str, progress: tuple[int, int] | None = None
) -> None:
    """Keep what is known of one instance at the peer, and how far the delivery is (done, of); LeaseLostError when it is
    no longer this worker's."""
    now = tracker.clock()
    with tracker.write() as session:
        job = leased(session, claim)
        job.lease_expires_at = now + tracker.lease
        if progress is not None:
            (job.progress, job.progress_total), job.updated_at = progress, now
        row = session.get_one(Delivery, (claim.job_id, sop_uid))
        row.accepted, row.status, row.updated_at = accepted, status, now


def forget(session: Session, job: Job) -> None:
    """Empty the list of a delivery, so that all of it is sent again."""
    session.execute(delete(Delivery).where(Delivery.job_id == job.id))


def leave_out(tracker: Tracker, claim: Claim, sop_uid: str) -> None:
    """Take an instance off a delivery, because the peer does not store its kind; LeaseLostError when it is no longer
    this worker's."""
    with tracker.write() as session:
        leased(session, claim)
        session.delete(session.get_one(Delivery, (claim.job_id, sop_uid)))
