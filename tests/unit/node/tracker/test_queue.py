"""The queue on SQLite and on PostgreSQL: the identical code passes the identical tests."""

import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from node.config.settings import DestinationSettings
from node.errors import LeaseLostError, NotFoundError, TransitionError
from node.tracker import commitments, deliveries, views
from node.tracker.database import Database, DatabaseError
from node.tracker.outcomes import Committing, Done, Failed, Matched, NewJob, Refused, Retry
from node.tracker.queue import MATCH_ATTEMPTS, Claim, Queue, backoff_s
from node.tracker.states import Kind, State
from node.tracker.tables import Base

from .conftest import Clock, arrival

QUIET_S = 10


def claimed(queue: Queue, kind: Kind, worker: str = "host/role/1") -> Claim:
    claim = queue.claim(kind, worker)
    assert claim is not None
    return claim


def infer_job(
    name: str = "a", revision: int = 2, target: str = "1.2.1", reference: str = "1.2.2", attempts: int = 3
) -> NewJob:
    return NewJob(Kind.INFER, f"infer:{name}", "1.2", {"name": name}, attempts, revision, target, reference)


def deliver_job(parent: str = "a", revision: int = 2) -> NewJob:
    return NewJob(Kind.DELIVER, f"infer:{parent}:pacs", "1.2", {"destination": "pacs"}, 3, revision, "1.2.1", "1.2.2")


def matched(queue: Queue, clock: Clock, *wanted: NewJob) -> None:
    """A study with one instance in each of two series, matched."""
    for series in ("1.2.1", "1.2.2"):
        queue.record(arrival(1, series), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {"outcome": "paired"}, wanted))


def states(queue: Queue, kind: Kind) -> list[str]:
    return [str(row["state"]) for row in views.jobs(queue.database, kind=kind)]


def test_the_migrations_make_the_tables_the_code_uses(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert database.revision()[0] == database.revision()[1]
    database.upgrade()  # again, as at every start


def test_a_tracker_whose_connections_are_all_taken_is_one_that_does_not_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not end a worker's thread, as a foreign exception would."""
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.1)
    with ExitStack() as others, pytest.raises(DatabaseError, match="does not answer"):
        for _ in range(50):
            others.enter_context(database.read())
    with database.read():
        pass


def test_a_series_is_matched_when_it_has_been_quiet(queue: Queue, clock: Clock) -> None:
    queue.record(arrival(1), QUIET_S)
    assert states(queue, Kind.MATCH) == ["receiving"]
    clock.forward(QUIET_S - 1)
    assert queue.claim(Kind.MATCH, "w") is None
    clock.forward(1)
    assert claimed(queue, Kind.MATCH).revision == 1


def test_a_series_is_matched_at_once_when_the_scanner_said_how_many(queue: Queue) -> None:
    queue.record(arrival(1, expected=2), QUIET_S)
    assert queue.claim(Kind.MATCH, "w") is None
    queue.record(arrival(2, expected=2), QUIET_S)
    assert queue.claim(Kind.MATCH, "w") is not None


def test_more_than_the_scanner_said_are_waited_for_as_if_it_had_not(queue: Queue, clock: Clock) -> None:
    """The number is of an acquisition, and a series may have several."""
    queue.record(arrival(1, expected=1), QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, ()))
    queue.record(arrival(2, expected=1), QUIET_S)
    assert queue.claim(Kind.MATCH, "w") is None
    clock.forward(QUIET_S)
    assert claimed(queue, Kind.MATCH).revision == 2


def test_an_instance_recorded_twice_is_there_once(queue: Queue) -> None:
    assert queue.record(arrival(1), QUIET_S)
    assert not queue.record(arrival(1), QUIET_S)
    assert views.totals(queue.database) == {"studies": 1, "series": 1, "instances": 1, "bytes": 1000}


