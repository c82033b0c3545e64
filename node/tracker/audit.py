"""The audit trail: what was done with whose data, and with the node. Rows are added and never changed.

The database itself refuses to change or remove one: triggers, made by the migration that made the table. The one way to
get rid of old rows is `expire`, which takes the guard down for its own transaction and leaves a row that says so.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import structlog
from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, text
from sqlalchemy.orm import Session

from node.errors import NodeError
from node.tracker.handle import Tracker
from node.tracker.tables import Audit

log = structlog.get_logger()

Detail = str | int | float | bool | None | list[str]


class Action(StrEnum):
    """What can be done."""

    ASSOCIATION = "association"
    """A peer's association has ended: accepted or rejected, and what it brought."""
    STORED = "stored"
    """The first instance of a series came from a peer."""
    REFUSED = "refused"
    """An instance was not taken."""
    REPAIRED = "repaired"
    """An instance that was lost or damaged came again."""
    CORRECTED = "corrected"
    """An instance came again with corrected attributes of patient or study."""
    DROPPED = "dropped"
    """The instances of a series were removed, to make room for others under their UIDs."""
    SENT = "sent"
    VIEWED = "viewed"
    PURGED = "purged"
    CONFIGURED = "configuration loaded"
    """A service has started, with this configuration."""
    RELOADED = "configuration reloaded"
    STOPPED = "stopped"
    """A service has stopped in order."""
    ADMINISTERED = "administered"
    """A person changed a job, or had something sent again."""
    LOGGED_IN = "logged in"
    """Somebody logged in to the page, or tried to."""
    LOGGED_OUT = "logged out"
    EXPIRED = "audit expired"


def audit(
    tracker: Tracker,
    action: Action,
    actor: str,
    study_uid: str | None = None,
    details: Mapping[str, Detail] | None = None,
    session: Session | None = None,
) -> None:
    """Add a row. `actor` is an AE title, a user or a stage. `details` must not identify a patient: UIDs, counts, codes,
    names of peers. With `session` the row is part of that transaction, otherwise it is one of its own."""
    row = Audit(
        at=tracker.clock(),
        node=tracker.node,
        actor=_printable(actor),
        action=action,
        study_uid=study_uid,
        details=dict(details or {}),
    )
    if session is not None:
        session.add(row)
        return
    with tracker.write() as own:
        own.add(row)


def try_audit(
    tracker: Tracker,
    action: Action,
    actor: str,
    study_uid: str | None = None,
    details: Mapping[str, Detail] | None = None,
) -> None:
    """As `audit`, for what has already happened. If the tracker does not answer, the log says so and nothing is
    undone."""
    try:
        audit(tracker, action, actor, study_uid, details)
    except NodeError as error:
        log.error("audit.failed", action=action, study=study_uid, reason=str(error))


def count_before(tracker: Tracker, before: datetime, sent_up_to: int | None = None) -> int:
    """How many rows `expire` would remove."""
    with tracker.read() as session:
        return session.scalar(select(func.count()).select_from(Audit).where(_old(before, sent_up_to))) or 0


def expire(tracker: Tracker, before: datetime, actor: str, sent_up_to: int | None = None) -> int:
    """Remove the rows that are older than `before`, and say so in a new one. Returns how many were removed. Where audit
    messages are sent, `sent_up_to` is the last row that has arrived; those after it stay."""
    with tracker.write() as session:
        connection = session.connection()
        unguard(connection)
        removed = connection.execute(delete(Audit).where(_old(before, sent_up_to))).rowcount
        guard(connection)
        audit(
            tracker, Action.EXPIRED, actor, details={"before": before.isoformat(), "rows": removed}, session=session
        )  # fmt: skip
    return removed


def _old(before: datetime, sent_up_to: int | None) -> ColumnElement[bool]:
    return Audit.at < before if sent_up_to is None else and_(Audit.at < before, Audit.id <= sent_up_to)


def guard(connection: Connection) -> None:
    """Have the database refuse to change or remove audit rows."""
    for statement in _GUARD[connection.dialect.name]:
        connection.execute(text(statement))


def unguard(connection: Connection) -> None:
    """Take the guard down, until `guard` in the same transaction."""
    for statement in _UNGUARD[connection.dialect.name]:
        connection.execute(text(statement))


def _printable(actor: str) -> str:
    """What a peer calls itself may be anything."""
    return "".join(c if c.isprintable() else "?" for c in actor)[:128]


_GUARD = {
    "sqlite": (
        "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END",
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are never removed'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'audit rows are never changed or removed'; END $$",
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    ),
}
_UNGUARD = {
    "sqlite": ("DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete"),
    "postgresql": ("DROP TRIGGER audit_append_only ON audit",),
}
