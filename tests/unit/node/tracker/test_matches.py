"""Work that a later match supersedes, confirms or takes up again, on SQLite and on PostgreSQL."""

from dataclasses import replace
from datetime import timedelta

import pytest

from node.errors import LeaseLostError, NotFoundError
from node.tracker import administration, arrivals, queue, views
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Matched, NewJob
from node.tracker.states import Kind, State

from .conftest import Clock, arrival
from .jobs import QUIET_S, claimed, deliver_job, derive_job, infer_job, matched, states


def test_late_slices_hold_the_old_pair_back_and_supersede_it(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job("old"))
    running = claimed(tracker, Kind.INFER)
    arrivals.record(tracker, arrival(2, "1.2.1"), QUIET_S)
    assert states(tracker, Kind.MATCH) == ["receiving"]
    queue.settle(tracker, running, Done("ok", None, (deliver_job("old"),)))
    assert queue.claim(tracker, Kind.DELIVER, "w") is None, "a partial series is not delivered while the study is open"
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job("new", revision=3),)))
    assert states(tracker, Kind.DELIVER) == ["cancelled"]
    assert states(tracker, Kind.INFER) == ["done", "ready"]


def test_a_running_job_that_is_superseded_loses_its_lease(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job("old"))
    running = claimed(tracker, Kind.INFER)
    arrivals.record(tracker, arrival(2, "1.2.1"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job("new", revision=3),)))
    with pytest.raises(LeaseLostError):
        queue.heartbeat(tracker, running)


def test_late_slices_that_change_nothing_confirm_the_pair(tracker: Tracker, clock: Clock) -> None:
    """A second echo of the target's series, say: the pair's members are the same."""
    matched(tracker, clock, infer_job("same"))
    arrivals.record(tracker, arrival(2, "1.2.1"), QUIET_S)
    assert queue.claim(tracker, Kind.INFER, "w") is None
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job("same", revision=3),)))
    assert queue.claim(tracker, Kind.INFER, "w") is not None


def test_a_result_whose_pair_was_confirmed_while_it_was_made_is_delivered(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job(revision=2))
    infer = claimed(tracker, Kind.INFER)
    arrivals.record(tracker, arrival(2), QUIET_S)  # not of the stack that the pair takes from the series
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("as before", None, (infer_job(revision=3),)))
    assert queue.settle(tracker, infer, Done("made", then=(deliver_job(revision=infer.revision),))) is State.DONE
    assert claimed(tracker, Kind.DELIVER).revision == 3


@pytest.mark.parametrize("held", [None, "look"])
def test_a_superseded_pair_that_is_wanted_again_goes_on_where_it_was(
    tracker: Tracker, clock: Clock, held: str | None
) -> None:
    """Another reference comes, is preferred, and turns out not to be a reference."""
    matched(tracker, clock, infer_job("new"), infer_job("made"))
    administration.cancel(tracker, 2, "admin")
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (replace(deliver_job("made"), held=held),)))
    administration.retry(tracker, 2, "admin")
    arrivals.record(tracker, arrival(1, "1.2.3"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(
        tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job("other", reference="1.2.3"),))
    )
    assert states(tracker, Kind.INFER) == ["cancelled", "done", "ready"]
    assert states(tracker, Kind.DELIVER) == ["cancelled"]
    arrivals.record(tracker, arrival(2, "1.2.3"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job("new"), infer_job("made"))))
    assert states(tracker, Kind.INFER) == ["ready", "done", "cancelled"]
    assert states(tracker, Kind.DELIVER) == ["held" if held else "ready"]


def test_late_slices_supersede_what_is_held(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job("old"))
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (replace(deliver_job("old"), held="look"),)))
    arrivals.record(tracker, arrival(2, "1.2.1"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job("new", revision=3),)))
    assert states(tracker, Kind.DELIVER) == ["cancelled"]


def fetch_job(revision: int) -> NewJob:
    return NewJob(Kind.FETCH, f"fetch:1.2:{revision}", "1.2", {}, 3)


def waits(tracker: Tracker, clock: Clock) -> State:
    """Match the study as one that waits for a reference, which is to be fetched."""
    clock.forward(QUIET_S)
    claim = claimed(tracker, Kind.MATCH)
    later = clock.now + timedelta(hours=24)
    return queue.settle(
        tracker, claim, Matched("no T1", None, (fetch_job(claim.revision),), waiting=True, look_again_at=later)
    )


def test_what_is_missing_is_fetched_once_for_what_there_is_of_a_study(tracker: Tracker, clock: Clock) -> None:
    arrivals.record(tracker, arrival(1), QUIET_S)
    assert waits(tracker, clock) is State.WAITING_PAIR
    queue.settle(tracker, claimed(tracker, Kind.FETCH), Done("nothing there"))
    with pytest.raises(NotFoundError, match="is a fetch job"):
        views.result_of(tracker.database, views.jobs(tracker.database, kind=Kind.FETCH)[0].id)
    (match,) = views.jobs(tracker.database, kind=Kind.MATCH)
    administration.retry(tracker, match.id, "admin")
    waits(tracker, clock)
    assert states(tracker, Kind.FETCH) == ["done"], "nothing has changed"
    arrivals.record(tracker, arrival(2), QUIET_S)
    waits(tracker, clock)
    assert states(tracker, Kind.FETCH) == ["done", "ready"]


def test_a_fetch_is_superseded_with_the_study_it_was_for(tracker: Tracker, clock: Clock) -> None:
    arrivals.record(tracker, arrival(1), QUIET_S)
    waits(tracker, clock)
    arrivals.record(tracker, arrival(1, "1.2.2"), QUIET_S)
    clock.forward(QUIET_S)
    still = Matched("other series are still arriving", None, (), receiving=True, look_again_at=clock.now)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), still)
    assert states(tracker, Kind.FETCH) == ["ready"], "the study is not judged as a whole yet"
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job(),)))
    assert states(tracker, Kind.FETCH) == ["cancelled"]


def test_a_fetch_that_runs_is_not_cut_off_by_what_it_brings(tracker: Tracker, clock: Clock) -> None:
    arrivals.record(tracker, arrival(1), QUIET_S)
    waits(tracker, clock)
    fetch = claimed(tracker, Kind.FETCH)
    arrivals.record(tracker, arrival(1, "1.2.2"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job(),)))
    assert queue.settle(tracker, fetch, Done("fetched")) is State.DONE


def test_all_that_was_made_of_a_superseded_pair_is_superseded_and_taken_up_again(
    tracker: Tracker, clock: Clock
) -> None:
    matched(tracker, clock, infer_job("made"))
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (derive_job("made"),)))
    queue.settle(tracker, claimed(tracker, Kind.DERIVE), Done("ok", None, (deliver_job("made"),)))
    arrivals.record(tracker, arrival(1, "1.2.3"), QUIET_S)
    clock.forward(QUIET_S)
    other = infer_job("other", reference="1.2.3")
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (other,)))
    assert (states(tracker, Kind.DERIVE), states(tracker, Kind.DELIVER)) == (["done"], ["cancelled"])
    arrivals.record(tracker, arrival(2, "1.2.3"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job("made"),)))
    assert states(tracker, Kind.DELIVER) == ["ready"]
    assert claimed(tracker, Kind.DELIVER)