def test_a_job_is_claimed_by_one_worker_only(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, *(infer_job(str(n)) for n in range(20)))
    taken: list[int] = []

    def take() -> None:
        while (claim := queue.claim(Kind.INFER, "w")) is not None:
            taken.append(claim.job_id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 20
    assert len(set(taken)) == 20


def test_a_worker_whose_lease_was_taken_over_cannot_change_the_job(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    first = claimed(queue, Kind.INFER, "host/infer/1")
    clock.forward(30)
    queue.heartbeat(first)
    clock.forward(59)
    assert queue.rescue() == 0, "the heartbeat has prolonged the lease"
    clock.forward(2)
    assert queue.rescue() == 1
    with pytest.raises(LeaseLostError):
        queue.heartbeat(first)
    second = claimed(queue, Kind.INFER, "host/infer/2")
    with pytest.raises(LeaseLostError):
        queue.settle(first, Done("late"))
    assert queue.settle(second, Done("in time")) is State.DONE


def test_workers_known_to_be_dead_are_rescued_before_their_lease_ends(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    claimed(queue, Kind.INFER, "here/infer/1")
    assert queue.rescue(dead=lambda worker: worker.startswith("elsewhere/")) == 0
    assert queue.rescue(dead=lambda worker: worker.startswith("here/")) == 1
    assert states(queue, Kind.INFER) == ["ready"]


def test_a_job_that_kills_every_worker_fails_in_the_end(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job(attempts=3))
    for _ in range(3):
        claimed(queue, Kind.INFER)
        queue.rescue(dead=lambda worker: True)
    assert states(queue, Kind.INFER) == ["failed"]


def test_a_retry_waits_and_the_last_one_fails(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job(attempts=2))
    assert queue.settle(claimed(queue, Kind.INFER), Retry("no memory", 30)) is State.RETRY_WAIT
    clock.forward(29)
    assert queue.claim(Kind.INFER, "w") is None
    clock.forward(1)
    assert queue.settle(claimed(queue, Kind.INFER), Retry("no memory", 30)) is State.FAILED
    (row,) = views.jobs(queue.database, kind=Kind.INFER)
    assert row["error"] == "no memory"


def test_done_creates_what_follows_once(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    queue.settle(claimed(queue, Kind.INFER), Done("ok", {"slices": 3}, (deliver_job(),)))
    assert states(queue, Kind.DELIVER) == ["ready"]
    queue.record(arrival(1, "1.2.3"), QUIET_S)  # our own output comes back from the PACS: a new series of the study
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job(),)))
    assert states(queue, Kind.INFER) == ["done"], "the same pair is the same work"
    assert states(queue, Kind.DELIVER) == ["ready"]


def test_late_slices_hold_the_old_pair_back_and_supersede_it(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job("old"))
    running = claimed(queue, Kind.INFER)
    queue.record(arrival(2, "1.2.1"), QUIET_S)
    assert states(queue, Kind.MATCH) == ["receiving"]
    queue.settle(running, Done("ok", None, (deliver_job("old"),)))
    assert queue.claim(Kind.DELIVER, "w") is None, "a partial series is not delivered while the study is open"
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job("new", revision=3),)))
    assert states(queue, Kind.DELIVER) == ["cancelled"]
    assert states(queue, Kind.INFER) == ["done", "ready"]


def test_a_running_job_that_is_superseded_loses_its_lease(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job("old"))
    running = claimed(queue, Kind.INFER)
    queue.record(arrival(2, "1.2.1"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job("new", revision=3),)))
    with pytest.raises(LeaseLostError):
        queue.heartbeat(running)


def test_late_slices_that_change_nothing_confirm_the_pair(queue: Queue, clock: Clock) -> None:
    """A second echo of the target's series, say: the pair's members are the same."""
    matched(queue, clock, infer_job("same"))
    queue.record(arrival(2, "1.2.1"), QUIET_S)
    assert queue.claim(Kind.INFER, "w") is None
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job("same", revision=3),)))
    assert queue.claim(Kind.INFER, "w") is not None


def test_a_result_whose_pair_was_confirmed_while_it_was_made_is_delivered(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job(revision=2))
    infer = claimed(queue, Kind.INFER)
    queue.record(arrival(2), QUIET_S)  # not of the stack that the pair takes from the series
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("as before", {}, (infer_job(revision=3),)))
    assert queue.settle(infer, Done("made", then=(deliver_job(revision=infer.revision),))) is State.DONE
    assert claimed(queue, Kind.DELIVER).revision == 3


