"""How many connections there may be: not yet associated in all and per address, associated in all, per address and per AE
title.

Connections that have not associated yet are counted apart from those that have, so that a port scanner takes no association
away from an MR scanner. When the former are at their limit, the one that has waited longest is closed: an MR scanner sends
its request within milliseconds."""

import math
import resource
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import structlog

from node.config.settings import SCPSettings

log = structlog.get_logger()

DESCRIPTORS_FOR_THE_REST = 100
"""Files, the tracker, associations of our own."""


class Visitor:
    """A connection as the counters see it."""

    def __init__(self, address: str, port: int, cut: Callable[[], None]) -> None:
        self.address = address
        self.port = port
        self._cut = cut
        self.associated = False
        self.calling = ""
        """The calling AE title of its association."""
        self.idle_since = math.inf
        """When its last message was answered, by the monotonic clock; infinity within a message."""
        self.evicted = ""
        """Why another thread cut its connection; empty while none did."""

    def evict(self, reason: str) -> None:
        """End the connection, whatever its thread waits for."""
        self.evicted = self.evicted or reason
        self._cut()

    def follow(self, cut: Callable[[], None]) -> None:
        """The connection goes on under TLS, and is cut in another way."""
        self._cut = cut
        if self.evicted:
            cut()


class Slots:
    """Counts visitors. One object serves all threads."""

    def __init__(self, settings: SCPSettings) -> None:
        self._settings = settings
        self._lock = threading.Condition()
        self._waiting: dict[Visitor, None] = {}  # in the order they came
        self._associated: set[Visitor] = set()
        self._max_waiting = settings.max_waiting

    def fit_descriptors(self) -> None:
        """Keep below the limit of open files, with a line in the log when that is less than the configuration allows."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = (
            self._settings.max_waiting + 3 * self._settings.max_associations
        )  # each may have a stock association, with two
        needed = _open_descriptors() + DESCRIPTORS_FOR_THE_REST + wanted
        if soft != resource.RLIM_INFINITY and soft < needed:
            soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft == resource.RLIM_INFINITY or soft >= needed:
            return
        self._max_waiting = max(1, self._settings.max_waiting - (needed - soft))
        log.warning(
            "scp.few_descriptors",
            limit=soft,
            needed=needed,
            max_waiting=self._max_waiting,
            check=f"raise the limit of open files (LimitNOFILE= in the systemd unit) to {needed}",
        )

    def enter(self, visitor: Visitor) -> None:
        """Count a new connection. At the limit, the one that has waited longest is closed for it."""
        with self._lock:
            mine = [one for one in self._waiting if one.address == visitor.address]
            oldest = None
            if len(mine) >= self._settings.max_waiting_per_address:
                oldest, limit = mine[0], "max_waiting_per_address"
            elif len(self._waiting) >= self._max_waiting:
                oldest, limit = next(iter(self._waiting)), "max_waiting"
            if oldest is not None:
                del self._waiting[oldest]
            self._waiting[visitor] = None
        if oldest is not None:
            oldest.evict(f"newer connections came, and [scp] {limit} was reached")

    def associate(self, visitor: Visitor, calling: str) -> str | None:
        """Count it as associated under that AE title. Returns the setting whose limit forbids that, or None."""
        with self._lock:
            if len(self._associated) >= self._settings.max_associations:
                return "max_associations"
            peers = Counter(one.address for one in self._associated)
            if peers[visitor.address] >= self._settings.max_associations_per_address:
                return "max_associations_per_address"
            if sum(one.calling == calling for one in self._associated) >= self._settings.max_associations_per_ae_title:
                return "max_associations_per_ae_title"
            visitor.calling = calling
            self._waiting.pop(visitor, None)
            self._associated.add(visitor)
            visitor.associated = True
            return None

    def part(self, visitor: Visitor) -> None:
        """The association has ended, though its connection is still there."""
        with self._lock:
            if visitor in self._associated:
                self._associated.remove(visitor)
                self._waiting[visitor] = None
            self._lock.notify_all()

    def leave(self, visitor: Visitor) -> None:
        """The connection has ended."""
        with self._lock:
            self._waiting.pop(visitor, None)
            self._associated.discard(visitor)
            self._lock.notify_all()

    def evict_oldest_waiting(self, reason: str) -> None:
        """Free a descriptor, when there is one to free."""
        with self._lock:
            oldest = next(iter(self._waiting), None)
            if oldest is not None:
                del self._waiting[oldest]
        if oldest is not None:
            oldest.evict(reason)

    def evict_waiting(self, reason: str) -> None:
        with self._lock:
            waiting = list(self._waiting)
        for visitor in waiting:
            visitor.evict(reason)

    def evict_associated(self, reason: str, idle_since: float = math.inf) -> None:
        """All that have been idle since that time or longer; by default all."""
        with self._lock:
            associated = [one for one in self._associated if one.idle_since <= idle_since]
        for visitor in associated:
            visitor.evict(reason)

    def wait_for_none_associated(self, patience_s: float) -> bool:
        with self._lock:
            return self._lock.wait_for(lambda: not self._associated, patience_s)

    def wait_for_none(self, patience_s: float) -> bool:
        """Wait until every thread that serves a connection is done with it."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._associated and not self._waiting, patience_s)


def _open_descriptors() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 32
