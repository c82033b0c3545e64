"""The audit trail as a list, the latest first."""

from datetime import date

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, and_, func, select

from node.tracker.audit import Action
from node.tracker.database import Database
from node.tracker.listing import PAGE, Page, days, position
from node.tracker.tables import Audit
from node.tracker.views import AuditRow


class AuditFilter(BaseModel):
    """Which rows; empty fields do not filter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action | None = None
    actor: str = ""
    study_uid: str = ""
    since: date | None = None
    until: date | None = None
    """On these days or between, in the zone of the node."""


def rows(database: Database, wanted: AuditFilter, *, page: int = 1, size: int = PAGE) -> Page[AuditRow]:
    """The rows that match."""
    conditions: list[ColumnElement[bool]] = days(Audit.at, wanted.since, wanted.until)
    if wanted.action is not None:
        conditions.append(Audit.action == wanted.action)
    if wanted.actor:
        conditions.append(Audit.actor.icontains(wanted.actor, autoescape=True))
    if wanted.study_uid:
        conditions.append(Audit.study_uid.startswith(wanted.study_uid, autoescape=True))
    matching = and_(True, *conditions)
    with database.read() as session:
        total = session.scalar(select(func.count()).select_from(Audit).where(matching)) or 0
        number, offset, pages = position(total, page, size)
        query = select(Audit).where(matching).order_by(Audit.id.desc()).limit(size).offset(offset)
        found = tuple(AuditRow.model_validate(row, from_attributes=True) for row in session.scalars(query))
    return Page[AuditRow](rows=found, total=total, number=number, pages=pages)
