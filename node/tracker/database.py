"""The one way to the database: SQLite by default, PostgreSQL when several hosts share the work."""

import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from node.errors import ConfigError, NodeError
from node.tracker import schema, studies
from node.tracker.copying import copy
from node.tracker.tables import TrackerIdentity


class DatabaseError(NodeError):
    """The tracker's database cannot be used."""

    retryable = True
    local = True


class BusyError(DatabaseError):
    """Others hold the tracker's database for longer than the caller can wait."""


APPLICATION_ID = 0x44694D53
"""What the header of our SQLite files says (DiMS in ASCII), so that another program's database is never mistaken for a tracker."""

PATIENCE_S = 30.0
"""How long a writer waits for other writers of SQLite."""


_POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c idle_in_transaction_session_timeout=60s",
}
"""How soon both sides notice that the other is gone: long before a lease runs out. Else a host that is cut off in the middle of a
transaction would keep its locks for hours, and wait as long for an answer. What the URL says itself counts."""


class Database:
    """Sessions for reading and for writing. A write is one transaction, begun as a writer: SQLite then never fails
    half way for a lock it could not upgrade."""

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self._turn = threading.Lock()
        try:
            if self.url.get_backend_name() == "sqlite" and self.url.database:
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = _engine(self.url.render_as_string(hide_password=False))
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigError(f"[node] database_url: {type(error).__name__}: {_first_line(error)}") from None
        except OSError as error:
            raise ConfigError(f"[node] data_dir: cannot make {error.filename}: {error.strerror}") from None

    @property
    def is_shared(self) -> bool:
        """Whether several hosts may use it."""
        return self.url.get_backend_name() != "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one consistent state and changes nothing."""
        with self._connected(writer=False) as connection, Session(connection, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self, *, durable: bool = True, patience_s: float = PATIENCE_S) -> Iterator[Session]:
        """A session committed at the end of the block, rolled back when the block raises. What is not `durable` is undone
        by a loss of power, when no later transaction that is durable came after it. BusyError when other writers hold
        SQLite for longer than `patience_s`."""
        with (
            self._connected(writer=True, durable=durable, patience_s=patience_s) as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def transaction(self, *, durable: bool = True, patience_s: float = PATIENCE_S) -> Iterator[Connection]:
        """As `write`, for statements without objects, which take a third of the time."""
        with self._connected(writer=True, durable=durable, patience_s=patience_s) as connection, connection.begin():
            yield connection

    def make_durable(self) -> None:
        """Have everything that was committed survive a loss of power: by a transaction that changes nothing, and waits."""
        with self.transaction() as connection:
            if connection.dialect.name == "sqlite":
                version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
                connection.exec_driver_sql(f"PRAGMA user_version = {(version + 1) % 2**31}")
            else:
                connection.exec_driver_sql("SELECT pg_current_xact_id()")

    def upgrade(self) -> None:
        """Bring the schema to what this version expects. Safe when several processes start at once. SQLite is copied to a
        file beside it first, when there is something to upgrade. DatabaseError when a later version made it."""
        current, expected = self.revision()
        foreign = self._maker()
        if foreign is not None:
            raise DatabaseError(f"the tracker at {without_secrets(self.url)} cannot be used: {foreign}")
        if not self.knows(current):
            raise DatabaseError(
                f"the tracker is at schema {current}, and this version knows schemas up to {expected}; start the version that it "
                "was upgraded with, or a later one"
            )
        if current not in (None, expected) and self.url.get_backend_name() == "sqlite":
            copy = Path(f"{self.url.database}.before-{expected}")
            if not copy.exists():  # of several processes that start at once, the first makes it
                self.backup(copy)
        with self.transaction() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(727466)")  # any constant; ours
            if (
                schema.revision_of(connection) != expected
            ):  # else another process has just upgraded it, or nothing changed
                schema.upgrade(connection)
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            if connection.scalar(select(TrackerIdentity.id)) is None:
                connection.execute(insert(TrackerIdentity).values(id=uuid.uuid4().hex))
            with Session(connection) as session:
                studies.state_unstated(session)
                session.flush()

    def revision(self) -> tuple[str | None, str]:
        """(revision of this database, revision this version expects)."""
        with self._connected(writer=False) as connection:
            return schema.revision_of(connection), schema.known_revisions()[-1]

    def knows(self, revision: str | None) -> bool:
        """Whether this version can upgrade a database of that revision; one of a later version it cannot."""
        return revision is None or revision in schema.known_revisions()

    def problem(self) -> str | None:
        """What is wrong with the file of SQLite, in words; None when it is sound, or another database. It reads the whole
        file."""
        if self.url.get_backend_name() != "sqlite":
            return None
        try:
            foreign = self._maker()
            if foreign is not None:
                return foreign
            with self._connected(writer=False) as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        except DatabaseError as error:
            return f"it is damaged: {error.__cause__}".splitlines()[0] if _is_damage(error) else str(error)
        return None if found == "ok" else f"it is damaged: {' '.join(str(found).split())}"

    def _maker(self) -> str | None:
        """That another program made the file of SQLite, in words; None when this one did, or it is empty, or another database."""
        if self.url.get_backend_name() != "sqlite":
            return None
        with self._connected(writer=False) as connection:
            application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
            if application not in (0, APPLICATION_ID):
                return f"another program made it (application id {application})"
            tables = [] if schema.revision_of(connection) is not None else schema.tables(connection)
            return f"another program made it (it has a table {tables[0]})" if tables else None

    def backup(self, target: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Copy the database as it is at one moment, while others write; `progress` hears of (bytes, all bytes). ConfigError
        when it is not SQLite, or when the file exists or cannot be written."""
        if self.url.get_backend_name() != "sqlite" or not self.url.database:
            raise ConfigError("the tracker is not SQLite; back it up with the tools of the database, such as pg_dump")
        if not Path(self.url.database).exists():
            raise ConfigError(f"there is no tracker at {self.url.database} that this account can read")
        if target.exists():
            raise ConfigError(f"{target} exists already; choose another name")
        try:
            copy(Path(self.url.database), target, progress)
        except sqlite3.Error as error:
            raise ConfigError(f"cannot write {target}: {error}") from None

    def dispose(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _connected(self, writer: bool, durable: bool = True, patience_s: float = PATIENCE_S) -> Iterator[Connection]:
        options = {"node_writer": writer, "node_durable": durable, "node_patience_s": patience_s}
        try:
            with self._turn_of(writer, patience_s), self.engine.connect().execution_options(**options) as connection:
                yield connection
        except DBAPIError as error:
            busy = isinstance(error.orig, sqlite3.OperationalError) and "locked" in str(error.orig)
            why = _first_line(error.orig or error)
            advice = "; use the account of the service" if "readonly" in why or "unable to open" in why else ""
            kind = BusyError if busy else DatabaseError
            raise kind(f"the tracker at {without_secrets(self.url)} does not answer: {why}{advice}") from error
        except PoolTimeoutError as error:  # more threads than connections, and none of them can continue
            raise DatabaseError(
                f"the tracker at {without_secrets(self.url)} does not answer: {_first_line(error)}"
            ) from error

    @contextmanager
    def _turn_of(self, writer: bool, patience_s: float) -> Iterator[None]:
        """The turn of one of the writers of this process. SQLite has one writer at a time, and has others look again
        after pauses of up to 0.1 s; a lock wakes the next one at once."""
        if not writer or self.engine.dialect.name != "sqlite":
            yield
        elif self._turn.acquire(timeout=patience_s):
            try:
                yield
            finally:
                self._turn.release()
        else:
            raise BusyError(f"the tracker at {without_secrets(self.url)} does not answer: other writers hold it")


def _is_damage(error: DatabaseError) -> bool:
    """Whether SQLite found its file damaged, or no database."""
    original = getattr(error.__cause__, "orig", None)
    return getattr(original, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def parse_url(url: str) -> URL:
    """The parts of a database URL. ConfigError when it has none; the text itself may hold a password and is not shown."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        example = "postgresql+psycopg://diffmsr@db.example:5432/diffmsr"
        raise ConfigError(f"[node] database_url is not the address of a database; it looks like {example}") from None


def without_secrets(url: URL) -> str:
    """The address as it may be shown: a password is masked, in its usual place and among the parameters."""
    masked = {name: "***" for name, value in url.query.items() if "password" in f"{name}={value}".lower()}
    return url.update_query_dict(masked).render_as_string(hide_password=True)


def _engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        engine = create_engine(url)
    else:
        given = make_url(url).query
        defaults = {name: value for name, value in _POSTGRESQL.items() if name not in given}
        engine = create_engine(url, pool_pre_ping=True, connect_args=defaults)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgresql)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver's guess
    for pragma in (
        f"busy_timeout = {int(PATIENCE_S * 1000)}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("node_writer", False):
        # NORMAL: the write-ahead log gets the transaction, and is made durable by the next one that is FULL.
        wanted = "FULL" if options.get("node_durable", True) else "NORMAL"
        if connection.info.get("synchronous", "FULL") != wanted:
            connection.exec_driver_sql(f"PRAGMA synchronous = {wanted}")
            connection.info["synchronous"] = wanted
        patience_s = options.get("node_patience_s", PATIENCE_S)
        if connection.info.get("patience_s", PATIENCE_S) != patience_s:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(patience_s * 1000)}")
            connection.info["patience_s"] = patience_s
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    if not connection.get_execution_options().get("node_durable", True):
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
