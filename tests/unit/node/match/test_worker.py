"""The match stage on received files: what it asks for, how long it waits, and how it ends without a reference."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset

from node.config.match import MatchSettings
from node.config.settings import CompletionSettings
from node.match.stack_roles import ModelFacts
from node.match.worker import make_match_handler
from node.tracker import arrivals, queue, views
from node.tracker.arrivals import Arrival
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import Kind, State
from node.tracker.worker import Lease
from tests.dicom import study, write

WAIT_S = 3600


class Room:
    """The match stage and the files that were received, at a time that is turned by hand."""

    def __init__(self, folder: Path, fetch_attempts: int | None) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.fetching = fetch_attempts is not None
        self.folder = folder
        self.database = Database(f"sqlite:///{folder / 'tracker.sqlite3'}")
        self.database.upgrade()
        self.tracker = Tracker(self.database, clock=lambda: self.now)
        completion = CompletionSettings(series_quiet_s=10, study_max_wait_s=WAIT_S)
        model = ModelFacts("tiny", "1", 4, (("T2", "T1"),))
        self.work = make_match_handler(self.tracker, completion, MatchSettings(), model, {}, 3, fetch_attempts)

    def receive(self, instances: list[Dataset]) -> None:
        first = instances[0]
        for ds, path in zip(instances, write(instances, self.folder / first.SeriesInstanceUID), strict=True):
            arrival = Arrival(
                sop_uid=ds.SOPInstanceUID, series_uid=ds.SeriesInstanceUID, study_uid=ds.StudyInstanceUID,
                sop_class_uid=ds.SOPClassUID, transfer_syntax_uid=ds.file_meta.TransferSyntaxUID, path=str(path),
                sha256="0" * 64, size=1, source="MR1",
            )  # fmt: skip
            arrivals.record(self.tracker, arrival, quiet_s=10)

    def match(self, after_s: float) -> State:
        self.now += timedelta(seconds=after_s)
        claim = queue.claim(self.tracker, Kind.MATCH, "host/match/1")
        assert claim is not None, "not due"
        with Lease(self.tracker, claim, threading.Event()) as lease:
            return queue.settle(self.tracker, claim, self.work(lease))

    def states(self, kind: Kind) -> list[str]:
        return [str(row.state) for row in views.jobs(self.database, kind=kind)]


@pytest.fixture(params=[None, 30], ids=["without [fetch]", "with [fetch]"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path, request.param)
    yield room
    room.database.dispose()


def test_a_target_without_a_reference_waits_is_fetched_for_and_refused_in_the_end(room: Room) -> None:
    t2, _ = study()
    room.receive(t2)
    assert room.match(after_s=10) is State.WAITING_PAIR
    assert room.states(Kind.FETCH) == (["ready"] if room.fetching else [])
    assert room.match(after_s=WAIT_S) is State.REFUSED
    (job,) = views.jobs(room.database, kind=Kind.MATCH)
    assert job.error.startswith("E_NO_REFERENCE: ")
    assert room.states(Kind.FETCH) == (["cancelled"] if room.fetching else [])


def test_a_reference_without_a_target_is_not_fetched_for(room: Room) -> None:
    _, t1 = study()
    room.receive(t1)
    assert room.match(after_s=10) is State.WAITING_PAIR
    assert room.states(Kind.FETCH) == []
    assert room.match(after_s=WAIT_S) is State.REFUSED
    assert views.jobs(room.database, kind=Kind.MATCH)[0].error.startswith("E_NO_TARGET: ")


def test_a_reference_that_comes_after_all_ends_the_wait_and_the_fetch(room: Room) -> None:
    t2, t1 = study()
    room.receive(t2)
    room.match(after_s=10)
    room.receive(t1)
    assert room.match(after_s=10) is State.DONE
    assert room.states(Kind.INFER) == ["ready"]
    assert room.states(Kind.FETCH) == (["cancelled"] if room.fetching else [])


def test_a_file_that_the_disk_has_spoilt_damages_its_series_and_not_the_study(room: Room) -> None:
    t2, t1 = study()
    room.receive(t2)
    room.receive(t1)
    (room.folder / t2[0].SeriesInstanceUID / "001.dcm").write_bytes(b"spoilt")
    assert room.match(after_s=10) is State.WAITING_PAIR
    (job,) = views.jobs(room.database, kind=Kind.MATCH)
    assert "1 more images whose position is unknown" in job.error
