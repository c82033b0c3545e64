"""Groups, and what is there after a crash: all that was acknowledged, each instance once, with the bytes that came."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from node.archive.digest import sha256
from node.archive.facade import Archive
from node.archive.layout import instance_key
from node.errors import StorageError
from node.receive import group_commit as module
from node.receive.group_commit import GroupCommit, recover
from node.receive.store import Status, Store
from node.tracker import views
from node.tracker.arrivals import Arrival
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.purge import purge
from tests.dicom import mr_series
from tests.unit.node.receive.test_store import sent

STUDY = "1.2.826.7"


def run(data: Path, moment: str, count: int = 4) -> dict[str, int]:
    """What a receiver that dies then has answered: SOP instance UID, status."""
    command = [sys.executable, "-m", "tests.unit.node.receive.crashing", str(data), moment, str(count)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 9), ended.stderr[-2000:]
    return {uid: int(status) for uid, status in (line.split() for line in ended.stdout.splitlines())}


def arrived(ds: Dataset) -> Arrival:
    key = instance_key(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    return Arrival(
        ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.SOPClassUID, "1.2.840.10008.1.2.1", key,
        sha256(b""), 0, "MR1", purges=None,
    )  # fmt: skip


def restarted(data: Path) -> tuple[Archive, Tracker]:
    archive = Archive.in_folder(data)
    database = Database(f"sqlite:///{data / 'tracker.sqlite3'}")
    tracker = Tracker(database)
    recover(archive, tracker, Store(archive, tracker, 10).readmit)
    archive.discard_incoming()
    return archive, tracker


@pytest.mark.parametrize(
    ("moment", "at_least", "at_most"),
    [
        ("before the log is durable", 3, 4),
        ("before it is entered", 3, 4),
        ("after it is entered", 4, 4),
        ("while files are made", 4, 4),
    ],
)
def test_what_was_acknowledged_is_there_after_a_crash(tmp_path: Path, moment: str, at_least: int, at_most: int) -> None:
    answers = run(tmp_path, moment)
    assert set(answers.values()) == {0}
    if "entered" in moment:  # a recovery may crash too, as often as it likes
        run(tmp_path, "recovery, before it is entered")
        run(tmp_path, "recovery, before it is entered")
    archive, tracker = restarted(tmp_path)
    found = of_study(tracker, archive, STUDY)
    assert answers.keys() <= found.keys()
    assert at_least <= len(found) <= at_most
    instances = mr_series(4, study_uid=STUDY, series_uid="1.2.826.7.1", seed=7)
    for number, ds in enumerate(instances):
        uid = f"1.2.826.7.1.{number}"
        if uid in found:
            assert found[uid].read_instance().PixelData == ds.PixelData
            assert dcmread(archive.location(found[uid].key)).PixelData == ds.PixelData, "it has a file of its own"
    assert views.totals(tracker.database).instances == len(found)
    assert len(list(Path(archive.location("instances")).rglob("*.dcm"))) == len(found)
    assert not list(tmp_path.rglob("*.log")) and not list(tmp_path.rglob(".part-*"))
    tracker.database.dispose()


def test_what_was_purged_since_does_not_come_back(tmp_path: Path) -> None:
    """The receiver died while the purged study was still in its log."""
    run(tmp_path, "after it is entered")
    tracker = Tracker(Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}"))
    purge(tracker, Archive.in_folder(tmp_path), STUDY, "a person")
    tracker.database.dispose()
    _, tracker = restarted(tmp_path)
    assert views.totals(tracker.database).instances == 0
    assert not list(tmp_path.rglob("*.dcm")) and not list(tmp_path.rglob("*.log"))
    tracker.database.dispose()


def test_associations_share_a_group(archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes while a group is made durable is in the next one, all of them together."""
    kept = GroupCommit.open(archive, tracker, 10)
    assert kept is not None
    store = Store(archive, tracker, 10, group_commit=kept)
    (first,) = mr_series(1)
    assert store.put(sent(first)) is Status.SUCCESS
    groups: list[int] = []
    first_is_in, all_wait = threading.Event(), threading.Event()
    record_further = module.arrivals.record_further

    def record(tracker: Tracker, arrivals: list[Arrival], quiet_s: float, before_commit: Any) -> bool:
        groups.append(len(arrivals))
        first_is_in.set()
        all_wait.wait()
        together = record_further(tracker, arrivals, quiet_s, before_commit)
        assert together
        return together

    monkeypatch.setattr(module.arrivals, "record_further", record)
    instances = mr_series(4, study_uid=first.StudyInstanceUID, series_uid=first.SeriesInstanceUID)
    statuses: list[Status] = []
    threads = [threading.Thread(target=lambda ds=ds: statuses.append(store.put(sent(ds)))) for ds in instances]
    threads[0].start()
    first_is_in.wait()
    for thread in threads[1:]:
        thread.start()
    while len(kept._group) < 3:
        pass
    all_wait.set()
    for thread in threads:
        thread.join()
    assert statuses == [Status.SUCCESS] * 4
    assert groups == [1, 3]
    kept.close()


