"""What is freed, and what never is."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from node.archive.facade import Archive
from node.cli.app import app
from node.config.loading import load_settings
from node.config.settings import StorageSettings
from node.errors import TransitionError
from node.housekeeping import retention
from node.tracker import retention as rules
from node.tracker.audit import Action
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.purge import purge
from node.tracker.states import Kind, State
from node.tracker.studies import StudyState
from node.tracker.tables import Audit, Job, Study
from tests.web.content import Content, Filled

DAY = timedelta(days=1)


class House:
    """Studies of different ages and states."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "node.toml"
        self.config.write_text('node.data_dir = "data"\nstorage = { reserve_gb = 0, retention_days = 30 }\n')
        settings = load_settings(self.config)
        self.archive = Archive.of(settings)
        self.tracker = Tracker(Database(settings.node.url))
        self.tracker.database.upgrade()
        self.content = Content(self.tracker.database, self.archive)

    def study(self, state: StudyState, days: float, delivery: State = State.DONE, result: bool = False) -> Filled:
        made = self.content.study(state, age=days * DAY, delivery=delivery, result=result)
        self.content.flush()
        return made

    def uids(self, storage: StorageSettings) -> list[str]:
        return [found.study_uid for found in retention.due(self.tracker, self.archive, storage)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.tracker.database.dispose()


def full(archive: Archive, monkeypatch: pytest.MonkeyPatch, percent: float, total: int = 100_000_000) -> None:
    monkeypatch.setattr(archive, "usage", lambda: (int(total * percent / 100), total))


def test_only_old_studies_that_are_delivered_or_refused_go_oldest_first(house: House) -> None:
    younger, older = house.study(StudyState.DELIVERED, 40), house.study(StudyState.DELIVERED, 50)
    refused = house.study(StudyState.REFUSED, 60)
    house.study(StudyState.DELIVERED, 20)
    for state, delivery in (
        (StudyState.FAILED, State.FAILED),
        (StudyState.HELD, State.HELD),
        (StudyState.DELIVERING, State.RETRY_WAIT),
        (StudyState.DONE, State.DONE),
        (StudyState.WAITING, State.DONE),
        (StudyState.RECEIVING, State.DONE),
    ):
        house.study(state, 90, delivery)
    month = StorageSettings(retention_days=30)
    assert house.uids(month) == [refused.study_uid, older.study_uid, younger.study_uid]
    assert house.uids(StorageSettings()) == []
    rules.keep(house.tracker, older.study_uid, datetime.now(UTC) + DAY, "test")
    assert house.uids(month) == [refused.study_uid, younger.study_uid]
    rules.keep(house.tracker, older.study_uid, None, "test")
    assert len(house.uids(month)) == 3
    assert len(house.uids(StorageSettings(retention_days=30, failed_retention_days=30))) == 5, (
        "failed, and not delivered"
    )


def test_a_job_that_waits_keeps_its_study_whatever_its_row_says(house: House) -> None:
    made = house.study(StudyState.DELIVERED, 90)
    with house.tracker.write() as session:
        job = session.scalars(select(Job).where(Job.study_uid == made.study_uid, Job.kind == Kind.DELIVER)).one()
        job.state = State.RETRY_WAIT
    assert house.uids(StorageSettings(retention_days=30)) == []


def test_what_goes_leaves_a_row_and_an_audit_row_and_nothing_else(house: House) -> None:
    made, stays = house.study(StudyState.DELIVERED, 90, result=True), house.study(StudyState.DELIVERED, 1, result=True)
    (freed,) = retention.free(house.tracker, house.archive, StorageSettings(retention_days=30))
    assert freed.study_uid == made.study_uid
    with house.tracker.read() as session:
        study = session.get_one(Study, made.study_uid)
        assert (study.state, study.instances) == (StudyState.PURGED, 0) and study.purged_at is not None
        assert not session.scalars(select(Job).where(Job.study_uid == made.study_uid)).all()
        assert session.scalars(select(Audit).where(Audit.action == Action.PURGED)).one().actor == "housekeep"
        assert session.scalars(select(Job).where(Job.study_uid == stays.study_uid)).first() is not None
    assert retention.free(house.tracker, house.archive, StorageSettings(retention_days=30)) == []


def test_a_full_disk_frees_as_much_as_it_must(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 6 * 150_000  # of a study
    made = [house.study(StudyState.DELIVERED, days) for days in range(9, 0, -1)]
    house.study(StudyState.FAILED, 99, State.FAILED)
    watermark = StorageSettings(watermark_percent=80)
    full(house.archive, monkeypatch, 79.9)
    assert house.uids(watermark) == []
    full(house.archive, monkeypatch, 81)  # 3 MB above where it is to be
    expected = -(-3_000_000 // size)
    assert house.uids(watermark) == [study.study_uid for study in made[:expected]]
    both = StorageSettings(watermark_percent=80, retention_days=8.5)
    assert house.uids(both) == [study.study_uid for study in made[:expected]], "what goes for its age counts"


def test_a_study_that_is_received_again_meanwhile_stays(house: House) -> None:
    made = house.study(StudyState.DELIVERED, 90)
    (found,) = retention.due(house.tracker, house.archive, StorageSettings(retention_days=30))
    with house.tracker.write() as session:
        session.get_one(Study, made.study_uid).last_received_at += timedelta(seconds=1)
    with pytest.raises(TransitionError, match="more of study"):
        purge(house.tracker, house.archive, made.study_uid, "test", unless_received_after=found.last_received_at)


def test_a_dry_run_shows_what_would_go(house: House) -> None:
    house.study(StudyState.DELIVERED, 90)

    def run(*arguments: str) -> str:
        return CliRunner().invoke(app, ["storage", *arguments, "--config", str(house.config)]).output

    for _ in range(2):
        assert "1 studies of 0.00 GB would be freed" in run("free", "--dry-run")
    assert "1 studies of 0.00 GB are freed" in run("free", "--yes")
    assert "0 studies" in run("free", "--dry-run")
