"""Time that goes on evenly when somebody sets the clock of the host.

Leases, retries and deadlines are times in the tracker. If the clock were set by a day, live workers would lose their leases, and
what is due would wait for a day. So a process goes on with its own time, by a clock that is never set, until the times in
the tracker are moved along (`rebase`).
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from node.tracker.database import Database
from node.tracker.states import CLAIMABLE, FINISHED, LEASED, Kind
from node.tracker.tables import Job, Series

JUMP = timedelta(minutes=1)
"""Less is a correction, which is followed at once."""
FOLLOW_BACK_AFTER_S = 30.0


def utc_now() -> datetime:
    return datetime.now(UTC)


def since_boot_s() -> float:
    """Seconds since the host was started, suspended or not. Nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """The time, aware, in UTC. One object serves all threads of a process."""

    def __init__(
        self,
        follows: bool = False,
        wall: Callable[[], datetime] = utc_now,
        boot_s: Callable[[], float] = since_boot_s,
    ) -> None:
        """One that `follows` takes over a new time by itself: at once when that is later, so that its leases do not look
        expired, and after a while when it is earlier, when the service has moved the times in the tracker."""
        self._follows, self._wall, self._boot_s = follows, wall, boot_s
        self._lock = threading.Lock()
        self._anchor, self._anchor_s = wall(), boot_s()
        self._seen_s: float | None = None

    def __call__(self) -> datetime:
        with self._lock:
            jump, now_s = self._jump(), self._boot_s()
            if jump is None:
                self._adopt()
            elif self._follows:
                self._seen_s = now_s if self._seen_s is None else self._seen_s
                if jump > timedelta(0) or now_s - self._seen_s >= FOLLOW_BACK_AFTER_S:
                    self._adopt()
            return self._steady()

    def jump(self) -> timedelta | None:
        """By how much the clock of the host was set, as long as that is not adopted."""
        with self._lock:
            return self._jump()

    def adopt(self) -> None:
        """Go on with the time of the host."""
        with self._lock:
            self._adopt()

    def _steady(self) -> datetime:
        return self._anchor + timedelta(seconds=self._boot_s() - self._anchor_s)

    def _jump(self) -> timedelta | None:
        difference = self._wall() - self._steady()
        return difference if abs(difference) > JUMP else None

    def _adopt(self) -> None:
        self._anchor, self._anchor_s, self._seen_s = self._wall(), self._boot_s(), None


def rebase(database: Database, jump: timedelta) -> int:
    """Move every time that work waits for by `jump`; returns of how many jobs. What has happened keeps its time, except when
    the series of unfinished matches came, from which their deadlines are counted."""
    with database.write() as session:
        jobs = session.scalars(select(Job).where(Job.state.not_in(FINISHED)).order_by(Job.id).with_for_update()).all()
        for job in jobs:
            if job.state in CLAIMABLE and job.next_attempt_at is not None:
                job.next_attempt_at += jump
            if job.state in LEASED and job.lease_expires_at is not None:
                job.lease_expires_at += jump
            if job.first_failed_at is not None:
                job.first_failed_at += jump
        unfinished = {job.study_uid for job in jobs if job.kind is Kind.MATCH}
        for study_uid in sorted(unfinished):
            for series in session.scalars(select(Series).where(Series.study_uid == study_uid)):
                series.last_received_at += jump
    return len(jobs)
