"""What was added to the tracker's append-only tables since the last look: changes of state, and rows of the audit trail.

Metrics count these rows, so it does not matter in which process or on which host something happened.
"""

import re
from typing import NamedTuple

from sqlalchemy import func, select

from node.codes import CODES
from node.payloads import JobResult
from node.tracker.database import Database
from node.tracker.states import Kind, State
from node.tracker.tables import Audit, Event, Job
from node.tracker.views import AuditRow

MOST = 5000
"""Rows at a time; the rest comes with the next look."""

_CODE = re.compile(r"\b[EW]_[A-Z0-9_]+\b")


class Change(NamedTuple):
    """A change of a job's state."""

    kind: Kind
    destination: str | None
    before: State | None
    after: State
    seconds: float
    """How long the job was in the state before."""
    code: str | None
    """Why, where the reason is one of the codes of refusals and warnings."""


class Growth:
    """Follows both tables from where they end now."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.read() as session:
            self._event = session.scalar(select(func.max(Event.id))) or 0
            self._audit = session.scalar(select(func.max(Audit.id))) or 0

    def changes(self) -> list[Change]:
        """The changes of state since the last call, oldest first."""
        with self._database.read() as session:
            new = select(Event.job_id).where(Event.id > self._event).order_by(Event.id).limit(MOST)
            entered = (
                func.lag(Event.at, type_=Event.at.type)
                .over(partition_by=Event.job_id, order_by=Event.id)
                .label("entered")
            )
            steps = select(Event, entered).where(Event.job_id.in_(new)).subquery()
            query = (
                select(steps, Job.kind, Job.destination, Job.result)
                .join(Job, Job.id == steps.c.job_id)
                .where(steps.c.id > self._event)
                .order_by(steps.c.id)
                .limit(MOST)
            )
            rows = session.execute(query).all()
        if rows:
            self._event = rows[-1].id
        return [
            Change(
                kind=row.kind, destination=row.destination, before=row.from_state, after=row.to_state,
                seconds=(row.at - row.entered).total_seconds() if row.entered else 0.0,
                code=_code(row.why, row.result) if row.to_state is State.REFUSED else None,
            )
            for row in rows
        ]  # fmt: skip

    def audited(self) -> list[AuditRow]:
        """The rows of the audit trail since the last call, oldest first."""
        with self._database.read() as session:
            rows = session.scalars(select(Audit).where(Audit.id > self._audit).order_by(Audit.id).limit(MOST)).all()
        if rows:
            self._audit = rows[-1].id
        return [AuditRow.model_validate(row, from_attributes=True) for row in rows]


def _code(why: str, result: dict[str, object] | None) -> str:
    """The code of a refusal: of the verdict, or in the reason; "unknown" for one that this version does not have."""
    found = _CODE.search(why)
    code = JobResult.model_validate(result or {}).code or (found[0] if found else "")
    return code if code in CODES else "unknown"
