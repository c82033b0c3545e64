"""Enters instances in the tracker shortly after their senders were answered, many in one transaction.

What waits here is durable in the log of arrivals: a start after a crash enters it (see `group_commit.recover`). Whoever has to see
the rows calls `flush` first.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from node.archive.log import Log, LogEntry
from node.errors import NodeError
from node.receive.known import KnownInstances
from node.telemetry.log import place_of
from node.tracker import arrivals, instances
from node.tracker.arrivals import Arrival
from node.tracker.database import DatabaseError
from node.tracker.handle import Tracker

log = structlog.get_logger()

GATHER_S = 0.1
"""How long instances are gathered for one transaction, when nobody waits for their rows."""
BATCH = 256
"""At most so many instances are entered in one transaction,"""
MOST = 1024
"""and so many wait; then receivers wait, too."""
RETRY_S = 1.0
"""Pause after instances could not be entered, when nobody waits for their rows."""


@dataclass(frozen=True)
class _Waiting:
    """An instance that was acknowledged, or is just about to be."""

    number: int
    entry: LogEntry
    arrival: Arrival


class Entering:
    """One object, with a thread of its own, serves all associations."""

    def __init__(
        self, tracker: Tracker, log_of_arrivals: Log, known: KnownInstances, quiet_s: float, entered: Callable[[], None]
    ) -> None:
        """`entered` is called whenever instances have got their rows."""
        self._tracker = tracker
        self._log = log_of_arrivals
        self._known = known
        self._quiet_s = quiet_s
        self._entered = entered
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._added = 0
        self._flushing = 0
        """How many threads wait for rows."""
        self._failures = 0
        self._error: NodeError | None = None
        """Why some of those that wait could not be entered when that was tried last."""
        self._stopping = self._ended = False
        self._thread = threading.Thread(target=self._run, name="entering", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def at_once(self, entry: LogEntry, arrival: Arrival) -> bool:
        """Enter an instance before it is acknowledged. False when it was there already; NodeError when it cannot be entered."""
        is_new = arrivals.record(self._tracker, arrival, self._quiet_s, durable=False)
        if is_new:
            self._has_row([_Waiting(0, entry, arrival)])
        return is_new

    def soon(self, entry: LogEntry, arrival: Arrival) -> None:
        """Enter an instance within a moment. It takes longer when many wait already. DatabaseError, and nothing is entered, as
        long as the tracker does not answer."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < MOST or self._failing() or self._ended)
            if self._error is not None and self._failing():
                raise self._error
            if self._ended:
                raise DatabaseError("the service is stopping")
            self._added += 1
            self._waiting.append(_Waiting(self._added, entry, arrival))
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def flush(self) -> None:
        """Return when all that came before has its row. NodeError when that cannot be done now."""
        with self._changed:
            last, failures = self._added, self._failures
            if not self._waits_up_to(last):
                return
            self._flushing += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: not self._waits_up_to(last) or self._failures != failures or self._ended)
            finally:
                self._flushing -= 1
            if self._waits_up_to(last):
                raise self._error or DatabaseError("the service is stopping")

    def close(self) -> None:
        """Enter what waits, if that can be done; else the next start does."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _failing(self) -> bool:
        return isinstance(self._error, DatabaseError)

    def _waits_up_to(self, number: int) -> bool:
        return bool(self._waiting) and self._waiting[0].number <= number

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._error is None:
                    self._changed.wait_for(lambda: self._stopping or self._flushing, GATHER_S)
                batch = self._waiting[:BATCH]
            left, error = self._enter(batch) if batch else ([], None)
            with self._changed:
                self._waiting = left + self._waiting[len(batch) :]
                self._error = error
                self._failures += error is not None
                self._changed.notify_all()
                if self._stopping and (error is not None or not self._waiting):
                    self._ended = True
                    return
                if error is not None:
                    log.warning("receive.entered_later", instances=len(self._waiting), reason=str(error))
                    self._changed.wait_for(lambda: self._stopping or self._flushing, RETRY_S)

    def _enter(self, batch: Sequence[_Waiting]) -> tuple[list[_Waiting], NodeError | None]:
        """Enter instances, in one transaction or, where one of them means more, one by one. Which of them have to wait, and why."""
        try:
            together = arrivals.record_further(self._tracker, [one.arrival for one in batch], self._quiet_s)
        except DatabaseError as error:
            return list(batch), error
        except Exception:
            together = False
        if together:
            self._has_row(batch)
            return [], None
        left: list[_Waiting] = []
        problem: NodeError | None = None
        for one in batch:
            try:
                if isinstance(problem, DatabaseError):
                    left.append(one)
                    continue
                if not arrivals.record(self._tracker, one.arrival, self._quiet_s, durable=False):
                    self._check_same(one)  # a commit of which the database could not tell us
                self._has_row([one])
            except NodeError as error:
                problem = error
                left.append(one)
            except Exception as error:  # a mistake of ours: it stays in the log, and the next start tries again
                log.error("receive.not_entered", key=one.arrival.key, error=type(error).__name__, where=place_of(error))
        return left, problem

    def _check_same(self, one: _Waiting) -> None:
        arrival = one.arrival
        if not instances.named(self._tracker, {arrival.key: arrival.sha256}):
            log.error("receive.entered_otherwise", key=arrival.key, reason="its row names another content")

    def _has_row(self, entered: Sequence[_Waiting]) -> None:
        for one in entered:
            self._log.keep(one.entry)
        self._known.entered((one.arrival.study_uid, one.arrival.series_uid, one.arrival.sop_uid) for one in entered)
        self._entered()