def test_what_cannot_be_entered_fails_nobody_else(
    archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = GroupCommit.open(archive, tracker, 10)
    assert kept is not None
    real_record = module.arrivals.record

    def record(tracker: Tracker, arrival: Arrival, quiet_s: float, *, durable: bool) -> bool:
        if arrival.study_uid == "1.2.666":
            raise ValueError("a study that cannot be entered")
        return real_record(tracker, arrival, quiet_s, durable=durable)

    monkeypatch.setattr(module.arrivals, "record", record)
    arrivals = [arrived(ds) for uid in ("1.2.1", "1.2.666", "1.2.2") for ds in mr_series(1, study_uid=uid)]
    group = [module._Waiting(kept._log.append(a.key, b"", b"", a.sha256, tracker.clock()), a) for a in arrivals]
    kept._commit(group)
    assert [waiting.is_new for waiting in group] == [True, None, True]
    assert isinstance(group[1].error, ValueError)
    assert [entry.key for entry in kept._log.waiting()] == [arrivals[0].key, arrivals[2].key]


def test_the_same_instance_on_all_associations_at_once(archive: Archive, tracker: Tracker) -> None:
    kept = GroupCommit.open(archive, tracker, 10)
    assert kept is not None
    store = Store(archive, tracker, 10, group_commit=kept)
    one, other = mr_series(1, seed=1)[0], mr_series(1, seed=2)[0]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(other, keyword, getattr(one, keyword))
    statuses: list[Status] = []
    threads = [
        threading.Thread(target=lambda ds=ds: statuses.append(store.put(sent(ds)))) for ds in [one, other] * 6
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [Status.SUCCESS] * 6 + [Status.DUPLICATE_SOP_INSTANCE] * 6
    kept.close()
    (path,) = Path(archive.location("instances")).rglob("*.dcm")
    assert dcmread(path) in (one, other)


def test_a_tracker_that_is_away_is_said_and_nothing_is_kept(
    archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = GroupCommit.open(archive, tracker, 10)
    assert kept is not None
    store = Store(archive, tracker, 10, group_commit=kept)
    (ds,) = mr_series(1)

    def away(*_: object, **__: object) -> None:
        raise StorageError("the tracker does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(module.arrivals, "record_further", away)
        broken.setattr(module.arrivals, "record", away)
        assert store.put(sent(ds)) is Status.OUT_OF_RESOURCES
    assert views.totals(tracker.database).instances == 0
    assert store.put(sent(ds)) is Status.SUCCESS
    kept.close()
    assert len(list(Path(archive.location("instances")).rglob("*.dcm"))) == 1


def test_a_tracker_that_others_hold_is_out_of_resources_in_time(archive: Archive, tracker: Tracker) -> None:
    patient = replace(tracker, patience_s=0.2)
    kept = GroupCommit.open(archive, patient, 10)
    assert kept is not None
    store = Store(archive, patient, 10, group_commit=kept)
    first, second = mr_series(2)
    assert store.put(sent(first), "an association") is Status.SUCCESS
    with closing(sqlite3.connect(tracker.database.url.database or "")) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.put(sent(second), "an association") is Status.OUT_OF_RESOURCES
        assert store.put(sent(second), "another association") is Status.OUT_OF_RESOURCES
    assert store.put(sent(second), "an association") is Status.SUCCESS
    assert views.totals(tracker.database).instances == 2
    kept.close()
