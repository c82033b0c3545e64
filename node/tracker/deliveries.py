"""What every destination has answered for every derived instance. Answers are written within a moment, so that a retry sends
only the rest."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from node.archive.index import DerivedInstance
from node.tracker.handle import Tracker
from node.tracker.queue import Claim, leased
from node.tracker.tables import Delivery, Job


def enter(tracker: Tracker, claim: Claim, derived: Sequence[DerivedInstance]) -> None:
    """List the instances of a delivery, none of them accepted yet. An existing list stays, with the digests of
    instances that were made again; but it starts anew when they were made again with other identifiers."""
    now = tracker.clock()
    with tracker.write() as session:
        job = leased(session, claim)
        made = {instance.sop_uid: instance for instance in derived}
        known = session.scalars(select(Delivery).where(Delivery.job_id == claim.job_id)).all()
        if known and all(row.sop_uid in made for row in known):
            for row in known:
                row.key, row.sha256 = made[row.sop_uid].key, made[row.sop_uid].sha256
            return
        forget(session, job)
        for instance in derived:
            session.add(Delivery(
                job_id=claim.job_id, sop_uid=instance.sop_uid, key=instance.key, sha256=instance.sha256, updated_at=now
            ))  # fmt: skip


def entered(tracker: Tracker, claim: Claim) -> list[Delivery]:
    """The instances of a delivery, in the order to be sent; empty before they were listed."""
    with tracker.read() as session:
        rows = select(Delivery).where(Delivery.job_id == claim.job_id).order_by(Delivery.key)
        return list(session.scalars(rows))


class InstanceAnswer(NamedTuple):
    """What a peer answered for one instance."""

    sop_uid: str
    accepted: bool
    status: str


def note(
    tracker: Tracker, claim: Claim, answers: Iterable[InstanceAnswer], progress: tuple[int, int] | None = None
) -> None:
    """Keep what is known of instances at the peer, and how far the delivery is (done, of); LeaseLostError when it is
    no longer this worker's. It need not be durable: what a loss of power takes back is sent again, and the peer knows it
    by its UID; the end of the attempt is durable."""
    now = tracker.clock()
    with tracker.write(durable=False) as session:
        job = leased(session, claim)
        job.lease_expires_at = now + tracker.lease
        if progress is not None:
            (job.progress, job.progress_total), job.updated_at = progress, now
        for answer in answers:
            row = session.get_one(Delivery, (claim.job_id, answer.sop_uid))
            row.accepted, row.status, row.updated_at = answer.accepted, answer.status, now


def forget(session: Session, job: Job) -> None:
    """Empty the list of a delivery, so that all of it is sent again."""
    session.execute(delete(Delivery).where(Delivery.job_id == job.id))


def leave_out(tracker: Tracker, claim: Claim, sop_uid: str) -> None:
    """Take an instance off a delivery, because the peer does not store its kind; LeaseLostError when it is no longer
    this worker's."""
    with tracker.write() as session:
        leased(session, claim)
        session.delete(session.get_one(Delivery, (claim.job_id, sop_uid)))