@pytest.mark.parametrize("held", [None, "look"])
def test_a_superseded_pair_that_is_wanted_again_goes_on_where_it_was(
    queue: Queue, clock: Clock, held: str | None
) -> None:
    """Another reference comes, is preferred, and turns out to be none."""
    matched(queue, clock, infer_job("new"), infer_job("made"))
    queue.cancel(2, "admin")
    queue.settle(claimed(queue, Kind.INFER), Done("ok", None, (replace(deliver_job("made"), held=held),)))
    queue.retry(2, "admin")
    queue.record(arrival(1, "1.2.3"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job("other", reference="1.2.3"),)))
    assert states(queue, Kind.INFER) == ["cancelled", "done", "ready"]
    assert states(queue, Kind.DELIVER) == ["cancelled"]
    queue.record(arrival(2, "1.2.3"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job("new"), infer_job("made"))))
    assert states(queue, Kind.INFER) == ["ready", "done", "cancelled"]
    assert states(queue, Kind.DELIVER) == ["held" if held else "ready"]


def test_what_an_administrator_cancelled_stays_so_when_it_is_wanted_again(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    queue.cancel(2, "admin")
    queue.record(arrival(1, "1.2.3"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job(),)))
    assert states(queue, Kind.INFER) == ["cancelled"]


def test_a_job_whose_series_have_grown_since_is_not_retried_in_vain(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job("old"))
    queue.settle(claimed(queue, Kind.INFER), Failed("broken"))
    queue.record(arrival(2, "1.2.1"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job("new", revision=3),)))
    with pytest.raises(TransitionError, match="have grown since"):
        queue.retry(2, "admin")
    assert states(queue, Kind.INFER) == ["failed", "ready"]


def test_instances_that_arrive_while_a_study_is_matched_reopen_it(queue: Queue, clock: Clock) -> None:
    queue.record(arrival(1), QUIET_S)
    clock.forward(QUIET_S)
    match = claimed(queue, Kind.MATCH)
    queue.record(arrival(2), QUIET_S)
    assert queue.settle(match, Matched("paired", {}, ())) is State.RECEIVING
    assert queue.claim(Kind.MATCH, "w") is None, "the new instance's series has to fall quiet first"
    clock.forward(QUIET_S)
    assert queue.claim(Kind.MATCH, "w") is not None


@pytest.mark.parametrize("outcome", [Failed("damaged"), Retry("no memory", 600)])
def test_a_match_that_fails_as_more_arrives_looks_again(queue: Queue, clock: Clock, outcome: Failed | Retry) -> None:
    queue.record(arrival(1), QUIET_S)
    clock.forward(QUIET_S)
    for _ in range(MATCH_ATTEMPTS - 1):
        queue.settle(claimed(queue, Kind.MATCH), Retry("no memory", 0))
    last = claimed(queue, Kind.MATCH)
    queue.record(arrival(2), QUIET_S)
    assert queue.settle(last, outcome) is State.RECEIVING
    clock.forward(QUIET_S)
    assert claimed(queue, Kind.MATCH).attempts == 1


def test_a_study_waits_for_its_partner_and_is_looked_at_again_in_the_end(queue: Queue, clock: Clock) -> None:
    queue.record(arrival(1), QUIET_S)
    clock.forward(QUIET_S)
    deadline = clock.now + timedelta(hours=24)
    outcome = Matched("no reference yet", {}, (), waiting=True, look_again_at=deadline)
    assert queue.settle(claimed(queue, Kind.MATCH), outcome) is State.WAITING_PAIR
    assert queue.claim(Kind.MATCH, "w") is None
    clock.forward(24 * 3600)
    assert queue.settle(claimed(queue, Kind.MATCH), Refused("E_NO_REFERENCE", "none came")) is State.REFUSED
    queue.record(arrival(1, "1.2.2"), QUIET_S)
    assert states(queue, Kind.MATCH) == ["receiving"], "a refused study reopens when more of it comes"


def fetch_job(revision: int) -> NewJob:
    return NewJob(Kind.FETCH, f"fetch:1.2:{revision}", "1.2", {}, 3)


def waits(queue: Queue, clock: Clock) -> State:
    """Match the study as one that waits for a reference, which is to be fetched."""
    clock.forward(QUIET_S)
    claim = claimed(queue, Kind.MATCH)
    later = clock.now + timedelta(hours=24)
    return queue.settle(claim, Matched("no T1", {}, (fetch_job(claim.revision),), waiting=True, look_again_at=later))


