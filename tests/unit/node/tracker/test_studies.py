"""The row of a study: counts, words, labels, and what a purge leaves of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy import func, select

from node.archive.facade import Archive
from node.errors import StorageError, TransitionError
from node.payloads import PairRequest, StackRequest
from node.tracker import arrivals, indexing, instances, purge, queue, steps
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Failed, Matched, NewJob, Refused
from node.tracker.states import Kind
from node.tracker.tables import Audit, Delivery, Event, Instance, Job, Series, Study
from tests.dicom import T1, T2, mr_series
from tests.unit.node.kept import keep

from .conftest import Clock, arrival
from .jobs import claimed, deliver_job, infer_job, matched

QUIET_S = 10


def study_row(tracker: Tracker, study_uid: str = "1.2") -> Study:
    with tracker.read() as session:
        return session.get_one(Study, study_uid)


def test_a_study_counts_what_has_come(tracker: Tracker, clock: Clock) -> None:
    first = clock.now
    for series in ("1.2.1", "1.2.2"):
        for number in (1, 2):
            arrivals.record(tracker, arrival(number, series), QUIET_S)
            clock.forward(1)
    arrivals.record(tracker, arrival(1, "1.2.1"), QUIET_S)
    row = study_row(tracker)
    assert (row.series, row.instances, row.size) == (2, 4, 4000)
    assert (row.first_received_at, row.last_received_at) == (first, first.replace(second=3))
    assert row.state == "receiving"


def test_a_series_that_comes_in_two_studies_is_two(tracker: Tracker, clock: Clock) -> None:
    """A PACS has copied it and kept its UID, and those of its instances too."""
    matched(tracker, clock, infer_job(revision=2))
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (deliver_job(),)))
    copy = replace(arrival(1, "1.2.1"), study_uid="1.9", key="instances/1.9/1.2.1/1.2.1.1.dcm")
    assert arrivals.record(tracker, copy, QUIET_S)
    with tracker.read() as session:
        counts = {(s.study_uid, s.series_uid): s.instances for s in session.scalars(select(Series))}
    assert counts == {("1.2", "1.2.1"): 1, ("1.2", "1.2.2"): 1, ("1.9", "1.2.1"): 1}
    assert queue.claim(tracker, Kind.DELIVER, "w") is not None, "the delivery of the first goes on"
    assert [row.study_uid for row in instances.anywhere(tracker, "1.2.1.1")] == ["1.2", "1.9"]


# ---------------------------------------------------------------------- words


def test_the_state_of_a_study_follows_its_jobs(tracker: Tracker, clock: Clock) -> None:
    seen = []

    def see() -> None:
        seen.append(study_row(tracker).state)

    arrivals.record(tracker, arrival(1, "1.2.1"), QUIET_S)
    see()
    clock.forward(QUIET_S)
    claim = claimed(tracker, Kind.MATCH)
    see()
    queue.settle(tracker, claim, Matched("waits", None, (), waiting=True, look_again_at=clock.now))
    see()
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job(revision=1),)))
    see()
    claim = claimed(tracker, Kind.INFER)
    see()
    queue.settle(tracker, claim, Done("ok", None, (deliver_job(revision=1),)))
    see()
    queue.settle(tracker, claimed(tracker, Kind.DELIVER), Failed("no"))
    see()
    arrivals.record(tracker, arrival(2, "1.2.1"), QUIET_S)
    see()
    assert seen == [
        "receiving", "matching", "waiting for its partner", "super-resolving", "super-resolving", "delivering", "failed",
        "receiving",
    ]  # fmt: skip


def test_a_refusal_is_the_state_until_more_comes(tracker: Tracker, clock: Clock) -> None:
    arrivals.record(tracker, arrival(1, "1.2.1"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Refused("E_NO_TARGET", "none"))
    assert study_row(tracker).state == "refused"


def test_an_earlier_failure_for_the_same_target_is_history(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job("a"))
    queue.settle(tracker, claimed(tracker, Kind.INFER), Failed("no"))
    assert study_row(tracker).state == "failed"
    arrivals.record(tracker, arrival(2, "1.2.1"), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (infer_job("b", revision=3),)))
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (deliver_job("b", 3),)))
    queue.settle(tracker, claimed(tracker, Kind.DELIVER), Done("sent"))
    assert study_row(tracker).state == "delivered"


def test_a_held_delivery_is_told(tracker: Tracker, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (replace(deliver_job(), held="look"),)))
    assert study_row(tracker).state == "held"


# ---------------------------------------------------------------------- labels


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.in_folder(tmp_path / "data")


def studies() -> tuple[list[Dataset], list[Dataset]]:
    common = {"study_uid": "1.2.9", "StudyDescription": "Head", "PatientName": "Müller^Jörg", "slices": 2}
    return mr_series(series_number=1, **common, **T1), mr_series(series_number=2, **common, **T2)  # type: ignore[arg-type]


def labels(tracker: Tracker) -> tuple[Any, ...]:
    row = study_row(tracker, "1.2.9")
    return row.patient_name, row.patient_id, row.accession_number, row.study_date, row.modality, row.description


def series_labels(tracker: Tracker) -> list[tuple[Any, ...]]:
    with tracker.read() as session:
        rows = session.scalars(select(Series).order_by(Series.number))
        return [(s.modality, s.number, s.description) for s in rows]


ALL = ("Müller^Jörg", "P1", "A1", "20260101", "MR", "Head")


def test_a_study_is_labelled_when_it_comes(tracker: Tracker, archive: Archive) -> None:
    for ds in (*studies()[0], *studies()[1]):
        keep(tracker, archive, ds)
    assert labels(tracker) == ALL
    assert series_labels(tracker) == [("MR", 1, "t1"), ("MR", 2, "t2")]


def test_one_setting_keeps_every_label_away(tracker: Tracker, archive: Archive) -> None:
    for ds in (*studies()[0], *studies()[1]):
        keep(tracker, archive, ds, labelled=False)
    assert labels(tracker) == (None,) * 6
    assert series_labels(tracker) == [(None, None, None)] * 2
    assert indexing.add_labels(tracker, archive) == 1, "it is switched on"
    assert labels(tracker) == ALL
    assert series_labels(tracker) == [("MR", 1, "t1"), ("MR", 2, "t2")]
    assert indexing.add_labels(tracker, archive) == 0
    indexing.remove_labels(tracker)
    assert labels(tracker) == (None,) * 6
    assert series_labels(tracker) == [(None, None, None)] * 2


def test_a_study_whose_files_are_lost_is_labelled_with_what_is_left(tracker: Tracker, archive: Archive) -> None:
    t1, t2 = studies()
    for ds in (*t1, *t2):
        keep(tracker, archive, ds, labelled=False)
    for stored in instances.of_study(tracker, archive, "1.2.9").values():
        if t1[0].SeriesInstanceUID in stored.key:
            archive.delete(stored.key)
    assert indexing.add_labels(tracker, archive) == 1
    assert labels(tracker) == ALL
    assert ("MR", 2, "t2") in series_labels(tracker)
    assert indexing.add_labels(tracker, archive) == 0, "it is not looked at for ever"


def test_text_that_no_database_takes_is_kept_as_far_as_it_can_be(tracker: Tracker, archive: Archive) -> None:
    (ds,) = mr_series(1, study_uid="1.2.9", PatientID="P\ud800" + "1" * 100, StudyDescription="x" * 5000)
    arrivals.record(tracker, replace(arrival(1, study="1.2.9"), header=lambda: ds), QUIET_S)
    row = study_row(tracker, "1.2.9")
    assert row.patient_id is not None
    assert len(row.patient_id) == 64
    assert len(row.description or "") == 1024


# ---------------------------------------------------------------------- purge


def processed(tracker: Tracker, archive: Archive, clock: Clock, result: Any) -> PairRequest:
    t1, t2 = studies()
    for ds in (*t1, *t2):
        keep(tracker, archive, ds)
    stacks = [
        StackRequest(series_uid=s[0].SeriesInstanceUID, contrast=c, sop_uids=tuple(ds.SOPInstanceUID for ds in s))
        for s, c in ((t2, "T2"), (t1, "T1"))
    ]
    request = PairRequest(study_uid="1.2.9", target=stacks[0], reference=stacks[1])
    clock.forward(QUIET_S)
    wanted = replace(steps.infer_job("infer:1", request, 3), revision=4)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, (wanted,)))
    archive.put_result("infer:1", result)
    archive.put_derived("infer:1", [("2.25.1", b"derived")], "page")
    queue.settle(tracker, claimed(tracker, Kind.INFER), Done("ok", None, (steps.derive_job("infer:1", request),)))
    then = (steps.deliver_job("infer:1", request, "pacs", 3),)
    queue.settle(tracker, claimed(tracker, Kind.DERIVE), Done("ok", None, then))
    queue.settle(tracker, claimed(tracker, Kind.DELIVER), Done("sent"))
    assert study_row(tracker, "1.2.9").state == "delivered"
    return request


def kept_files(archive: Archive) -> list[Path]:
    root = Path(archive.location("instances")).parent
    return [path for name in ("instances", "results", "derived") for path in (root / name).rglob("*") if path.is_file()]


def test_a_purged_study_leaves_its_row_and_is_processed_again_when_it_is_sent_again(
    tracker: Tracker, archive: Archive, clock: Clock, study: Any
) -> None:
    processed(tracker, archive, clock, study.result)
    purge.purge(tracker, archive, "1.2.9", "housekeep")
    with tracker.read() as session:
        for table in (Instance, Series, Job, Delivery, Event):
            assert session.scalar(select(func.count()).select_from(table)) == 0
        said = session.scalars(select(Audit).where(Audit.action == "purged")).one()
    assert (said.actor, said.study_uid) == ("housekeep", "1.2.9")
    assert said.details["instances"] == 4
    assert kept_files(archive) == []
    row = study_row(tracker, "1.2.9")
    assert (row.state, row.instances, row.size, row.purged_at) == ("purged", 0, 0, clock.now)
    assert labels(tracker) == (None,) * 6
    clock.forward(3600)
    processed(tracker, archive, clock, study.result)
    row = study_row(tracker, "1.2.9")
    assert (row.state, row.instances, row.purged_at, row.purges) == ("delivered", 4, None, 1)
    assert labels(tracker) == ALL


def test_nothing_is_purged_that_is_being_worked_on(tracker: Tracker, archive: Archive, clock: Clock) -> None:
    matched(tracker, clock, infer_job())
    claimed(tracker, Kind.INFER)
    with pytest.raises(TransitionError, match="running right now"):
        purge.purge(tracker, archive, "1.2", "admin")
    assert study_row(tracker).state == "super-resolving"


def test_a_purge_that_a_crash_interrupts_is_finished_later(
    tracker: Tracker, archive: Archive, clock: Clock, study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processed(tracker, archive, clock, study.result)
    monkeypatch.setattr(archive, "delete", lambda _: (_ for _ in ()).throw(StorageError("away")))
    with pytest.raises(StorageError):
        purge.purge(tracker, archive, "1.2.9", "housekeep")
    monkeypatch.undo()
    assert study_row(tracker, "1.2.9").state == "being purged"
    assert kept_files(archive)
    with pytest.raises(StorageError, match="being purged"):
        arrivals.look_up(tracker, "1.2.9", "1.2.9.1")
    assert purge.resume(tracker, archive) == 1
    assert kept_files(archive) == []
    assert study_row(tracker, "1.2.9").state == "purged"
    assert purge.resume(tracker, archive) == 0


def test_an_instance_that_comes_while_its_study_is_purged_is_not_acknowledged(
    tracker: Tracker, archive: Archive, clock: Clock
) -> None:
    """Its file was kept before the purge, and may have gone with it."""
    matched(tracker, clock)
    late = arrival(9, "1.2.1")
    assert arrivals.look_up(tracker, "1.2", late.sop_uid).purges == 0
    purge.purge(tracker, archive, "1.2", "admin")
    with pytest.raises(StorageError, match="was purged"):
        arrivals.record(tracker, late, QUIET_S)
    assert study_row(tracker).state == "purged"
    known = arrivals.look_up(tracker, "1.2", late.sop_uid)
    assert arrivals.record(tracker, replace(late, purges=known.purges), QUIET_S)
    assert study_row(tracker).state == "receiving"


def test_a_report_that_is_still_owed_outlives_a_purge(tracker: Tracker, archive: Archive, clock: Clock) -> None:
    matched(tracker, clock)
    queue.enqueue(tracker, NewJob(Kind.COMMIT, "commit:1", "1.2", {}, 3), "MR1")
    purge.purge(tracker, archive, "1.2", "admin")
    with tracker.read() as session:
        assert [job.key for job in session.scalars(select(Job))] == ["commit:1"]
