"""Every list and figure of the page, on both databases."""

from datetime import timedelta
from pathlib import Path

import pytest

from node.archive.facade import Archive
from node.tracker import listing, overview, timeline, trail
from node.tracker.audit import Action, audit
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.listing import JobFilter, StudyFilter
from node.tracker.states import Kind, State
from node.tracker.studies import StudyState
from node.tracker.trail import AuditFilter
from tests.web.content import Content, Filled


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> list[Filled]:
    content = Content(database, Archive.in_folder(tmp_path / "archive"))
    studies = [
        content.study(patient="Doe^Jane", patient_id="P1"),
        content.study(StudyState.WAITING, patient="Moe^Max", patient_id="P2", age=timedelta(hours=3)),
        content.study(
            StudyState.FAILED,
            delivery=State.FAILED,
            error="0xA700: out of resources",
            patient="Poe^Pat",
            patient_id="P3",
        ),
        content.study(
            StudyState.DELIVERING, delivery=State.READY, patient="Roe^Ruth", patient_id="P4", age=timedelta(hours=1)
        ),
    ]
    content.flush()
    return studies


def test_lists_find_what_is_searched_for(database: Database, filled: list[Filled]) -> None:
    def studies(**fields: object) -> list[str]:
        return [row.study_uid for row in listing.studies(database, StudyFilter.model_validate(fields), phi=True).rows]

    assert studies(text="jane DOE") == [filled[0].study_uid]
    assert studies(state="waiting for its partner") == [filled[1].study_uid]
    assert studies(text=filled[2].study_uid) == [filled[2].study_uid]
    assert len(studies()) == 4
    jobs = listing.jobs(
        database, JobFilter(kind=Kind.DELIVER, state=State.FAILED, destination="pacs", text="P3"), phi=True
    )
    assert [(row.id, row.error, row.patient_id) for row in jobs.rows] == [
        (filled[2].deliver, "0xA700: out of resources", "P3")
    ]
    assert listing.job_ids(database, JobFilter(kind=Kind.MATCH), phi=False) == [study.match for study in filled]
    assert listing.study(database, filled[1].study_uid, phi=False).reason == "No reference fits series 1 (T2)."
    assert [row.number for row in listing.series(database, filled[0].study_uid)] == [1, 2]


def test_the_dashboard_counts(database: Database, filled: list[Filled]) -> None:
    now = Content(database, None).now.astimezone()  # type: ignore[arg-type]
    hours = overview.hours(database, now)
    assert [sum(getattr(h, name) for h in hours) for name in ("received", "matched", "delivered")] == [4, 3, 1]
    count, waiting = overview.waiting(database, 5, phi=True)
    assert (count, [row.patient_name for row in waiting]) == (1, ["Moe^Max"])
    pacs, other = overview.destinations(database, ["pacs", "other"])
    assert (pacs.backlog, pacs.last_error) == (1, "0xA700: out of resources")
    assert pacs.oldest is not None
    assert pacs.last_success is not None
    assert (other.backlog, other.last_success, other.last_error) == (0, None, None)
    assert [job.id for job in overview.last_errors(database, 5)] == [filled[2].deliver]
    assert overview.received_per_day(database, now) == pytest.approx(4 * 6 * 150_000)
    device = overview.last_device(database)
    assert device is not None
    assert device.name == "cpu"


def test_a_timeline_adds_up(database: Database, filled: list[Filled]) -> None:
    now = Content(database, None).now  # type: ignore[arg-type]
    stages = timeline.timeline(database, filled[0].study_uid, now)
    assert [stage.kind for stage in stages] == [Kind.MATCH, Kind.INFER, Kind.DERIVE, Kind.DELIVER]
    assert [(stage.waited_s, stage.worked_s) for stage in stages] == [(2, 58)] * 4
    assert [step.seconds for step in stages[0].steps] == [2, 58, None]
    assert timeline.steps(database, stages[0].id, now) == stages[0].steps
    open_job = timeline.timeline(database, filled[3].study_uid, now)[-1]
    assert open_job.steps[-1].seconds == pytest.approx(3600 - 60, abs=5)


def test_the_audit_trail_is_filtered(tracker: Tracker) -> None:
    audit(tracker, Action.VIEWED, "anna", "1.2.3", {"what": "images"})
    audit(tracker, Action.LOGGED_OUT, "otto")
    assert [row.actor for row in trail.rows(tracker.database, AuditFilter()).rows] == ["otto", "anna"]
    for wanted in (AuditFilter(actor="ANN"), AuditFilter(action=Action.VIEWED), AuditFilter(study_uid="1.2")):
        page = trail.rows(tracker.database, wanted)
        assert (page.total, page.rows[0].details) == (1, {"what": "images"})
