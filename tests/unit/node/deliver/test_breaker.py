"""A destination that cannot be reached is asked by one delivery at a time."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from node.archive.facade import Archive
from node.config.settings import DestinationSettings, Settings
from node.deliver.breaker import FAILURES, Breaker
from node.deliver.worker import make_deliver_handler
from node.dicom.transfer_syntax import to_bytes
from node.payloads import PairRequest, StackRequest
from node.tracker import queue, steps, views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import Kind, State
from node.tracker.worker import attempt
from tests.conftest import free_port
from tests.dicom import mr_series


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_some_failures_and_lets_one_through_per_pause() -> None:
    clock = Seconds()
    destination = DestinationSettings(name="pacs", ae_title="P", host="h", initial_delay_s=10, max_delay_s=4000)
    breaker = Breaker(destination, clock)
    assert [breaker.failed() for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    assert 8 <= breaker.wait_s() <= 12
    clock.now = 13
    assert breaker.wait_s() == 0
    assert breaker.wait_s() > 0, "one delivery, not two"
    assert not breaker.failed()
    assert 16 <= breaker.wait_s() <= 24, "the pause doubles"
    for _ in range(10):
        breaker.failed()
    assert breaker.wait_s() <= 36, "up to half a minute, whatever max_delay_s is"
    assert breaker.reached()
    assert breaker.wait_s() == 0
    assert not breaker.reached(), "it was closed already"


def test_failures_that_are_not_in_a_row_do_not_open_it() -> None:
    breaker = Breaker(DestinationSettings(name="pacs", ae_title="P", host="h"), Seconds())
    for _ in range(3 * FAILURES):
        assert not breaker.failed()
        breaker.reached()
    assert breaker.wait_s() == 0


def test_a_backlog_uses_no_attempts_and_is_due_at_once_when_the_destination_is_back(tmp_path: Path) -> None:
    destination = DestinationSettings(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), initial_delay_s=3600, max_delay_s=3600
    )
    settings = Settings(destinations=[destination])
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    tracker, archive = Tracker(database), Archive.in_folder(tmp_path / "data")
    (image,) = mr_series(1)
    archive.put_derived("infer:1", [(str(image.SOPInstanceUID), to_bytes(image))], "page")
    stack = StackRequest(series_uid="1.2.1", contrast="T2", sop_uids=("1.2.1.1",))
    for n in range(FAILURES):
        request = PairRequest(study_uid=f"1.2.{n}", target=stack, reference=stack)
        job = steps.deliver_job("infer:1", request, "pacs", 5)
        queue.enqueue(tracker, replace(job, key=f"d{n}"), "test")
    clock = Seconds()
    breaker = Breaker(destination, clock)
    deliver = make_deliver_handler(tracker, archive, settings, {"pacs": breaker})

    def once() -> State | None:
        claim = queue.claim(tracker, Kind.DELIVER, "host/deliver/1")
        assert claim is not None
        return attempt(tracker, claim, deliver, threading.Event(), delay_s=0)

    for _ in range(FAILURES):
        assert breaker.wait_s() == 0
        assert once() is State.RETRY_WAIT
    assert breaker.wait_s() > 0
    assert queue.claim(tracker, Kind.DELIVER, "host/deliver/1") is None, "none is due for an hour"
    breaker.reached()
    queue.hasten(tracker, "pacs")
    due = queue.next_due(tracker, Kind.DELIVER)
    assert due is not None and due <= tracker.clock() + timedelta(seconds=1)
    assert [row.attempts for row in views.jobs(database)] == [1] * FAILURES
    database.dispose()
