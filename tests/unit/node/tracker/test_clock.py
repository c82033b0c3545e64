"""Somebody sets the clock of the host, by a day either way: nothing that runs is taken for dead, and what is due stays due."""

from datetime import UTC, datetime, timedelta

import pytest

from node.tracker import queue
from node.tracker.clock import FOLLOW_BACK_AFTER_S, SteadyClock, rebase
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import NewJob, Retry
from node.tracker.states import Kind


class Host:
    """A clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.wall, self.boot_s = datetime(2026, 1, 1, 12, tzinfo=UTC), 1000.0

    def go_on(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.boot_s += seconds

    def clock(self, follows: bool = False) -> SteadyClock:
        return SteadyClock(follows, lambda: self.wall, lambda: self.boot_s)


@pytest.mark.parametrize("days", [1, -1])
def test_leases_and_retries_outlast_a_jump(database: Database, days: int) -> None:
    host = Host()
    clock = host.clock()
    tracker = Tracker(database, timedelta(seconds=60), clock)
    for number in range(2):
        queue.enqueue(tracker, NewJob(Kind.INFER, f"infer:{number}", "1.2", {}, 3), "test")
    failed, held = (queue.claim(tracker, Kind.INFER, "w") for _ in range(2))
    assert failed is not None and held is not None
    queue.settle(tracker, failed, Retry("no memory", 30))
    host.wall += timedelta(days=days)
    assert queue.rescue(tracker) == 0, "before the jump is noticed"
    assert queue.claim(tracker, Kind.INFER, "w") is None
    jump = clock.jump()
    assert jump == timedelta(days=days)
    rebase(database, jump)
    clock.adopt()
    assert clock.jump() is None and clock() == host.wall
    assert queue.rescue(tracker) == 0, "after it"
    queue.heartbeat(tracker, held)
    host.go_on(29)
    assert queue.claim(tracker, Kind.INFER, "w") is None
    host.go_on(1)
    assert queue.claim(tracker, Kind.INFER, "w") is not None, "due after 30 s all the same"
    host.go_on(31)
    assert queue.rescue(tracker) == 1, "a lease still ends"


def test_small_corrections_are_followed_at_once() -> None:
    host = Host()
    clock = host.clock()
    for correction in (20, -30, 59):
        host.wall += timedelta(seconds=correction)
        assert clock() == host.wall
        assert clock.jump() is None


def test_an_infer_worker_follows_the_service() -> None:
    host = Host()
    clock = host.clock(follows=True)
    host.wall += timedelta(days=1)
    assert clock() == host.wall, "later at once: its lease must not look expired"
    before = host.wall
    host.wall -= timedelta(days=1)
    assert clock() == before
    host.go_on(FOLLOW_BACK_AFTER_S)
    assert clock() == host.wall
