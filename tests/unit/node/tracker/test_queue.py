"""Claim, heartbeat, settle, rescue, on SQLite and on PostgreSQL: the identical code passes the identical tests."""

import threading
from dataclasses import replace

import pytest

from node.config.settings import DestinationSettings
from node.errors import LeaseLostError
from node.tracker import administration, arrivals, queue, views
from node.tracker.due import Destinations
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Failed, Matched, Missing, Postponed, Retry
from node.tracker.queue import backoff_s
from node.tracker.states import Kind, State

from .conftest import Clock, arrival
from .jobs import QUIET_S, claimed, deliver_job, derive_job, infer_job, matched, states


def test_a_job_is_claimed_by_one_worker_only(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, *(infer_job(str(n)) for n in range(20)))
    taken: list[int] = []

    def take() -> None:
        while (claim := queue.claim(tracker, Kind.INFER, "w")) is not None:
            taken.append(claim.job_id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 20
    assert len(set(taken)) == 20


def test_a_worker_whose_lease_was_taken_over_cannot_change_the_job(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    first = claimed(tracker, Kind.INFER, "host/infer/1")
    clock.forward(30)
    queue.heartbeat(tracker, first)
    clock.forward(59)
    assert queue.rescue(tracker) == 0, "the heartbeat has prolonged the lease"
    clock.forward(2)
    assert queue.rescue(tracker) == 1
    with pytest.raises(LeaseLostError):
        queue.heartbeat(tracker, first)
    second = claimed(tracker, Kind.INFER, "host/infer/2")
    with pytest.raises(LeaseLostError):
        queue.settle(tracker, first, Done("late"))
    assert queue.settle(tracker, second, Done("in time")) is State.DONE


def test_workers_known_to_be_dead_are_rescued_before_their_lease_ends(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    claimed(tracker, Kind.INFER, "here/infer/1")
    assert queue.rescue(tracker, dead=lambda worker: worker.startswith("elsewhere/")) == 0
    assert queue.rescue(tracker, dead=lambda worker: worker.startswith("here/")) == 1
    assert states(tracker, Kind.INFER) == ["ready"]


def test_a_job_that_kills_every_worker_fails_in_the_end(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job(attempts=3))
    for death in range(queue.MAX_DEATHS):
        assert states(tracker, Kind.INFER) == ["ready"], f"after {death} deaths"
        claimed(tracker, Kind.INFER)
        queue.rescue(tracker, dead=lambda worker: True)
    (job,) = views.jobs(tracker.database, kind=Kind.INFER)
    assert (job.state, job.attempts) == (State.FAILED, 0)
    assert job.error is not None and job.error.startswith("E_WORKER_DIED")


def test_deaths_count_only_in_a_row(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job(attempts=3))
    for _ in range(2):
        for _ in range(queue.MAX_DEATHS - 1):
            claimed(tracker, Kind.INFER)
            queue.rescue(tracker, dead=lambda worker: True)
        queue.settle(tracker, claimed(tracker, Kind.INFER), Retry("no memory", 0))
    assert states(tracker, Kind.INFER) == ["retry-wait"]


def test_what_waits_for_this_host_uses_no_attempt(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job(attempts=1))
    for _ in range(5):
        assert (
            queue.settle(tracker, claimed(tracker, Kind.INFER), Postponed("the disk is full", 10)) is State.RETRY_WAIT
        )
        assert queue.claim(tracker, Kind.INFER, "w") is None
        clock.forward(10)
    assert queue.settle(tracker, claimed(tracker, Kind.INFER), Done("room again")) is State.DONE


def test_a_deadline_counts_from_the_first_failure(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job(attempts=100))
    clock.forward(3600)
    hour = Retry("not reached", 1800, give_up_after_s=3600)
    for state in (State.RETRY_WAIT, State.RETRY_WAIT, State.FAILED):
        assert queue.settle(tracker, claimed(tracker, Kind.INFER), hour) is state
        clock.forward(1800)
    (job,) = views.jobs(tracker.database, kind=Kind.INFER)
    administration.retry(tracker, job.id, "admin")
    assert queue.settle(tracker, claimed(tracker, Kind.INFER), hour) is State.RETRY_WAIT, "it begins anew"


def test_a_retry_waits_and_the_last_one_fails(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job(attempts=2))
    assert queue.settle(tracker, claimed(tracker, Kind.INFER), Retry("no memory", 30)) is State.RETRY_WAIT
    clock.forward(29)
    assert queue.claim(tracker, Kind.INFER, "w") is None
    clock.forward(1)
    assert queue.settle(tracker, claimed(tracker, Kind.INFER), Retry("no memory", 30)) is State.FAILED
    (row,) = views.jobs(tracker.database, kind=Kind.INFER)
    assert row.error == "no memory"


def test_done_creates_what_follows_once(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (deliver_job(),)))
    assert states(tracker, Kind.DELIVER) == ["ready"]
    arrivals.record(
        tracker, arrival(1, "1.2.3"), QUIET_S
    )  # our own output comes back from the PACS: a new series of the study
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job(),)))
    assert states(tracker, Kind.INFER) == ["done"], "the same pair is the same work"
    assert states(tracker, Kind.DELIVER) == ["ready"]


