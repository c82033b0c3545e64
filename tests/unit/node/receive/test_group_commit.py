"""Groups, and what is there after a crash: all that was acknowledged, each instance once, with the bytes that came."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from node.archive import log as logs
from node.archive.facade import Archive
from node.errors import StorageError
from node.receive import entering, known
from node.receive.group_commit import GroupCommit, recover
from node.receive.store import Status, Store
from node.tracker import arrivals, views
from node.tracker.arrivals import Arrival
from node.tracker.database import BusyError, Database, DatabaseError
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.purge import purge, remove_leftovers
from node.tracker.tables import Study
from tests.dicom import mr_series
from tests.program import run_forked
from tests.unit.node.receive import crashing
from tests.unit.node.receive.storing import sent
from tests.waiting import until

STUDY = "1.2.826.7"


def run(data: Path, moment: str, count: int = 4) -> dict[str, int]:
    """What a receiver that dies then has answered: SOP instance UID, status."""
    answers = data / "answers"
    assert run_forked(crashing.main, data, moment, count, answers) in (0, 9)
    return {uid: int(status) for uid, status in (line.split() for line in answers.read_text().splitlines())}


@contextmanager
def opened(archive: Archive, tracker: Tracker) -> Iterator[tuple[GroupCommit, Store]]:
    kept = GroupCommit.open(archive, tracker, 10)
    assert kept is not None
    try:
        yield kept, Store(archive, tracker, 10, group_commit=kept)
    finally:
        kept.close()


def restarted(data: Path) -> tuple[Archive, Tracker]:
    archive = Archive.in_folder(data)
    database = Database(f"sqlite:///{data / 'tracker.sqlite3'}")
    tracker = Tracker(database)
    recover(archive, tracker, Store(archive, tracker, 10).readmit)
    archive.discard_incoming()
    return archive, tracker


def test_segments_are_made_before_the_first_instance_comes(tmp_path: Path) -> None:
    """Making one takes longer than receiving an image, so no sender waits for that."""
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    archive = Archive.in_folder(tmp_path)
    with opened(archive, Tracker(database)):
        until(lambda: len(list(tmp_path.rglob("*.log"))) == logs.SPARE_SEGMENTS, "the log has its spare segments")


@pytest.mark.parametrize(
    ("moment", "at_least", "at_most"),
    [
        ("the first of a series", 1, 1),
        ("before the log is durable", 3, 4),
        ("before it is acknowledged", 3, 4),
        ("acknowledged, before it is entered", 4, 4),
        ("before its transaction ends", 4, 4),
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
    with tracker.read() as session:
        assert session.get_one(Study, STUDY).instances == len(found), "each is counted once"
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
    with opened(archive, tracker) as (kept, store):
        (first,) = mr_series(1)
        assert store.put(sent(first)) is Status.SUCCESS
        groups: list[int] = []
        first_is_in, all_wait = threading.Event(), threading.Event()
        make_durable = kept._log.make_durable

        def write(entries: list[Any]) -> None:
            groups.append(len(entries))
            first_is_in.set()
            all_wait.wait()
            make_durable(entries)

        monkeypatch.setattr(kept._log, "make_durable", write)
        instances = mr_series(4, study_uid=first.StudyInstanceUID, series_uid=first.SeriesInstanceUID)
        statuses: list[Status] = []
        threads = [threading.Thread(target=lambda ds=ds: statuses.append(store.put(sent(ds)))) for ds in instances]
        threads[0].start()
        first_is_in.wait()
        for thread in threads[1:]:
            thread.start()
        until(lambda: len(kept._next_group) == 3, "the others wait")
        all_wait.set()
        for thread in threads:
            thread.join()
        assert statuses == [Status.SUCCESS] * 4
        assert groups == [1, 3]


def test_a_disk_that_fails_fails_its_whole_group_and_no_other(
    archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(archive, tracker) as (kept, store):
        first, second, third = mr_series(3)
        assert store.put(sent(first)) is Status.SUCCESS
        with monkeypatch.context() as broken:
            broken.setattr(logs.os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
            assert store.put(sent(second)) is Status.OUT_OF_RESOURCES
        assert store.put(sent(third)) is Status.SUCCESS
        assert store.put(sent(second)) is Status.SUCCESS
        kept.settle()
        assert of_study(tracker, archive, first.StudyInstanceUID).keys() == {
            first.SOPInstanceUID, second.SOPInstanceUID, third.SOPInstanceUID
        }  # fmt: skip


def test_what_is_acknowledged_is_entered_a_moment_later(archive: Archive, tracker: Tracker) -> None:
    """Nobody has to ask for it."""
    with opened(archive, tracker) as (_, store):
        for ds in mr_series(5):
            assert store.put(sent(ds)) is Status.SUCCESS
        until(lambda: views.totals(tracker.database).instances == 5, "all have rows")


def test_what_cannot_be_entered_fails_nobody_else(
    archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours: the instance stays in the log for the next start."""
    record, bad = arrivals.record, mr_series(1)[0].SOPInstanceUID
    with opened(archive, tracker) as (kept, store):
        instances = mr_series(4)
        bad = instances[2].SOPInstanceUID

        def failing(tracker: Tracker, arrival: Arrival, quiet_s: float, *, durable: bool) -> bool:
            if arrival.sop_uid == bad:
                raise ValueError("an instance that cannot be entered")
            return record(tracker, arrival, quiet_s, durable=durable)

        monkeypatch.setattr(arrivals, "record_further", lambda *_: False)
        monkeypatch.setattr(arrivals, "record", failing)
        assert [store.put(sent(ds)) for ds in instances] == [Status.SUCCESS] * 4
        kept.flush()
        assert views.totals(tracker.database).instances == 3
        assert len(kept._log.waiting()) == 3
    monkeypatch.undo()
    held = archive._backend._held  # type: ignore[attr-defined]
    held.close()  # as if the process had died
    recover(Archive.in_folder(Path(archive.location(""))), tracker, Store(archive, tracker, 10).readmit)
    assert bad in of_study(tracker, archive, instances[0].StudyInstanceUID)


