"""The handle on the tracker that everybody who uses it holds."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from node.tracker.clock import utc_now
from node.tracker.database import PATIENCE_S, Database
from node.tracker.studies import restate_changed
from node.tracker.transitions import woken_by
from node.tracker.wakeups import Wakeups

LEASE = timedelta(seconds=60)


@dataclass(frozen=True)
class Tracker:
    """A database, and what else the duties of this package need. They are plain functions that take a Tracker."""

    database: Database
    lease: timedelta = LEASE
    """How long a worker holds a job without a heartbeat."""
    clock: Callable[[], datetime] = utc_now
    """The time, aware. Tests set it."""
    wakeups: Wakeups = field(default_factory=Wakeups)
    patience_s: float = PATIENCE_S
    """How long its writers wait for others."""
    node: str = field(default_factory=socket.gethostname)
    """Which node this is, for the audit trail."""

    def read(self) -> AbstractContextManager[Session]:
        """A session that sees one consistent state and changes nothing."""
        return self.database.read()

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Session]:
        """A session committed at the end of the block. Then the workers of this process that have new work are woken. What
        is not `durable` may be undone by a loss of power, until a later transaction that is, or `make_durable`."""
        with self.database.write(durable=durable, patience_s=self.patience_s) as session:
            yield session
            restate_changed(session)
        self.wakeups.wake(*woken_by(session))