def test_every_change_leaves_an_event(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    (row,) = views.jobs(tracker.database, kind=Kind.MATCH)
    events = views.job(tracker.database, row.id).events
    assert [(e.from_state, e.to_state, e.actor) for e in events] == [
        (None, "receiving", "MR1"), ("receiving", "running", "host/role/1"), ("running", "done", "host/role/1"),
    ]  # fmt: skip
    assert all(e.why for e in events)


def test_a_stopping_worker_gives_its_job_back_untried(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    queue.give_back(tracker, claimed(tracker, Kind.INFER))
    again = claimed(tracker, Kind.INFER)
    assert again.attempts == 1


def test_backoff_doubles_up_to_its_maximum_and_the_attempts_outlast_the_deadline() -> None:
    assert [backoff_s(n, 5, 60, lambda: 0.5) for n in range(1, 6)] == [5, 10, 20, 40, 60]
    assert backoff_s(1, 5, 60, lambda: 0.0) == 4
    assert backoff_s(10_000, 5, 60, lambda: 1.0) == pytest.approx(72)
    default = DestinationSettings(name="pacs", ae_title="PACS", host="pacs")
    waits = [
        backoff_s(n, default.initial_delay_s, default.max_delay_s, lambda: 0.0) for n in range(1, default.max_attempts)
    ]
    assert sum(waits) > default.give_up_h * 3600, "even with the shortest of pauses"


def derived(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (derive_job(),)))
    queue.settle(tracker, claimed(tracker, Kind.DERIVE), Done("ok", None, (deliver_job(),)))


def test_a_job_that_misses_what_an_earlier_one_made_waits_for_it(tracker: Tracker, clock: Clock) -> None:
    derived(tracker, clock)
    missing = Missing("a file is gone", derive_job())
    assert queue.settle(tracker, claimed(tracker, Kind.DELIVER), missing) is State.RETRY_WAIT
    (row,) = views.jobs(tracker.database, kind=Kind.DELIVER)
    assert (row.attempts, row.error) == (0, "a file is gone; waits for derive job 3")
    assert queue.claim(tracker, Kind.DELIVER, "w") is None
    assert states(tracker, Kind.DERIVE) == ["ready"]
    queue.settle(tracker, claimed(tracker, Kind.DERIVE), Done("ok", None, (deliver_job(),)))
    assert claimed(tracker, Kind.DELIVER).attempts == 1


def test_it_says_when_that_job_has_failed_and_goes_on_when_it_is_retried(tracker: Tracker, clock: Clock) -> None:
    derived(tracker, clock)
    missing = Missing("a file is gone", derive_job())
    queue.settle(tracker, claimed(tracker, Kind.DELIVER), missing)
    queue.settle(tracker, claimed(tracker, Kind.DERIVE), Failed("no header"))
    assert queue.claim(tracker, Kind.DELIVER, "w") is None
    clock.forward(24 * 3600)
    assert queue.settle(tracker, claimed(tracker, Kind.DELIVER), missing) is State.RETRY_WAIT
    assert states(tracker, Kind.DERIVE) == ["failed"], "it is not tried over and over"
    (row,) = views.jobs(tracker.database, kind=Kind.DELIVER)
    assert row.error == "a file is gone; waits for derive job 3, which is failed: no header"
    administration.retry(tracker, 3, "admin")
    queue.settle(tracker, claimed(tracker, Kind.DERIVE), Done("ok", None, (deliver_job(),)))
    assert claimed(tracker, Kind.DELIVER).attempts == 1


def test_a_maker_that_was_never_asked_for_is_asked_for(tracker: Tracker, clock: Clock) -> None:
    """A tracker of a version without derive jobs has the delivery behind the infer job."""
    matched(tracker, clock, infer_job())
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (deliver_job(),)))
    queue.settle(tracker, claimed(tracker, Kind.DELIVER), Missing("nothing is derived", derive_job()))
    derive, deliver = (
        views.job(tracker.database, views.jobs(tracker.database, kind=kind)[0].id)
        for kind in (Kind.DERIVE, Kind.DELIVER)
    )
    assert (derive.parent_id, deliver.parent_id) == (2, derive.id)
    queue.settle(tracker, claimed(tracker, Kind.DERIVE), Done("ok", None, (deliver_job(),)))
    assert states(tracker, Kind.DELIVER) == ["retry-wait"]
    assert claimed(tracker, Kind.DELIVER).attempts == 1


def test_deliveries_are_claimed_by_destination(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    jobs = tuple(replace(deliver_job(), key=f"infer:a:{name}", destination=name) for name in ("one", "two", "three"))
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, jobs))
    two = Destinations(frozenset({"two"}))
    rest = Destinations(frozenset({"one", "two"}), others=True)
    claims = [queue.claim(tracker, Kind.DELIVER, "w", which) for which in (two, two, rest, rest)]
    assert [None if claim is None else claim.key for claim in claims] == ["infer:a:two", None, "infer:a:three", None]
    assert queue.next_due(tracker, Kind.DELIVER, two) is None
    assert queue.next_due(tracker, Kind.DELIVER) == clock.now
