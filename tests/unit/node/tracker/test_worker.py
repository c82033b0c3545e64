"""The loop of a worker: woken at once by its own process, by the poll for others, by the clock for what is due later."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.errors import NodeError, PeerError, RefusedError, StorageError
from node.tracker import queue, views, worker
from node.tracker.database import Database
from node.tracker.due import Destinations
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, NewJob, Outcome
from node.tracker.states import Kind, State
from node.tracker.worker import Handler, Lease, run_worker
from tests.waiting import until

NEVER_S = 3600.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    yield database
    database.dispose()


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found by looking again."""
    monkeypatch.setattr(worker, "POLL_S", NEVER_S)
    monkeypatch.setattr(worker, "LONGEST_POLL_S", NEVER_S)


@contextmanager
def working(tracker: Tracker, handler: Handler, destinations: Destinations | None = None) -> Iterator[None]:
    stop = threading.Event()
    options = {"destinations": destinations, "initial_s": 0.01, "maximum_s": 0.01}
    kind = Kind.FETCH if destinations is None else Kind.DELIVER
    thread = threading.Thread(target=run_worker, args=(tracker, kind, "host/1", handler, stop), kwargs=options)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        tracker.wakeups.wake(kind)
        thread.join()


def fetch_job(number: int = 1, attempts: int = 3) -> NewJob:
    return NewJob(Kind.FETCH, f"fetch:{number}", "1.2", {}, attempts)


def deliver_job(destination: str) -> NewJob:
    return NewJob(Kind.DELIVER, f"deliver:{destination}", "1.2", {}, 3, destination=destination)


def done(lease: Lease) -> Outcome:
    return Done("ok")


def states(database: Database) -> list[str]:
    return [row.state for row in views.jobs(database)]


@pytest.mark.usefixtures("no_poll")
def test_work_enqueued_in_the_same_process_is_done_at_once(database: Database) -> None:
    tracker = Tracker(database)
    with working(tracker, done):
        for number in range(3):
            queue.enqueue(tracker, fetch_job(number), "test")
            until(lambda: set(states(database)) == {State.DONE}, "the job is done")


@pytest.mark.usefixtures("no_poll")
def test_work_that_is_due_later_is_done_when_it_is(database: Database) -> None:
    tracker = Tracker(database)
    with working(tracker, done):
        queue.enqueue(tracker, fetch_job(), "test", delay_s=0.3)
        until(lambda: states(database) == [State.DONE], "the job is done")


def test_work_that_another_process_enqueues_is_found_by_the_poll(database: Database) -> None:
    with working(Tracker(database), done):
        queue.enqueue(Tracker(database), fetch_job(), "test")
        until(lambda: states(database) == [State.DONE], "the job is done")


@pytest.mark.usefixtures("no_poll")
def test_a_failed_attempt_is_tried_again_when_it_is_due(database: Database) -> None:
    tracker = Tracker(database)
    attempts: list[int] = []

    def twice(lease: Lease) -> Outcome:
        attempts.append(lease.claim.attempts)
        if len(attempts) < 2:
            raise PeerError
        return Done("ok")

    with working(tracker, twice):
        queue.enqueue(tracker, fetch_job(), "test")
        until(lambda: states(database) == [State.DONE], "the job is done")
    assert attempts == [1, 2]


@pytest.mark.usefixtures("no_poll")
def test_each_destination_has_a_worker_of_its_own(database: Database) -> None:
    """One that hangs in a job delays no other, and what is for a destination nobody knows has a worker too."""
    tracker = Tracker(database)
    free, hanging = threading.Event(), threading.Event()

    def hang(lease: Lease) -> Outcome:
        hanging.set()
        free.wait()
        return Done("at last")

    for name in ("slow", "quick", "unknown"):
        queue.enqueue(tracker, deliver_job(name), "test")
    with (
        working(tracker, hang, Destinations(frozenset({"slow"}))),
        working(tracker, done, Destinations(frozenset({"quick"}))),
        working(tracker, done, Destinations(frozenset({"slow", "quick"}), others=True)),
    ):
        until(lambda: hanging.is_set() and states(database)[1:] == [State.DONE] * 2, "the others are done")
        assert states(database)[0] == State.SENDING
        free.set()


@pytest.mark.parametrize(
    ("raised", "state", "says"),
    [
        (RefusedError("E_X", "no"), State.REFUSED, "E_X: no"),
        (NodeError("broken"), State.FAILED, "broken"),
        (StorageError("away"), State.RETRY_WAIT, "away"),
        (ValueError("Miller^Mary"), State.FAILED, "unexpected ValueError"),
    ],
)
def test_what_a_stage_raises_ends_its_attempt(database: Database, raised: Exception, state: State, says: str) -> None:
    """The text of a foreign exception may quote a patient, and goes nowhere."""

    def fail(lease: Lease) -> Outcome:
        raise raised

    tracker = Tracker(database)
    queue.enqueue(tracker, fetch_job(attempts=1), "test")
    claim = queue.claim(tracker, Kind.FETCH, "host/1")
    assert claim is not None
    assert worker.attempt(tracker, claim, fail, threading.Event(), delay_s=0) is state
    (row,) = views.jobs(database)
    assert says in row.error
    assert "Miller" not in row.error


def test_a_stopping_worker_gives_its_job_back(database: Database) -> None:
    tracker, stop = Tracker(database), threading.Event()
    stop.set()
    queue.enqueue(tracker, fetch_job(), "test")
    claim = queue.claim(tracker, Kind.FETCH, "host/1")
    assert claim is not None

    def half(lease: Lease) -> Outcome:
        lease.progress(1, 2)
        raise AssertionError("progress ends the work")

    assert worker.attempt(tracker, claim, half, stop, delay_s=0) is None
    (row,) = views.jobs(database)
    assert (row.state, row.attempts) == (State.READY, 0)
