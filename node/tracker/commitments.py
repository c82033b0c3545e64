"""Storage commitment in both directions. As SCU: which transactions are open, and what the reports on them said. A report may
reach another process than the one that sent the request, so both use these rows. As SCP: how many reports the node owes to a
peer."""

from collections.abc import Collection, Mapping

from sqlalchemy import func, select

from node.tracker import transitions
from node.tracker.handle import Tracker
from node.tracker.queue import Claim, leased
from node.tracker.states import FINISHED, Kind, State
from node.tracker.tables import Commitment, Delivery, Job


def owed(tracker: Tracker, ae_title: str) -> int:
    """How many reports the peer of that AE title still waits for."""
    mine = Job.key.startswith(f"commit:{ae_title}:", autoescape=True)
    count = select(func.count()).where(Job.kind == Kind.COMMIT, mine, Job.state.not_in(FINISHED))
    with tracker.read() as session:
        return session.scalar(count) or 0


def opened(tracker: Tracker, claim: Claim, transaction_uid: str) -> None:
    """Enter a transaction before it is requested; LeaseLostError when the delivery is no longer this worker's."""
    with tracker.write() as session:
        leased(session, claim)
        session.add(Commitment(transaction_uid=transaction_uid, job_id=claim.job_id, asked_at=tracker.clock()))


def answered(tracker: Tracker, claim: Claim) -> bool:
    """Whether the delivery's newest transaction was reported on."""
    newest = select(Commitment).where(Commitment.job_id == claim.job_id).order_by(Commitment.asked_at.desc()).limit(1)
    with tracker.read() as session:
        row = session.scalars(newest).one_or_none()
        return row is not None and row.answered_at is not None


def reported(tracker: Tracker, transaction_uid: str, committed: Collection[str], failed: Mapping[str, str]) -> bool:
    """Enter a report: SOP instance UIDs that were committed, and those that were not with the reason in words.
    Instances that were not committed no longer count as accepted, and are sent again. A delivery that waits for the
    report is made due. A late report of an older transaction counts as well. False when there is no such
    transaction."""
    now = tracker.clock()
    with tracker.write() as session:
        transaction = session.get(Commitment, transaction_uid, with_for_update=True)
        if transaction is None:
            return False
        job = session.get_one(Job, transaction.job_id, with_for_update=True)
        transaction.answered_at = now
        for row in session.scalars(select(Delivery).where(Delivery.job_id == job.id)):
            if row.sop_uid in committed:
                row.accepted = row.committed = True
                row.status, row.updated_at = "committed", now
            elif row.sop_uid in failed and not row.committed:
                row.accepted = False
                row.status, row.updated_at = f"not committed: {failed[row.sop_uid]}", now
        if job.state is State.COMMITTING:
            transitions.make_due(session, job, now)
        return True
