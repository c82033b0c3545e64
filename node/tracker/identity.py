"""Which tracker a data folder works with. A database that was emptied or exchanged is not taken for a new one: what it does not
know would be lost from sight. The tracker has an identity, and the data folder remembers it."""

from pathlib import Path

from sqlalchemy import inspect, select

from node.archive.local import write_durably
from node.tracker.database import Database
from node.tracker.tables import TrackerIdentity

_REMEMBERED = "tracker-id"


def confirm(database: Database, data_dir: Path) -> None:
    """Have the data folder remember its tracker. StorageError, DatabaseError."""
    identity = of(database)
    if identity is not None and remembered(data_dir) != identity:
        write_durably(data_dir / _REMEMBERED, f"{identity}\n".encode())


def of(database: Database) -> str | None:
    """The identity of a tracker; None where it has none: it is empty, or of an earlier version. DatabaseError."""
    with database.read() as session:
        if not inspect(session.connection()).has_table(TrackerIdentity.__tablename__):
            return None
        return session.scalar(select(TrackerIdentity.id))


def remembered(data_dir: Path) -> str | None:
    """The tracker that the data folder has worked with; None before its first start. OSError when that cannot be read."""
    try:
        return (data_dir / _REMEMBERED).read_text().strip()
    except FileNotFoundError:
        return None
