"""What only one node does at a time: who has it, who takes it over, and how far it is."""

import threading

import pytest

from node.errors import LeaseLostError
from node.tracker import duties, spool
from node.tracker.audit import Action, audit
from node.tracker.database import Database
from node.tracker.duties import HELD_FOR, Name
from node.tracker.handle import Tracker
from tests.waiting import until

from .conftest import Clock


def nodes(database: Database, clock: Clock) -> tuple[Tracker, Tracker]:
    return Tracker(database, clock=clock, node="a"), Tracker(database, clock=clock, node="b")


def test_one_node_has_it_until_it_falls_silent(database: Database, clock: Clock) -> None:
    first, second = nodes(database, clock)
    assert duties.take(first, Name.HOUSEKEEPING)
    assert not duties.take(second, Name.HOUSEKEEPING)
    assert duties.take(second, Name.AUDIT_MESSAGES), "each duty for itself"
    for _ in range(5):
        clock.forward(HELD_FOR.total_seconds() * 0.7)
        assert duties.take(first, Name.HOUSEKEEPING), "it renews it"
        assert not duties.take(second, Name.HOUSEKEEPING)
    clock.forward(HELD_FOR.total_seconds() + 1)
    assert duties.take(second, Name.HOUSEKEEPING)
    assert not duties.take(first, Name.HOUSEKEEPING)


def test_a_node_that_stops_gives_it_back(database: Database, clock: Clock) -> None:
    first, second = nodes(database, clock)
    duties.take(first, Name.HOUSEKEEPING)
    duties.try_release(first)
    assert duties.take(second, Name.HOUSEKEEPING)
    duties.try_release(first)
    assert not duties.take(first, Name.HOUSEKEEPING), "what another one has, it cannot give back"


def test_who_was_cut_off_cannot_say_how_far_it_is(database: Database, clock: Clock) -> None:
    first, second = nodes(database, clock)
    duties.take(first, Name.AUDIT_MESSAGES)
    duties.advance(first, Name.AUDIT_MESSAGES, 3)
    clock.forward(HELD_FOR.total_seconds() + 1)
    duties.take(second, Name.AUDIT_MESSAGES)
    duties.advance(second, Name.AUDIT_MESSAGES, 5)
    with pytest.raises(LeaseLostError, match="another node"):
        duties.advance(first, Name.AUDIT_MESSAGES, 4)
    assert duties.position(first, Name.AUDIT_MESSAGES) == 5


def test_a_row_that_is_committed_late_is_not_passed_over(database: Database, clock: Clock) -> None:
    """PostgreSQL numbers rows when they are written, and shows them when they are committed: in another order."""
    if database.url.get_backend_name() == "sqlite":
        pytest.skip("one writer at a time")
    tracker, _ = nodes(database, clock)
    duties.take(tracker, Name.AUDIT_MESSAGES)
    found: list[spool.Unsent] = []
    reader = threading.Thread(target=lambda: found.extend(spool.unsent(tracker, 10)))
    with tracker.write() as session:
        audit(tracker, Action.VIEWED, "late", session=session)
        session.flush()
        audit(tracker, Action.VIEWED, "early")
        assert spool.backlog(database).rows == 1
        reader.start()
        until(lambda: _someone_waits(database), "the reader waits for the writer")
    reader.join()
    assert [unsent.row.actor for unsent in found] == ["late", "early"]


def _someone_waits(database: Database) -> bool:
    with database.read() as session:
        return bool(session.connection().exec_driver_sql("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())