def test_an_instance_that_comes_again_is_compared_with_the_one_that_has_no_row_yet(
    archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entering, "GATHER_S", 3600)
    with opened(archive, tracker) as (_, store):
        first, second = mr_series(2)
        assert store.put(sent(first)) is Status.SUCCESS
        assert store.put(sent(second)) is Status.SUCCESS
        assert views.totals(tracker.database).instances == 1
        assert store.put(sent(second)) is Status.SUCCESS
        second.PixelData = bytes(len(second.PixelData))
        assert store.put(sent(second)) is Status.DUPLICATE_SOP_INSTANCE
        assert views.totals(tracker.database).instances == 2


def test_the_end_of_an_association_sees_all_that_it_brought(
    archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entering, "GATHER_S", 3600)
    with opened(archive, tracker) as (_, store):
        instances = mr_series(3)
        for ds in instances:
            assert store.put(sent(ds), "an association") is Status.SUCCESS
        store.ended("MR1", "DIFFMSR", None, 3, 0, association="an association")
        assert views.totals(tracker.database).instances == 3
        assert store.intact(instances[0].StudyInstanceUID).total() == 3


def test_an_instance_that_is_acknowledged_while_its_study_is_purged_is_entered_after_that(
    archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entering, "GATHER_S", 3600)
    with opened(archive, tracker) as (kept, store):
        first, second, other = *mr_series(2), mr_series(1)[0]
        study_uid = first.StudyInstanceUID
        assert store.put(sent(first)) is Status.SUCCESS
        assert store.put(sent(second)) is Status.SUCCESS
        with tracker.write() as session:
            session.get_one(Study, study_uid).leftovers = [f"instances/{study_uid}/"]
        with pytest.raises(StorageError, match="purged"):
            kept.flush()
        assert store.put(sent(other)) is Status.SUCCESS, "another study is received meanwhile"
        remove_leftovers(tracker, archive, study_uid)
        kept.settle()
        assert second.SOPInstanceUID in of_study(tracker, archive, study_uid)


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


def test_a_tracker_that_is_away_is_said_and_nothing_more_is_acknowledged(
    archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged before that was noticed is entered when the tracker is there again."""
    monkeypatch.setattr(entering, "GATHER_S", 3600)

    def away(*_: object, **__: object) -> None:
        raise DatabaseError("the tracker does not answer")

    with opened(archive, tracker) as (kept, store):
        first, second, third, other = *mr_series(3), mr_series(1)[0]
        with monkeypatch.context() as broken:
            broken.setattr(arrivals, "record", away)
            assert store.put(sent(first)) is Status.OUT_OF_RESOURCES
        assert store.put(sent(first)) is Status.SUCCESS
        with monkeypatch.context() as broken:
            broken.setattr(arrivals, "record", away)
            broken.setattr(arrivals, "record_further", away)
            assert store.put(sent(second)) is Status.SUCCESS
            with pytest.raises(DatabaseError):
                kept.flush()
            assert store.put(sent(third)) is Status.OUT_OF_RESOURCES
            assert store.put(sent(other)) is Status.OUT_OF_RESOURCES
        kept.flush()
        assert store.put(sent(third)) is Status.SUCCESS
        kept.settle()
        found = of_study(tracker, archive, first.StudyInstanceUID)
        assert found.keys() == {ds.SOPInstanceUID for ds in (first, second, third)}
        assert len(list(Path(archive.location("instances")).rglob("*.dcm"))) == 3


def test_a_tracker_that_others_hold_is_out_of_resources_in_time(archive: Archive, tracker: Tracker) -> None:
    with opened(archive, replace(tracker, patience_s=0.2)) as (kept, store):
        first, second, third = mr_series(3)
        assert store.put(sent(first), "an association") is Status.SUCCESS
        with closing(sqlite3.connect(tracker.database.url.database or "")) as other:
            other.execute("BEGIN IMMEDIATE")
            assert store.put(sent(second), "an association") is Status.SUCCESS
            with pytest.raises(BusyError):
                kept.flush()
            assert store.put(sent(third), "an association") is Status.OUT_OF_RESOURCES
            assert store.put(sent(third), "another association") is Status.OUT_OF_RESOURCES
        kept.flush()
        assert store.put(sent(third), "an association") is Status.SUCCESS
        kept.flush()
        assert views.totals(tracker.database).instances == 3


def test_known_instances_are_read_again_when_they_were_forgotten(
    archive: Archive, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "MOST", 1)
    monkeypatch.setattr(entering, "GATHER_S", 3600)
    with opened(archive, tracker) as (kept, store):
        studies = [mr_series(2) for _ in range(3)]
        for ds in (series[number] for number in (0, 1, 0, 1) for series in studies):
            assert store.put(sent(ds)) is Status.SUCCESS
        kept.settle()
        assert views.totals(tracker.database).instances == 6
        assert len(list(Path(archive.location("instances")).rglob("*.dcm"))) == 6
