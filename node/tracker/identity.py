"""Which tracker a data folder and a shared archive work with. An emptied or exchanged database does not count as a new one: what
it does not know would be forgotten. The tracker has an identity, and both remember it. So a host that sees another archive than the
others, such as the empty folder where one was to be mounted, finds no tracker or another one in it."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import inspect, select

from node.archive.facade import Archive
from node.archive.local import write_durably
from node.errors import ConfigError
from node.tracker.database import Database
from node.tracker.tables import Instance, TrackerIdentity

_REMEMBERED = "tracker-id"


def confirm(database: Database, data_dir: Path, shared: Archive | None = None, *, instead: bool = False) -> None:
    """Have the data folder remember its tracker, and the archive that hosts share. ConfigError when that belongs to another
    tracker, unless this one comes `instead`. StorageError, DatabaseError."""
    identity = of(database)
    if identity is None:
        return
    if shared is not None:
        shared.belong_to(identity, instead=instead)
        problem = problem_with(shared, database)  # of two hosts that began at the same moment, one was first
        if problem is not None:
            raise ConfigError(f"[storage] archive: {problem}")
    if remembered(data_dir) != identity:
        write_durably(data_dir / _REMEMBERED, f"{identity}\n".encode())


def problem_with(shared: Archive, database: Database) -> str | None:
    """Why that archive is not the one of this tracker; None when it is, or may become so. StorageError, DatabaseError."""
    owner, identity = shared.owner(), of(database)
    if owner is not None:
        return None if owner == identity else f"it belongs to tracker {owner}, and this one is {identity or 'empty'}"
    if identity is None:
        return None
    with database.read() as session:
        knows = session.scalar(select(Instance.sop_uid).where(Instance.replaced_at.is_(None)).limit(1)) is not None
    is_empty = next(iter(shared.instance_keys(datetime.now(UTC))), None) is None
    return "it is empty, and the tracker knows instances in it" if knows and is_empty else None


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
