"""What happens by the clock."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from node.archive.facade import Archive
from node.errors import NodeError
from node.housekeeping import schedule as housekeeping
from node.tracker import queue, views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import NewJob
from node.tracker.states import Kind, State
from tests.waiting import until


class Clock:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Tracker]:
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    yield Tracker(database, timedelta(seconds=60), Clock())
    database.dispose()


def test_a_job_whose_worker_died_is_freed_by_the_clock(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "RESCUE_EVERY_S", 1)
    queue.enqueue(tracker, NewJob(Kind.FETCH, "fetch:1", "1.2", {}, 3), "test")
    queue.claim(tracker, Kind.FETCH, "host/dead")
    tracker.clock.now += timedelta(seconds=61)  # type: ignore[attr-defined]
    scheduler = housekeeping.schedule(tracker, Archive.in_folder(tmp_path / "data"), True)
    scheduler.start()
    try:
        until(lambda: views.jobs(tracker.database)[0].state == State.READY, "the job is freed")
    finally:
        scheduler.shutdown()
    (job,) = views.jobs(tracker.database)
    assert "host/dead died" in views.job(tracker.database, job.id).events[-1].why


def test_a_low_disk_is_said(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        housekeeping.watch_disk(Archive.in_folder(tmp_path))
        housekeeping.watch_disk(Archive.in_folder(tmp_path, reserve_gb=1e9))
    assert [entry["event"] for entry in logs] == ["disk.below_reserve"]
    assert "reserve_gb" in logs[0]["reason"]


def test_a_task_that_fails_does_not_end_the_clock() -> None:
    def fail() -> None:
        raise NodeError("the tracker is away")

    with structlog.testing.capture_logs() as logs:
        housekeeping._guarded(fail)()
    assert logs[0]["reason"] == "the tracker is away"
