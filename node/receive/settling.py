"""Gives the instances in the log of arrivals files of their own, in the background."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from node.archive.facade import Archive
from node.archive.log import Log, LogEntry
from node.errors import NodeError
from node.tracker import instances
from node.tracker.handle import Tracker

log = structlog.get_logger()

SETTLE_AFTER_S = 1.0
"""Files are made when no instance has arrived for this long, so a study is received before disk and processor are busy."""
SETTLE_BEYOND = 128 << 20
"""They are also made when the log holds this many bytes."""
SETTLE_OLDER_S = 30.0
"""They are also made when an entry has waited for this long."""
BATCH = 64
"""How many files are made at a time."""
RETRY_S = 10.0


class Settling:
    """One object, with a thread of its own, for one log."""

    def __init__(self, archive: Archive, tracker: Tracker, log_of_arrivals: Log) -> None:
        self._archive = archive
        self._tracker = tracker
        self._log = log_of_arrivals
        self._last_came = 0.0
        self._one_settles = threading.Lock()
        self._there_is_work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settling", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def came(self) -> None:
        """An instance is in the log, and has its row."""
        self._last_came = time.monotonic()
        self._there_is_work.set()

    def settle(self) -> None:
        """Make a file for each instance in the log that has a row. StorageError, DatabaseError."""
        with self._one_settles:
            while batch := self._log.waiting()[:BATCH]:
                self._archive.settle(batch, self._current)
                self._tracker.database.make_durable()
                self._log.settled(batch)

    def close(self) -> None:
        """Settle what is left, if that can be done; else the next start does."""
        self._stopping.set()
        self._there_is_work.set()
        self._thread.join()
        try:
            self.settle()
        except NodeError as error:
            log.warning("log.not_settled", reason=str(error))

    def _current(self, entries: Sequence[LogEntry]) -> set[str]:
        """The keys that the tracker still names with that content: a study may have been purged meanwhile."""
        return instances.named(self._tracker, {entry.key: entry.sha256 for entry in entries})

    def _run(self) -> None:
        with suppress(NodeError):  # it is tried again with the first instance
            self._log.prepare()
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
