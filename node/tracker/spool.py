"""The audit trail as a spool: its rows on their way to a collector of audit messages. The duty that sends them remembers the last
row that has arrived, so nothing has to be copied, and nothing is lost while the collector is away."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text

from node.tracker import duties
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.tables import Audit, Duty, Study
from node.tracker.views import AuditRow


@dataclass(frozen=True)
class Unsent:
    """A row that the collector does not have yet."""

    id: int
    row: AuditRow
    patient_id: str | None
    """Of its study; None where it has none, or the node does not keep what studies are called."""


def unsent(tracker: Tracker, limit: int) -> list[Unsent]:
    """The first rows that the collector does not have yet, in the order in which they are sent."""
    if not backlog(tracker.database).rows:  # the lock below is for when there is something
        return []
    after = duties.position(tracker, duties.Name.AUDIT_MESSAGES)
    with tracker.write() as session:
        if session.connection().dialect.name == "postgresql":
            # A row may be committed after one with a higher number. The lock waits for whoever is about to do that.
            session.execute(text("LOCK TABLE audit IN SHARE MODE"))
        query = (
            select(Audit, Study.patient_id)
            .outerjoin(Study, Study.study_uid == Audit.study_uid)
            .where(Audit.id > after)
            .order_by(Audit.id)
            .limit(limit)
        )
        found = session.execute(query).all()
        return [Unsent(row.id, AuditRow.model_validate(row, from_attributes=True), patient) for row, patient in found]


def arrived(tracker: Tracker, last: Unsent) -> None:
    """The collector has this row and all before it. LeaseLostError when another node sends them now."""
    duties.advance(tracker, duties.Name.AUDIT_MESSAGES, last.id)


@dataclass(frozen=True)
class Backlog:
    """What the collector does not have yet."""

    rows: int
    since: datetime | None
    """When the first of them was written."""


def backlog(database: Database) -> Backlog:
    """What the collector does not have yet."""
    sent = select(func.coalesce(func.max(Duty.position), 0)).where(Duty.name == duties.Name.AUDIT_MESSAGES)
    with database.read() as session:
        rows, since = session.execute(
            select(func.count(), func.min(Audit.at)).where(Audit.id > sent.scalar_subquery())
        ).one()
    return Backlog(rows, since)
