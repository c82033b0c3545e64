"""Audit rows for what a peer can cause as often as it likes: rejected associations and refused instances. So many are rows of
their own; what exceeds that is counted, and one row says how many there were. The log has a line for each."""

import threading
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

from node.tracker.audit import Action, Detail, try_audit
from node.tracker.handle import Tracker

WINDOW = timedelta(hours=1)
PER_PEER = 100
"""Rows of one peer in a window,"""
IN_ALL = 1000
"""and of all peers together: the audit trail grows by no more than this in an hour, whoever calls."""


class SparingAudit:
    """One object serves all associations. `close` it in the end, so that what was counted is said."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._lock = threading.Lock()
        self._since: datetime | None = None
        self._rows: Counter[str] = Counter()
        self._further: Counter[Action] = Counter()

    def add(
        self,
        action: Action,
        actor: str,
        peer: str,
        study_uid: str | None = None,
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """Add a row, or count it when `peer`, an address or an AE title, has caused too many."""
        now = self._tracker.clock()
        with self._lock:
            over = None
            if self._since is None or not self._since <= now < self._since + WINDOW:
                over = self._end_window(now)
            spared = self._rows[peer] >= PER_PEER or self._rows.total() >= IN_ALL
            if spared:
                self._further[action] += 1
            else:
                self._rows[peer] += 1
        if over is not None:
            self._say(*over)
        if not spared:
            try_audit(self._tracker, action, actor, study_uid, details)

    def close(self) -> None:
        """Say what was counted since the last time."""
        with self._lock:
            over = self._end_window(None)
        self._say(*over)

    def _end_window(self, now: datetime | None) -> tuple[datetime | None, Counter[Action]]:
        over = self._since, self._further
        self._since, self._rows, self._further = now, Counter(), Counter()
        return over

    def _say(self, since: datetime | None, further: Mapping[Action, int]) -> None:
        for action, times in further.items():
            key = "rejected" if action is Action.ASSOCIATION else "reason"
            details: dict[str, Detail] = {
                "further": times,
                "since": since.isoformat(timespec="seconds") if since else None,
                key: "too many in an hour; the log has a line for each",
            }
            try_audit(self._tracker, action, "receiver", details=details)
