"""Group commit: the instances that all associations bring at the same moment become durable with one write.

Each thread writes its instance to the log. The first thread that is done takes every instance that is written by then, and has
the disk make them durable. Meanwhile the other threads wait for the next group; a thread that is alone never waits. Then their
senders are answered. A moment later `entering.py` gives them rows in the tracker, and in the background `settling.py` files of
their own. Until then a start after a crash enters what is in the log (see `recover`). A part of the log is only used again
when files and transactions are durable.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from node.archive.digest import Digest
from node.archive.facade import Archive
from node.archive.layout import InstanceName, parse_key
from node.archive.log import Log, LogEntry
from node.dicom.attributes import Header
from node.errors import NodeError
from node.receive.entering import Entering
from node.receive.known import KnownInstances
from node.receive.settling import Settling
from node.tracker import arrivals, instances
from node.tracker.arrivals import Arrival
from node.tracker.handle import Tracker

log = structlog.get_logger()

PATIENCE_S = 4.0
"""How long a receiver waits for other writers of the tracker. It may wait twice for an instance, and a scanner hears within 10 s
that it is to send it again."""


@dataclass(eq=False)
class _Waiting:
    """An instance in the log, and the thread that waits for the disk."""

    entry: LogEntry
    turn: threading.Lock
    """Held until the thread goes on: it is done, or it is the one to have the next group written."""
    is_done: bool = False
    error: Exception | None = None


class GroupCommit:
    """One object serves all associations. `open` one, `close` it in the end."""

    def __init__(self, archive: Archive, tracker: Tracker, log_of_arrivals: Log, quiet_s: float) -> None:
        self._archive = archive
        self._tracker = tracker
        self._log = log_of_arrivals
        self._known = KnownInstances(tracker)
        self._settling = Settling(archive, tracker, log_of_arrivals)
        self._entering = Entering(tracker, log_of_arrivals, self._known, quiet_s, self._settling.came)
        self._guard = threading.Lock()
        self._next_group: list[_Waiting] = []
        self._disk_works = False

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
        group_commit._entering.start()
        group_commit._settling.start()
        return group_commit

    @property
    def largest(self) -> int:
        """Size in bytes of the largest data set that goes this way."""
        return self._log.largest

    def keep(self, head: bytes, data_set: bytes | memoryview, arrival: Arrival) -> bool:
        """Make an instance durable, and have it entered: before this returns when it begins a series, else within a moment.
        False when it was there already, or is just being kept; nothing has changed then. LogFullError when it has to be
        kept otherwise, NodeError when it cannot be kept. One thread at a time for the same SOP instance UID."""
        study_uid, sop_uid = arrival.study_uid, arrival.sop_uid
        if not self._known.claim(study_uid, sop_uid):
            return False
        is_kept = False
        try:
            is_kept = self._keep(head, data_set, arrival)
        finally:
            if not is_kept:
                self._known.release(study_uid, sop_uid)
        return is_kept

    def entered(self, study_uid: str, series_uid: str, sop_uid: str) -> None:
        """An instance was kept and entered by other means."""
        self._known.entered([(study_uid, series_uid, sop_uid)])

    def flush(self) -> None:
        """Return when everything that was acknowledged has its row. NodeError when that cannot be done now."""
        self._entering.flush()

    def settle(self) -> None:
        """Give everything in the log a file of its own. StorageError, DatabaseError."""
        self._entering.flush()
        self._settling.settle()

    def close(self) -> None:
        """Enter and settle what is left, if that can be done; else the next start does."""
        self._entering.close()
        self._settling.close()
        self._log.close()

    def _keep(self, head: bytes, data_set: bytes | memoryview, arrival: Arrival) -> bool:
        entry = self._log.append(arrival.key, head, data_set, arrival.sha256, self._tracker.clock())
        is_kept = False
        try:
            self._make_durable(entry)
            if self._known.has_series(arrival.study_uid, arrival.series_uid):
                arrival.header = arrival.header and partial(self._header, arrival)
                self._entering.soon(entry, arrival)
                is_kept = True
            else:
                is_kept = self._entering.at_once(entry, arrival)
        finally:
            if not is_kept:
                self._log.drop(entry)
        return is_kept

    def _make_durable(self, entry: LogEntry) -> None:
        waiting = _Waiting(entry, threading.Lock())
        waiting.turn.acquire()
        with self._guard:
            self._next_group.append(waiting)
            leads, self._disk_works = not self._disk_works, True
        if not leads:
            waiting.turn.acquire()
        if not waiting.is_done:
            self._lead()
        if waiting.error is not None:
            raise waiting.error

    def _lead(self) -> None:
        """Have everything that is written by now made durable, and give the lead to one of those who came meanwhile."""
        with self._guard:
            group, self._next_group = self._next_group, []
        error: Exception | None = None
        try:
            self._log.make_durable([one.entry for one in group])
        except Exception as failure:  # whatever it is, those who wait must hear of it
            error = failure
        for one in group:
            one.is_done, one.error = True, error
            one.turn.release()
        with self._guard:
            self._disk_works = bool(self._next_group)
            if self._next_group:
                self._next_group[0].turn.release()

    def _header(self, arrival: Arrival) -> Header:
        """Of an instance in the log: its data set may be gone from memory when it is entered."""
        digest = Digest(arrival.sha256, arrival.transfer_syntax_uid)
        return self._archive.instance(arrival.key, digest).read_header()


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
