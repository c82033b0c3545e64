"""SQLite answers what is asked all the time by indices, however many studies there are: no statement reads a whole table."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from node.archive.facade import Archive
from node.tracker import arrivals, listing, queue
from node.tracker.database import Database
from node.tracker.due import Destinations
from node.tracker.handle import Tracker
from node.tracker.listing import JobFilter, StudyFilter
from node.tracker.outcomes import Done, Matched
from node.tracker.states import Kind, State
from node.tracker.studies import StudyState
from tests.web.content import Content

from .conftest import Clock, arrival
from .jobs import QUIET_S, claimed, deliver_job, infer_job

LARGE = ("job", "event", "instance", "series", "study", "delivery", "audit")


@pytest.fixture
def filled(tmp_path: Path, clock: Clock) -> Iterator[Tracker]:
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    content = Content(database, Archive.in_folder(tmp_path / "data"), clock.now)
    for number in range(30):
        content.study(StudyState.DELIVERED, age=timedelta(days=number))
    content.flush()
    yield Tracker(database, clock=clock)
    database.dispose()


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """What is executed meanwhile."""
    seen: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, ___: object, many: bool) -> None:
        if re.match("SELECT|UPDATE|DELETE", statement) and not many:
            seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def scans(database: Database, act: Callable[[], object]) -> list[str]:
    """The large tables that are read as a whole, each with the statement."""
    with statements(database) as seen:
        act()
    assert seen
    found = []
    with database.engine.connect() as connection:
        for statement, parameters in seen:
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                table = re.match(r"SCAN (\w+)", row[3])
                if table and table[1] in LARGE:
                    found.append(f"{row[3]}: {statement}")
    return found


def test_the_work_of_every_second_scans_nothing(filled: Tracker, clock: Clock) -> None:
    def work() -> None:
        for series in ("1.2.1", "1.2.2"):
            arrivals.record(filled, arrival(1, series), QUIET_S)
        clock.forward(QUIET_S)
        queue.settle(filled, claimed(filled, Kind.MATCH), Matched("paired", None, (infer_job(),)))
        claim = claimed(filled, Kind.INFER)
        queue.heartbeat(filled, claim, (1, 3))
        queue.settle(filled, claim, Done("ok", None, (deliver_job(),)))
        one = Destinations(frozenset({"pacs"}))
        for kind in Kind:
            queue.next_due(filled, kind)
            queue.claim(filled, kind, "w")
        queue.next_due(filled, Kind.DELIVER, one)
        queue.claim(filled, Kind.DELIVER, "w", one)
        queue.rescue(filled)
        queue.rescue(filled, dead=lambda worker: False)

    assert scans(filled.database, work) == []


def test_a_claim_reads_a_few_jobs_of_any_backlog(filled: Tracker) -> None:
    """By the whole index, up to the time they are due, and then by their numbers: never all jobs of a kind and state."""
    with statements(filled.database) as seen:
        queue.claim(filled, Kind.DELIVER, "w", Destinations(frozenset({"pacs"})))
    (claiming,) = [(statement, parameters) for statement, parameters in seen if "UNION ALL" in statement]
    with filled.database.engine.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {claiming[0]}", claiming[1])]
    searches = [step for step in plan if step.startswith("SEARCH job")]
    assert searches
    assert all("next_attempt_at" in step or "INTEGER PRIMARY KEY" in step for step in searches), searches


def test_a_page_of_a_list_reads_that_page(filled: Tracker) -> None:
    """A total may count an index; the rows come by one, in their order, without a sort of all."""
    with statements(filled.database) as seen:
        listing.jobs(filled.database, JobFilter(), phi=True)
        listing.jobs(filled.database, JobFilter(kind=Kind.DELIVER, state=State.DONE), phi=True)
        listing.studies(filled.database, StudyFilter(), phi=True)
    for statement, parameters in seen:
        with filled.database.engine.connect() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        if "count(" in statement:
            assert all("INDEX" in step for step in plan if step.startswith("SCAN")), (plan, statement)
