"""Group commit: the instances that all associations bring at the same moment become durable and recorded together.

Each thread writes its instance to the log. The first thread that is done takes every instance that is written by then: one
write makes them durable, and one transaction, committed after that write, enters them in the tracker. Meanwhile the other
threads wait for the next group; a thread that is alone never waits. Later, in the background, the entries of the log get
files of their own.

The transaction itself need not survive a loss of power: what is in the log is entered again at the next start (see
`recover`), and a part of the log is only used again when files and transactions are durable.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta

import structlog

from node.archive.facade import Archive
from node.archive.layout import InstanceName, parse_key
from node.archive.log import Log, LogEntry
from node.errors import NodeError
from node.tracker import arrivals, instances
from node.tracker.arrivals import Arrival
from node.tracker.database import BusyError
from node.tracker.handle import Tracker

log = structlog.get_logger()

SETTLE_AFTER_S = 1.0
"""Files are made when no instance has arrived for this long, so a study is received before disk and processor are busy."""
SETTLE_BEYOND = 128 << 20
"""They are also made when the log holds this many bytes."""
SETTLE_OLDER_S = 30.0
"""They are also made when an entry has waited for this long."""
PATIENCE_S = 4.0
"""How long a receiver waits for other writers of the tracker. It may wait twice for an instance, and a scanner hears within 10 s
that it is to send it again."""
BATCH = 64
"""How many files are made at a time."""
RETRY_S = 10.0


@dataclass(eq=False)
class _Waiting:
    """An instance in the log, and the thread that waits for it."""

    entry: LogEntry
    arrival: Arrival
    is_new: bool | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.is_new is not None or self.error is not None


class GroupCommit:
    """One object serves all associations. `open` one, `close` it in the end."""

    def __init__(self, archive: Archive, tracker: Tracker, log_of_arrivals: Log, quiet_s: float) -> None:
        self._archive = archive
        self._tracker = tracker
        self._log = log_of_arrivals
        self._quiet_s = quiet_s
        self._changed = threading.Condition()
        self._group: list[_Waiting] = []
        self._committing = False
        self._last_came = 0.0
        self._one_settles = threading.Lock()
        self._there_is_work = threading.Event()
        self._stopping = threading.Event()
        self._syncing = ThreadPoolExecutor(1, "syncing")
        self._settling = threading.Thread(target=self._settle_forever, name="settling", daemon=True)

    @classmethod
    def open(cls, archive: Archive, tracker: Tracker, quiet_s: float) -> "GroupCommit | None":
        """None where the archive has no log, or no room for one: instances are then kept one by one."""
        try:
            opened = archive.open_log()
        except NodeError as error:
            log.warning("log.not_opened", reason=str(error))
            return None
        if opened is None:
            return None
        group_commit = cls(archive, tracker, opened, quiet_s)
        group_commit._settling.start()
        return group_commit

    @property
    def largest(self) -> int:
        """Size in bytes of the largest data set that goes this way."""
        return self._log.largest

    def keep(self, head: bytes, data_set: bytes | memoryview, arrival: Arrival) -> bool:
        """Make an instance durable and enter it. False when it was there already; nothing has changed then. LogFullError when
        it has to be kept otherwise, NodeError when it cannot be kept."""
        now = self._tracker.clock()
        waiting = _Waiting(self._log.append(arrival.key, head, data_set, arrival.sha256, now), arrival)
        with self._changed:
            self._group.append(waiting)
            while self._committing and not waiting.is_done:
                self._changed.wait()
            mine = not waiting.is_done
            if mine:
                group, self._group, self._committing = self._group, [], True
        if mine:
            try:
                self._commit(group)
            finally:
                with self._changed:
                    self._committing = False
                    self._last_came = time.monotonic()
                    self._changed.notify_all()
        if waiting.error is not None:
            raise waiting.error
        return bool(waiting.is_new)

    def settle(self) -> None:
        """Give everything in the log a file of its own. StorageError, DatabaseError."""
        with self._one_settles:
            while batch := self._log.waiting()[:BATCH]:
                self._archive.settle(batch, self._current)
                self._tracker.database.make_durable()
                self._log.settled(batch)

    def close(self) -> None:
        """Settle what is left, if that can be done; else the next start does."""
        self._stopping.set()
        self._there_is_work.set()
        self._settling.join()
        try:
            self.settle()
        except NodeError as error:
            log.warning("log.not_settled", reason=str(error))
        self._syncing.shutdown()
        self._log.close()

    def _commit(self, group: Sequence[_Waiting]) -> None:
        """Make a group durable and enter it, in one transaction or, where that fails, one by one."""
        durable = self._syncing.submit(self._log.make_durable, [waiting.entry for waiting in group])
        arrived = [waiting.arrival for waiting in group]
        try:
            together = arrivals.record_further(self._tracker, arrived, self._quiet_s, before_commit=durable.result)
        except BusyError as error:  # one by one they would wait as long, each
            wait([durable])
            for waiting in group:
                waiting.error = error
                self._log.drop(waiting.entry)
            return
        except Exception:
            together = False
        for waiting in group:
            try:
                durable.result()
                waiting.is_new = together or arrivals.record(
                    self._tracker, waiting.arrival, self._quiet_s, durable=False
                )
            except Exception as error:
                waiting.error = error
            if waiting.is_new:
                self._log.keep(waiting.entry)
            else:
                self._log.drop(waiting.entry)
        self._there_is_work.set()

    def _current(self, entries: Sequence[LogEntry]) -> set[str]:
        """The keys that the tracker still names with that content: a study may have been purged meanwhile."""
        return instances.named(self._tracker, {entry.key: entry.sha256 for entry in entries})

    def _settle_forever(self) -> None:
        while True:
            self._there_is_work.wait()
            if self._stopping.wait(SETTLE_AFTER_S / 2):
                return
            try:
                self._log.prepare()
                if self._is_time():
                    self._there_is_work.clear()
                    if self._stopping.is_set():  # `close` may have set the other just before
                        return
                    self.settle()
            except NodeError as error:
                self._there_is_work.set()
                log.warning("log.not_settled", reason=str(error), next_try_in_s=RETRY_S)
                self._stopping.wait(RETRY_S)

    def _is_time(self) -> bool:
        if time.monotonic() - self._last_came >= SETTLE_AFTER_S:
            return True
        waiting = [entry.record for entry in self._log.waiting()]
        old = self._tracker.clock() - timedelta(seconds=SETTLE_OLDER_S)
        return any(record.at < old for record in waiting[:1]) or sum(r.content_length for r in waiting) > SETTLE_BEYOND


def recover(archive: Archive, tracker: Tracker, enter: Callable[[bytes, str], str | None]) -> int:
    """Take over what the logs of dead processes of this node hold: enter it in the tracker where it is missing there, and
    give it files. `enter` does both for one Part 10 file with its digest, and returns what went wrong, or None.
    Instances that were purged since are not entered. Returns how many instances there were."""
    found = 0
    try:
        for record, content in archive.leftovers():
            name = parse_key(record.key)
            if not isinstance(name, InstanceName) or arrivals.was_purged(tracker, name.study_uid, record.at):
                continue
            if content is None:
                if instances.named(tracker, {record.key: record.sha256}):
                    reason = "an instance in the log of a dead process is damaged"
                    log.error("log.damaged", key=record.key, reason=reason)
                continue
            found += 1
            problem = enter(content, record.sha256)
            if problem is not None:
                log.warning("log.not_entered", key=record.key, reason=problem)
    except NodeError as error:  # the log stays for the next start, and what is in it can be read
        log.error("log.not_recovered", reason=str(error))
    return found