def test_what_is_missing_is_fetched_once_for_what_there_is_of_a_study(queue: Queue, clock: Clock) -> None:
    queue.record(arrival(1), QUIET_S)
    assert waits(queue, clock) is State.WAITING_PAIR
    queue.settle(claimed(queue, Kind.FETCH), Done("nothing there"))
    with pytest.raises(NotFoundError, match="is a fetch job"):
        views.result_of(queue.database, views.jobs(queue.database, kind=Kind.FETCH)[0]["id"])
    (match,) = views.jobs(queue.database, kind=Kind.MATCH)
    queue.retry(match["id"], "admin")
    waits(queue, clock)
    assert states(queue, Kind.FETCH) == ["done"], "nothing has changed"
    queue.record(arrival(2), QUIET_S)
    waits(queue, clock)
    assert states(queue, Kind.FETCH) == ["done", "ready"]


def test_a_fetch_is_superseded_with_the_study_it_was_for(queue: Queue, clock: Clock) -> None:
    queue.record(arrival(1), QUIET_S)
    waits(queue, clock)
    queue.record(arrival(1, "1.2.2"), QUIET_S)
    clock.forward(QUIET_S)
    still = Matched("other series are still arriving", {}, (), receiving=True, look_again_at=clock.now)
    queue.settle(claimed(queue, Kind.MATCH), still)
    assert states(queue, Kind.FETCH) == ["ready"], "the study is not judged as a whole yet"
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job(),)))
    assert states(queue, Kind.FETCH) == ["cancelled"]


def test_a_fetch_that_runs_is_not_cut_off_by_what_it_brings(queue: Queue, clock: Clock) -> None:
    queue.record(arrival(1), QUIET_S)
    waits(queue, clock)
    fetch = claimed(queue, Kind.FETCH)
    queue.record(arrival(1, "1.2.2"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job(),)))
    assert queue.settle(fetch, Done("fetched")) is State.DONE


