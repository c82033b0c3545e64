"""Lists come from the database page by page, and by its indexes."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from sqlalchemy import event

from node.tracker import listing, overview
from node.tracker.listing import JobFilter, StudyFilter
from node.tracker.states import Kind, State
from node.tracker.studies import StudyState
from node.web.query import filter_of, query_of
from tests.web.conftest import Person, fill, make_site
from tests.web.content import Content


@pytest.fixture
def content(tmp_path: Path) -> Content:
    site = make_site(tmp_path)
    content = Content(site.tracker.database, site.archive)
    for n in range(120):
        content.study(
            StudyState.WAITING if n % 10 == 0 else StudyState.DELIVERED,
            patient=f"Name{n}^Given", patient_id=f"ID{n:03d}", age=timedelta(hours=n), description="Knee" if n % 3 else "100%_real",
        )  # fmt: skip
    content.flush()
    return content


def test_pages_are_counted_and_the_last_is_never_passed(content: Content) -> None:
    first = listing.studies(content.database, StudyFilter(), phi=True, size=50)
    assert (first.total, first.number, first.pages, len(first.rows)) == (120, 1, 3, 50)
    last = listing.studies(content.database, StudyFilter(), phi=True, page=99, size=50)
    assert (last.number, len(last.rows)) == (3, 20)
    assert first.rows[0].last_received_at > last.rows[-1].last_received_at
    nothing = listing.jobs(content.database, JobFilter(text="nowhere"), phi=True)
    assert (nothing.total, nothing.number, nothing.pages) == (0, 1, 1)


def test_filters_combine(content: Content) -> None:
    waiting = listing.studies(content.database, StudyFilter(state=StudyState.WAITING), phi=True)
    assert waiting.total == 12
    assert all(row.reason == "No reference fits series 1 (T2)." for row in waiting.rows)
    assert listing.studies(content.database, StudyFilter(text="name7 given"), phi=True).total == 11
    assert (
        listing.studies(content.database, StudyFilter(text="name7 given", state=StudyState.WAITING), phi=True).total
        == 1
    )
    assert listing.studies(content.database, StudyFilter(text="100%_re"), phi=False).total == 40
    assert listing.studies(content.database, StudyFilter(text="%"), phi=False).total == 40
    assert listing.jobs(content.database, JobFilter(kind=Kind.DELIVER, destination="pacs"), phi=True).total == 108
    assert listing.jobs(content.database, JobFilter(kind=Kind.DELIVER, destination="other"), phi=True).total == 0
    assert listing.jobs(content.database, JobFilter(text="ID007"), phi=True).total == 4
    assert listing.jobs(content.database, JobFilter(text="ID007"), phi=False).total == 0
    one = listing.jobs(content.database, JobFilter(text="17"), phi=False)
    assert [row.id for row in one.rows] == [17]


def test_days_are_those_of_the_node(content: Content) -> None:
    here = datetime.now().astimezone()
    today = listing.studies(content.database, StudyFilter(since=here.date()), phi=True, size=500)
    older = listing.studies(content.database, StudyFilter(until=here.date() - timedelta(days=1)), phi=True, size=500)
    assert today.total + older.total == 120
    assert all(row.last_received_at.astimezone().date() == here.date() for row in today.rows)


def test_a_filter_survives_the_address(content: Content) -> None:
    wanted = JobFilter(kind=Kind.DELIVER, state=State.HELD, text='a&b "c"')
    assert filter_of(JobFilter, dict(parse_qsl(query_of(wanted, page=2)))) == wanted
    assert filter_of(JobFilter, {"kind": "", "state": " ", "unknown": "x"}) == JobFilter()


def test_the_page_of_a_job_shows_the_score_of_its_pair(tmp_path: Path) -> None:
    house = fill(make_site(tmp_path))
    page = Person(house.site, "vera").get(f"/jobs/{house.shown.infer}").text
    table = page.partition('aria-label="Score of the pair')[2].partition("</table>")[0]
    cells = re.findall(r"<(?:td|th)[^>]*>([^<]*)</", table)
    assert cells[4:8] == ["contrast agent", "25", "25", "none"]
    assert cells[8:11] == ["together", "25", "25"]


def test_a_value_that_cannot_be_is_one_clear_answer(tmp_path: Path) -> None:
    person = Person(make_site(tmp_path), "otto")
    for query in ("kind=nothing", "since=yesterday", "page=0", "page=x", "state=%00"):
        assert person.get(f"/jobs?{query}").status_code == 400, query


def test_a_page_of_the_lists_takes_few_queries_however_long_they_are(content: Content) -> None:
    statements: list[str] = []
    event.listen(
        content.database.engine, "before_cursor_execute", lambda c, cur, statement, *_: statements.append(statement)
    )
    listing.studies(content.database, StudyFilter(), phi=True)
    listing.jobs(content.database, JobFilter(), phi=True)
    asked = [s for s in statements if s.startswith("SELECT")]
    assert len(asked) == 6


def test_the_dashboard_finds_what_it_shows_by_an_index(content: Content) -> None:
    statements: list[tuple[str, object]] = []
    event.listen(
        content.database.engine,
        "before_cursor_execute",
        lambda c, cur, statement, p, *_: statements.append((statement, p)),
    )
    now = datetime.now(UTC)
    overview.hours(content.database, now)
    overview.destinations(content.database, ["pacs"])
    overview.waiting(content.database, 5, phi=True)
    overview.last_errors(content.database, 5)
    with content.database.read() as session:
        for statement, parameters in [s for s in statements if s[0].startswith("SELECT")]:
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            whole = [
                row[-1]
                for row in plan
                if row[-1].startswith("SCAN") and "USING" not in row[-1] and "subquery" not in row[-1]
            ]
            assert whole == [], (statement, plan)


def test_hours_count_what_happened_in_them(content: Content) -> None:
    hours = overview.hours(content.database, content.now.astimezone())
    assert len(hours) == 24
    assert sum(hour.received for hour in hours) in (23, 24)
    assert sum(hour.delivered for hour in hours) in (20, 21, 22)
    assert all(later.begins - hour.begins == timedelta(hours=1) for hour, later in pairwise(hours))
