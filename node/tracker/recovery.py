"""SQLite as tracker after an accident: a backup put in its place, or all that can still be read of it put into a new one. What
was there before is set aside, never overwritten."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from node.errors import ConfigError
from node.tracker.copying import copy
from node.tracker.database import Database
from node.tracker.tables import Base, TrackerIdentity

_FILES = ("", "-wal", "-shm")

_MEND = (
    "DELETE FROM delivery WHERE job_id NOT IN (SELECT id FROM job)",
    "DELETE FROM commitment WHERE job_id NOT IN (SELECT id FROM job)",
    "DELETE FROM event WHERE job_id NOT IN (SELECT id FROM job)",
    "UPDATE job SET parent_id = NULL WHERE parent_id NOT IN (SELECT id FROM job)",
    "DELETE FROM instance WHERE study_uid NOT IN (SELECT study_uid FROM study)",
    "DELETE FROM instance WHERE (study_uid, series_uid) NOT IN (SELECT study_uid, series_uid FROM series)",
    "DELETE FROM series WHERE study_uid NOT IN (SELECT study_uid FROM study)",
    "UPDATE series SET instances = (SELECT count(*) FROM instance i WHERE i.study_uid = series.study_uid "
    "AND i.series_uid = series.series_uid AND i.replaced_at IS NULL)",
    "DELETE FROM series WHERE instances = 0",
    "UPDATE study SET series = (SELECT count(*) FROM series s WHERE s.study_uid = study.study_uid), "
    "instances = (SELECT count(*) FROM instance i WHERE i.study_uid = study.study_uid AND i.replaced_at IS NULL), "
    "size = (SELECT coalesce(sum(size), 0) FROM instance i WHERE i.study_uid = study.study_uid AND i.replaced_at IS NULL)",
)
"""Rows that refer to what was lost go, and counts are counted: what has no row is entered from the archive afterwards."""


def place(database: Database) -> Path:
    """The file of the tracker. ConfigError when it is not SQLite."""
    if database.url.get_backend_name() != "sqlite" or not database.url.database:
        raise ConfigError("the tracker is not SQLite; restore it with the tools of the database, such as pg_restore")
    return Path(database.url.database)


def set_aside(path: Path) -> Path | None:
    """Give the files of a tracker other names; that of the first, None when there is none."""
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}.set-aside-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
    for suffix in _FILES:
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
    return aside


def restore(path: Path, backup: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Path | None:
    """Put a copy of a backup in the place of a tracker; where that was set aside. `progress` hears of (bytes, all bytes).
    ConfigError, changing nothing, when the backup is missing, damaged, or no tracker of a version that this one knows."""
    if not backup.is_file():
        raise ConfigError(f"{backup} is missing")
    copied = path.with_name(f"{path.name}.restoring")
    copied.unlink(missing_ok=True)
    try:
        copy(backup, copied, progress)
        candidate = Database(f"sqlite:///{copied}")
        try:
            problem = candidate.problem()
            revision, _ = candidate.revision()
            if problem is None and (revision is None or not candidate.knows(revision)):
                problem = f"its schema is {revision or 'missing'}"
        finally:
            candidate.dispose()
    except sqlite3.Error as error:
        problem = str(error)
    if problem is not None:
        for suffix in _FILES:
            Path(f"{copied}{suffix}").unlink(missing_ok=True)
        raise ConfigError(f"{backup} cannot be used: {problem}")
    aside = set_aside(path)
    copied.rename(path)
    return aside


def salvage(
    old: Path, database: Database, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, int]:
    """Copy every row that can still be read of a damaged tracker into a new one of this version; how many of each table.
    `progress` hears of (tables, all tables)."""
    found: dict[str, int] = {}
    with closing(sqlite3.connect(old)) as source, closing(sqlite3.connect(place(database))) as target:
        tables = Base.metadata.sorted_tables
        for number, table in enumerate(tables):
            progress(number, len(tables))
            if table.name != TrackerIdentity.__tablename__:
                found[table.name] = _copy(source, target, table.name, [column.name for column in table.columns])
        target.commit()
    with database.write() as session:
        for statement in _MEND:
            session.execute(text(statement))
    return found


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str, wanted: list[str]) -> int:
    try:
        there = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    except sqlite3.Error:
        return 0
    columns = [name for name in wanted if name in there]
    if not columns:
        return 0
    marks = ", ".join("?" * len(columns))
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
    before = target.total_changes
    for row in _readable(source, table, columns):
        target.execute(insert, row)
    return target.total_changes - before


def _readable(source: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[object, ...]]:
    """The rows from the first up to damage, and from the last down to it."""
    for order in ("ASC", "DESC"):
        try:
            yield from source.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid {order}")
        except sqlite3.Error:
            continue
        return
