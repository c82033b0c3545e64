"""Work that is due and that nobody would take: seen, and brought to an end."""

from typing import Any

import pytest
from sqlalchemy import update

from node.errors import TransitionError
from node.tracker import administration, arrivals, blocked, queue, views
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Failed, Matched, Missing, Retry
from node.tracker.states import Kind, State
from node.tracker.tables import Job, Series

from .conftest import Clock, arrival
from .jobs import QUIET_S, claimed, deliver_job, infer_job, matched, states


def found(tracker: Tracker, *unserved: Kind) -> list[tuple[int, str, str | None]]:
    return [(b.id, b.why, b.advice) for b in blocked.blocked(tracker, tracker.clock(), unserved)]


def delivering(tracker: Tracker, clock: Clock) -> None:
    """A study whose result is to be delivered: match job 1, infer job 2, deliver job 3."""
    matched(tracker, clock, infer_job())
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (deliver_job(),)))


def counted_elsewhere(tracker: Tracker) -> None:
    """As the version before left it: an instance of another study counted in a series of this one."""
    with tracker.write() as session:
        session.execute(update(Series).where(Series.series_uid == "1.2.1").values(instances=Series.instances + 1))


def test_what_waits_for_a_match_that_is_not_to_come_is_seen_and_matched_again(tracker: Tracker, clock: Clock) -> None:
    delivering(tracker, clock)
    queue.settle(tracker, claimed(tracker, Kind.DELIVER), Retry("the PACS is away", 0))
    assert found(tracker) == []
    counted_elsewhere(tracker)
    assert queue.claim(tracker, Kind.DELIVER, "w") is None
    ((job, why, advice),) = found(tracker)
    assert (job, advice) == (3, None)
    assert "match job 1 is done; the study is to be matched again" in why
    with pytest.raises(TransitionError, match="its series have changed since"):
        administration.retry(tracker, 3, "admin")
    assert blocked.resolve(tracker) == 1
    assert "match job 1 decides next" in found(tracker)[0][1]
    assert blocked.resolve(tracker) == 0
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("as before", None, (infer_job(revision=3),)))
    assert found(tracker) == []
    assert claimed(tracker, Kind.DELIVER).job_id == 3


def test_a_study_without_a_match_gets_one(tracker: Tracker, clock: Clock) -> None:
    queue.enqueue(tracker, infer_job(), "a version before")
    assert "the study is to be matched again" in found(tracker)[0][1]
    assert blocked.resolve(tracker) == 1
    assert states(tracker, Kind.MATCH) == ["receiving"]


@pytest.mark.parametrize("how, advice", [("hold", "release"), ("failed", "retry"), ("cancel", None)])
def test_what_waits_for_a_match_that_a_person_has_to_see_to(
    tracker: Tracker, clock: Clock, how: str, advice: str | None
) -> None:
    delivering(tracker, clock)
    arrivals.record(tracker, arrival(2), QUIET_S)
    assert "until no more instances arrive" in found(tracker)[0][1]
    if how == "failed":
        clock.forward(QUIET_S)
        queue.settle(tracker, claimed(tracker, Kind.MATCH), Failed("broken"))
    else:
        getattr(administration, how)(tracker, 1, "admin")
    assert [b[2] for b in found(tracker)] == [f"diffmsr-node queue {advice} 1" if advice else None]
    resolved = blocked.resolve(tracker)
    if advice:
        assert (resolved, states(tracker, Kind.DELIVER)) == (0, ["ready"])
    else:
        assert (resolved, states(tracker, Kind.DELIVER), found(tracker)) == (1, ["cancelled"], [])


def test_a_kind_that_the_configuration_has_no_worker_for_any_more(tracker: Tracker, clock: Clock) -> None:
    from .test_matches import waits

    arrivals.record(tracker, arrival(1), QUIET_S)
    waits(tracker, clock)
    assert found(tracker) == []
    assert [b[1] for b in found(tracker, Kind.FETCH)] == ["the configuration has no worker for fetch jobs any more"]
    assert blocked.resolve(tracker, {Kind.FETCH}) == 1
    assert states(tracker, Kind.FETCH) == ["cancelled"]


def test_a_worker_that_died_and_a_job_that_waits_for_one_that_failed(tracker: Tracker, clock: Clock) -> None:
    delivering(tracker, clock)
    deliver = claimed(tracker, Kind.DELIVER)
    clock.forward(61)
    assert "died; housekeeping frees it" in found(tracker)[0][1]
    maker: Any = infer_job()
    queue.settle(tracker, deliver, Missing("it is gone", maker))
    queue.settle(tracker, claimed(tracker, Kind.INFER), Failed("broken"))
    (waiting,) = found(tracker)
    assert waiting == (3, "it waits for infer job 2, which is failed", "diffmsr-node queue retry 2")


def test_no_job_that_can_be_claimed_counts_as_blocked(tracker: Tracker, clock: Clock) -> None:
    delivering(tracker, clock)
    arrivals.record(tracker, arrival(1, "1.2.9"), QUIET_S)
    assert found(tracker) == []
    assert {row.state for row in views.jobs(tracker.database, kind=Kind.DELIVER)} == {State.READY}
    with tracker.read() as session:
        assert not [job for job in session.query(Job) if queue.outgrown(session, job)]
