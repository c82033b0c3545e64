"""The match stage on received files: what it asks for, how long it waits, and how it ends without a reference."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from node.archive.facade import Archive
from node.config.match import MatchSettings
from node.config.settings import CompletionSettings
from node.match.stack_roles import ModelFacts
from node.match.worker import make_match_handler
from node.tracker import queue, views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import Kind, State
from node.tracker.worker import Lease
from tests.dicom import study
from tests.unit.node.kept import keep, path_of, spoil

WAIT_S = 3600


class MatchStage:
    """The match stage and the files that were received, at a time that the test sets."""

    def __init__(self, folder: Path, fetch_attempts: int | None) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.fetching = fetch_attempts is not None
        self.database = Database(f"sqlite:///{folder / 'tracker.sqlite3'}")
        self.database.upgrade()
        self.tracker = Tracker(self.database, clock=lambda: self.now)
        self.completion = CompletionSettings(series_quiet_s=10, study_max_wait_s=WAIT_S)
        self.model = ModelFacts("tiny", "1", 4, (("T2", "T1"),))
        self.rules = MatchSettings()
        self.archive = Archive.in_folder(folder / "data")
        self.work = make_match_handler(
            self.tracker, self.archive, self.completion, self.rules, self.model, {}, 3, fetch_attempts
        )

    def receive(self, instances: list[Dataset]) -> None:
        for ds in instances:
            keep(self.tracker, self.archive, ds)

    def match(self, after_s: float) -> State:
        self.now += timedelta(seconds=after_s)
        claim = queue.claim(self.tracker, Kind.MATCH, "host/match/1")
        assert claim is not None, "not due"
        with Lease(self.tracker, claim, threading.Event()) as lease:
            return queue.settle(self.tracker, claim, self.work(lease))

    def states(self, kind: Kind) -> list[str]:
        return [str(row.state) for row in views.jobs(self.database, kind=kind)]


@pytest.fixture(params=[None, 30], ids=["without [fetch]", "with [fetch]"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MatchStage]:
    stage = MatchStage(tmp_path, request.param)
    yield stage
    stage.database.dispose()


def test_a_target_without_a_reference_waits_is_fetched_for_and_refused_in_the_end(stage: MatchStage) -> None:
    t2, _ = study()
    stage.receive(t2)
    assert stage.match(after_s=10) is State.WAITING_PAIR
    assert stage.states(Kind.FETCH) == (["ready"] if stage.fetching else [])
    assert stage.match(after_s=WAIT_S) is State.REFUSED
    (job,) = views.jobs(stage.database, kind=Kind.MATCH)
    assert job.error.startswith("E_NO_REFERENCE: ")
    assert stage.states(Kind.FETCH) == (["cancelled"] if stage.fetching else [])


def test_a_reference_without_a_target_is_not_fetched_for(stage: MatchStage) -> None:
    _, t1 = study()
    stage.receive(t1)
    assert stage.match(after_s=10) is State.WAITING_PAIR
    assert stage.states(Kind.FETCH) == []
    assert stage.match(after_s=WAIT_S) is State.REFUSED
    assert views.jobs(stage.database, kind=Kind.MATCH)[0].error.startswith("E_NO_TARGET: ")


def test_a_reference_that_comes_after_all_ends_the_wait_and_the_fetch(stage: MatchStage) -> None:
    t2, t1 = study()
    stage.receive(t2)
    stage.match(after_s=10)
    stage.receive(t1)
    assert stage.match(after_s=10) is State.DONE
    assert stage.states(Kind.INFER) == ["ready"]
    assert stage.states(Kind.FETCH) == (["cancelled"] if stage.fetching else [])


@pytest.mark.parametrize("damage", [Path.unlink, spoil], ids=["deleted", "damaged"])
def test_an_instance_that_is_lost_is_a_missing_slice_of_its_series_and_no_more(stage: MatchStage, damage: Any) -> None:
    t2, t1 = study()
    stage.receive(t2)
    stage.receive(t1)
    damage(path_of(stage.tracker, stage.archive, t2[0]))
    assert stage.match(after_s=10) is State.WAITING_PAIR
    (job,) = views.jobs(stage.database, kind=Kind.MATCH)
    assert "1 more image" in (job.error or "")
