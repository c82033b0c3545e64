"""What arrives, on SQLite and on PostgreSQL."""

from datetime import timedelta

import pytest

from node.tracker import arrivals, queue, views
from node.tracker.arrivals import MATCH_ATTEMPTS
from node.tracker.handle import Tracker
from node.tracker.outcomes import Failed, Matched, Refused, Retry
from node.tracker.states import Kind, State

from .conftest import Clock, arrival
from .jobs import QUIET_S, claimed, states


def test_a_series_is_matched_when_it_has_been_quiet(tracker: Tracker, clock: Clock) -> None:
    arrivals.record(tracker, arrival(1), QUIET_S)
    assert states(tracker, Kind.MATCH) == ["receiving"]
    clock.forward(QUIET_S - 1)
    assert queue.claim(tracker, Kind.MATCH, "w") is None
    clock.forward(1)
    assert claimed(tracker, Kind.MATCH).revision == 1


def test_a_series_is_matched_after_a_second_when_the_scanner_said_how_many(tracker: Tracker, clock: Clock) -> None:
    arrivals.record(tracker, arrival(1, expected=2), QUIET_S)
    assert queue.claim(tracker, Kind.MATCH, "w") is None
    arrivals.record(tracker, arrival(2, expected=2), QUIET_S)
    assert queue.claim(tracker, Kind.MATCH, "w") is None, "the count may be wrong"
    clock.forward(arrivals.COUNTED_QUIET_S)
    assert queue.claim(tracker, Kind.MATCH, "w") is not None


def test_more_than_the_scanner_said_are_waited_for_as_if_it_had_not(tracker: Tracker, clock: Clock) -> None:
    """The number is of an acquisition, and a series may have several."""
    arrivals.record(tracker, arrival(1, expected=1), QUIET_S)
    clock.forward(arrivals.COUNTED_QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, ()))
    arrivals.record(tracker, arrival(2, expected=1), QUIET_S)
    assert queue.claim(tracker, Kind.MATCH, "w") is None
    clock.forward(QUIET_S)
    assert claimed(tracker, Kind.MATCH).revision == 2


def test_an_instance_recorded_twice_is_there_once(tracker: Tracker) -> None:
    assert arrivals.record(tracker, arrival(1), QUIET_S)
    assert not arrivals.record(tracker, arrival(1), QUIET_S)
    assert views.totals(tracker.database).model_dump() == {"studies": 1, "series": 1, "instances": 1, "bytes": 1000}


def test_instances_that_arrive_while_a_study_is_matched_reopen_it(tracker: Tracker, clock: Clock) -> None:
    arrivals.record(tracker, arrival(1), QUIET_S)
    clock.forward(QUIET_S)
    match = claimed(tracker, Kind.MATCH)
    arrivals.record(tracker, arrival(2), QUIET_S)
    assert queue.settle(tracker, match, Matched("paired", None, ())) is State.RECEIVING
    assert queue.claim(tracker, Kind.MATCH, "w") is None, "the new instance's series has to fall quiet first"
    clock.forward(QUIET_S)
    assert queue.claim(tracker, Kind.MATCH, "w") is not None


@pytest.mark.parametrize("outcome", [Failed("damaged"), Retry("no memory", 600)])
def test_a_match_that_fails_as_more_arrives_looks_again(
    tracker: Tracker, clock: Clock, outcome: Failed | Retry
) -> None:
    arrivals.record(tracker, arrival(1), QUIET_S)
    clock.forward(QUIET_S)
    for _ in range(MATCH_ATTEMPTS - 1):
        queue.settle(tracker, claimed(tracker, Kind.MATCH), Retry("no memory", 0))
    last = claimed(tracker, Kind.MATCH)
    arrivals.record(tracker, arrival(2), QUIET_S)
    assert queue.settle(tracker, last, outcome) is State.RECEIVING
    clock.forward(QUIET_S)
    assert claimed(tracker, Kind.MATCH).attempts == 1


def test_a_study_waits_for_its_partner_and_is_looked_at_again_in_the_end(tracker: Tracker, clock: Clock) -> None:
    arrivals.record(tracker, arrival(1), QUIET_S)
    clock.forward(QUIET_S)
    deadline = clock.now + timedelta(hours=24)
    outcome = Matched("no reference yet", None, (), waiting=True, look_again_at=deadline)
    assert queue.settle(tracker, claimed(tracker, Kind.MATCH), outcome) is State.WAITING_PAIR
    assert queue.claim(tracker, Kind.MATCH, "w") is None
    clock.forward(24 * 3600)
    assert queue.settle(tracker, claimed(tracker, Kind.MATCH), Refused("E_NO_REFERENCE", "none came")) is State.REFUSED
    arrivals.record(tracker, arrival(1, "1.2.2"), QUIET_S)
    assert states(tracker, Kind.MATCH) == ["receiving"], "a refused study reopens when more of it comes"