def test_every_change_leaves_an_event(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    (row,) = views.jobs(queue.database, kind=Kind.MATCH)
    events = views.job(queue.database, row["id"])["events"]
    assert [(e["from"], e["to"], e["actor"]) for e in events] == [
        (None, "receiving", "MR1"), ("receiving", "running", "host/role/1"), ("running", "done", "host/role/1"),
    ]  # fmt: skip
    assert all(e["why"] for e in events)


def test_administration(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    (row,) = views.jobs(queue.database, kind=Kind.INFER)
    running = claimed(queue, Kind.INFER)
    with pytest.raises(TransitionError, match="running right now"):
        queue.cancel(row["id"], "admin")
    queue.settle(running, Failed("broken"))
    queue.retry(row["id"], "admin")
    assert views.job(queue.database, row["id"])["attempts"] == 0
    queue.cancel(row["id"], "admin")
    assert queue.claim(Kind.INFER, "w") is None
    queue.retry(row["id"], "admin")
    queue.settle(claimed(queue, Kind.INFER), Done("ok"))
    with pytest.raises(TransitionError, match="done"):
        queue.retry(row["id"], "admin")
    with pytest.raises(NotFoundError):
        queue.retry(999, "admin")


def test_a_delivery_asked_for_as_held_waits_for_its_release(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    why = "graded not usable: a slice is inconsistent"
    queue.settle(claimed(queue, Kind.INFER), Done("ok", None, (replace(deliver_job(), held=why),)))
    (row,) = views.jobs(queue.database, state=State.HELD)
    assert (row["kind"], row["summary"]) == ("deliver", why)
    assert [e["why"] for e in views.job(queue.database, row["id"])["events"]] == [why]
    clock.forward(7 * 24 * 3600)
    assert queue.claim(Kind.DELIVER, "w") is None
    queue.release(row["id"], "admin")
    assert claimed(queue, Kind.DELIVER).job_id == row["id"]
    assert views.job(queue.database, row["id"])["error"] is None


def test_any_job_that_waits_can_be_held_and_only_a_held_one_released(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    (row,) = views.jobs(queue.database, kind=Kind.INFER)
    with pytest.raises(TransitionError, match="cannot become ready"):
        queue.release(row["id"], "admin")
    queue.hold(row["id"], "admin")
    assert queue.claim(Kind.INFER, "w") is None
    with pytest.raises(TransitionError, match="is held; it cannot become held"):
        queue.hold(row["id"], "admin")
    queue.release(row["id"], "admin")
    running = claimed(queue, Kind.INFER)
    with pytest.raises(TransitionError, match="running right now"):
        queue.hold(row["id"], "admin")
    queue.settle(running, Retry("later", 600))
    queue.hold(row["id"], "admin")
    queue.release(row["id"], "admin")
    again = claimed(queue, Kind.INFER)
    assert again.attempts == 2, "held is not retried: its attempts stay counted"
    queue.settle(again, Failed("broken"))
    with pytest.raises(TransitionError, match="failed, not held"):
        queue.release(row["id"], "admin")


def test_late_slices_supersede_what_is_held(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job("old"))
    queue.settle(claimed(queue, Kind.INFER), Done("ok", None, (replace(deliver_job("old"), held="look"),)))
    queue.record(arrival(2, "1.2.1"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(claimed(queue, Kind.MATCH), Matched("paired", {}, (infer_job("new", revision=3),)))
    assert states(queue, Kind.DELIVER) == ["cancelled"]


def test_a_stopping_worker_gives_its_job_back_untried(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    queue.release_lease(claimed(queue, Kind.INFER))
    again = claimed(queue, Kind.INFER)
    assert again.attempts == 1


def test_per_instance_status_is_kept(queue: Queue, clock: Clock) -> None:
    matched(queue, clock, infer_job())
    queue.settle(claimed(queue, Kind.INFER), Done("ok", None, (deliver_job(),)))
    claim = claimed(queue, Kind.DELIVER)
    deliveries.enter(queue, claim, {"9.1": Path("/x/1"), "9.2": Path("/x/2")})
    deliveries.note(queue, claim, "9.1", True, "0x0000 success")
    deliveries.enter(queue, claim, {"9.1": Path("/x/1"), "9.2": Path("/x/2")})
    assert [(d.sop_uid, d.accepted) for d in deliveries.entered(queue, claim)] == [("9.1", True), ("9.2", False)]
    queue.rescue(dead=lambda worker: True)
    with pytest.raises(LeaseLostError):
        deliveries.note(queue, claim, "9.2", True, "0x0000 success")


@pytest.mark.parametrize("early", [False, True], ids=["after", "before the one who asked has settled"])
def test_a_report_makes_a_committing_delivery_due(queue: Queue, clock: Clock, early: bool) -> None:
    queue.ask(NewJob(Kind.DELIVER, "deliver", "1.2", {"destination": "pacs"}, 3), "test")
    claim = claimed(queue, Kind.DELIVER)
    deliveries.enter(queue, claim, {"9.1": Path("/x/1"), "9.2": Path("/x/2")})
    commitments.opened(queue, claim, "1.9")
    asked = Committing("asked", "1.9", 600)
    if not early:
        assert queue.settle(claim, asked) is State.COMMITTING
        assert queue.claim(Kind.DELIVER, "w") is None
    assert commitments.reported(queue, "1.9", {"9.1"}, {"9.2": "0x0112 (no such object instance)", "9.3": "not ours"})
    if early:
        assert queue.settle(claim, asked) is State.COMMITTING
    again = claimed(queue, Kind.DELIVER)
    assert again.was is State.COMMITTING
    assert commitments.answered(queue, again)
    assert [(d.accepted, d.committed, d.status) for d in deliveries.entered(queue, again)] == [
        (True, True, "committed"), (False, False, "not committed: 0x0112 (no such object instance)"),
    ]  # fmt: skip


def test_backoff_doubles_up_to_its_maximum_and_lasts_72_hours_by_default() -> None:
    assert [backoff_s(n, 5, 60, lambda: 0.5) for n in range(1, 6)] == [5, 10, 20, 40, 60]
    assert backoff_s(1, 5, 60, lambda: 0.0) == 4
    assert backoff_s(10_000, 5, 60, lambda: 1.0) == pytest.approx(72)
    default = DestinationSettings(name="pacs", ae_title="PACS", host="pacs")
    waits = [
        backoff_s(n, default.initial_delay_s, default.max_delay_s, lambda: 0.5) for n in range(1, default.max_attempts)
    ]
    assert 72 * 3600 <= sum(waits) < 73 * 3600
