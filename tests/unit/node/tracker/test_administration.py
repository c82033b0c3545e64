"""What an administrator does, on SQLite and on PostgreSQL."""

from dataclasses import replace

import pytest

from node.errors import NotFoundError, TransitionError
from node.tracker import administration, arrivals, queue, views
from node.tracker.audit import Action
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Failed, Matched, Retry
from node.tracker.states import Kind, State

from .conftest import Clock, arrival
from .jobs import QUIET_S, audited, claimed, deliver_job, infer_job, matched, states


def test_administration(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    (row,) = views.jobs(tracker.database, kind=Kind.INFER)
    running = claimed(tracker, Kind.INFER)
    with pytest.raises(TransitionError, match="running right now"):
        administration.cancel(tracker, row.id, "admin")
    queue.settle(tracker, running, Failed("broken"))
    administration.retry(tracker, row.id, "admin")
    assert views.job(tracker.database, row.id).attempts == 0
    administration.cancel(tracker, row.id, "admin")
    assert queue.claim(tracker, Kind.INFER, "w") is None
    administration.retry(tracker, row.id, "admin")
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok"))
    with pytest.raises(TransitionError, match=r"is finished; only .* queue resend 2"):
        administration.retry(tracker, row.id, "admin")
    with pytest.raises(NotFoundError):
        administration.retry(tracker, 999, "admin")
    acts = ["retried by an administrator", "cancelled by an administrator", "retried by an administrator"]
    assert audited(tracker, Action.ADMINISTERED) == [
        ("admin", "1.2", {"job": row.id, "kind": "infer", "act": act}) for act in acts
    ]


def test_what_an_administrator_cancelled_stays_so_when_it_is_wanted_again(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    administration.cancel(tracker, 2, "admin")
    arrivals.record(tracker, arrival(1, "1.2.3"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job(),)))
    assert states(tracker, Kind.INFER) == ["cancelled"]


def test_a_job_whose_series_have_grown_since_is_not_retried_in_vain(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job("old"))
    queue.settle(tracker, claimed(tracker, Kind.INFER), Failed("broken"))
    arrivals.record(tracker, arrival(2, "1.2.1"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job("new", revision=3),)))
    with pytest.raises(TransitionError, match="have changed since"):
        administration.retry(tracker, 2, "admin")
    assert states(tracker, Kind.INFER) == ["failed", "ready"]


def test_a_delivery_asked_for_as_held_waits_for_its_release(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    why = "graded not usable: a slice is inconsistent"
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (replace(deliver_job(), held=why),)))
    (row,) = views.jobs(tracker.database, state=State.HELD)
    assert (row.kind, row.summary) == ("deliver", why)
    assert [e.why for e in views.job(tracker.database, row.id).events] == [why]
    clock.forward(7 * 24 * 3600)
    assert queue.claim(tracker, Kind.DELIVER, "w") is None
    administration.release(tracker, row.id, "admin")
    assert claimed(tracker, Kind.DELIVER).job_id == row.id
    assert views.job(tracker.database, row.id).error is None


def test_any_job_that_waits_can_be_held_and_only_a_held_one_released(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    (row,) = views.jobs(tracker.database, kind=Kind.INFER)
    with pytest.raises(TransitionError, match="is ready; only a held job can be released"):
        administration.release(tracker, row.id, "admin")
    administration.hold(tracker, row.id, "admin")
    assert queue.claim(tracker, Kind.INFER, "w") is None
    with pytest.raises(TransitionError, match="is held already; only a job that waits can be held"):
        administration.hold(tracker, row.id, "admin")
    administration.release(tracker, row.id, "admin")
    running = claimed(tracker, Kind.INFER)
    with pytest.raises(TransitionError, match="running right now"):
        administration.hold(tracker, row.id, "admin")
    queue.settle(tracker, running, Retry("later", 600))
    administration.hold(tracker, row.id, "admin")
    administration.release(tracker, row.id, "admin")
    again = claimed(tracker, Kind.INFER)
    assert again.attempts == 2, "held is not retried: its attempts stay counted"
    queue.settle(tracker, again, Failed("broken"))
    with pytest.raises(TransitionError, match="is failed; only a held job can be released"):
        administration.release(tracker, row.id, "admin")
