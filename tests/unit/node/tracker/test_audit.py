"""The audit trail: rows are added, and none is changed or removed except by `expire`, which leaves a row."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from node.tracker import queue
from node.tracker.administration import cancel
from node.tracker.audit import Action, audit, expire, try_audit
from node.tracker.database import DatabaseError
from node.tracker.handle import Tracker
from node.tracker.outcomes import NewJob
from node.tracker.states import Kind
from node.tracker.tables import Audit

from .conftest import Clock


def rows(tracker: Tracker) -> list[Audit]:
    with tracker.read() as session:
        return list(session.scalars(select(Audit).order_by(Audit.id)))


def test_a_row_says_who_did_what_when_and_where(tracker: Tracker, clock: Clock) -> None:
    audit(tracker, Action.SENT, "deliver", "1.2.3", {"destination": "pacs", "instances": 4})
    (row,) = rows(tracker)
    assert (row.at, row.node, row.actor, row.action, row.study_uid) == (
        clock.now, tracker.node, "deliver", "sent", "1.2.3",
    )  # fmt: skip
    assert row.details == {"destination": "pacs", "instances": 4}


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_or_remove_a_row(tracker: Tracker, statement: str) -> None:
    audit(tracker, Action.STORED, "MR1", "1.2.3")
    with pytest.raises(DatabaseError, match="audit rows are never"), tracker.write() as session:
        session.execute(text(statement))
    assert [row.actor for row in rows(tracker)] == ["MR1"]


def test_rows_expire_in_one_way_and_leave_a_row_that_says_so(tracker: Tracker, clock: Clock) -> None:
    for _ in range(3):
        audit(tracker, Action.STORED, "MR1", "1.2.3")
        clock.forward(3600)
    assert expire(tracker, clock.now - timedelta(seconds=3700), "admin:smith") == 2
    kept, said = rows(tracker)
    assert (kept.action, said.action, said.actor) == ("stored", "audit expired", "admin:smith")
    assert said.details["rows"] == 2
    assert datetime.fromisoformat(said.details["before"]).tzinfo is UTC or "+00:00" in said.details["before"]
    with pytest.raises(DatabaseError, match="audit rows are never"), tracker.write() as session:
        session.execute(text("DELETE FROM audit"))


def test_what_is_undone_is_not_in_the_trail(tracker: Tracker) -> None:
    with pytest.raises(ValueError), tracker.write() as session:
        audit(tracker, Action.PURGED, "admin", "1.2.3", session=session)
        raise ValueError
    assert rows(tracker) == []


def test_what_a_peer_calls_itself_is_kept_as_far_as_it_can_be_shown(tracker: Tracker) -> None:
    audit(tracker, Action.ASSOCIATION, "A\0\x1b[31m" + "B" * 200)
    assert rows(tracker)[0].actor.startswith("A??[31mB")
    assert len(rows(tracker)[0].actor) == 128


def test_what_an_administrator_does_is_in_the_trail(tracker: Tracker) -> None:
    queue.enqueue(tracker, NewJob(Kind.FETCH, "fetch:1", "1.2", {}, 3), "test")
    cancel(tracker, 1, "admin:smith")
    (row,) = rows(tracker)
    assert (row.action, row.actor, row.study_uid) == ("administered", "admin:smith", "1.2")
    assert row.details == {"job": 1, "kind": "fetch", "act": "cancelled by an administrator"}


def test_a_tracker_that_does_not_answer_stops_nothing(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(type(tracker), "write", away)
    try_audit(tracker, Action.SENT, "deliver")
