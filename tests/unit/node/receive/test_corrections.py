"""What is corrected in a PACS and sent again under the same UIDs, and what is refused until an administrator makes room."""

from typing import Any

import pytest
from pydicom.uid import RLELossless
from sqlalchemy import select

from node.archive.facade import Archive
from node.dimse.status import StoreStatus as Status
from node.errors import NotFoundError
from node.receive.store import Store
from node.tracker import corrections, purge, queue, views
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.outcomes import NewJob, Refused
from node.tracker.states import Kind
from node.tracker.tables import Audit, Instance, Series, Study
from tests.dicom import mr_series
from tests.unit.node.receive.storing import sent, stored


def matched(tracker: Tracker) -> None:
    """End the match of the study, so that it can be seen to be judged again."""
    with tracker.write() as session:
        for job in session.query(views.Job):
            job.next_attempt_at = None
    claim = queue.claim(tracker, Kind.MATCH, "host/match/1")
    assert claim is not None
    queue.settle(tracker, claim, Refused("E_NO_REFERENCE", "none"))


def match_states(tracker: Tracker) -> list[str]:
    return [str(row.state) for row in views.jobs(tracker.database, kind=Kind.MATCH)]


CORRECTIONS: list[dict[str, Any]] = [
    {"PatientName": "Muster^Erika"}, {"PatientID": "P2"}, {"PatientBirthDate": ""}, {"AccessionNumber": "A2"},
    {"IssuerOfPatientID": "HOSPITAL"}, {"StudyDescription": "MR head", "PatientSex": "F"},
]  # fmt: skip


@pytest.mark.parametrize("corrected", CORRECTIONS, ids=lambda c: "+".join(c))
def test_a_correction_takes_the_place_of_what_is_kept(
    store: Store, archive: Archive, tracker: Tracker, corrected: dict[str, Any]
) -> None:
    (ds,) = mr_series(1)
    store.put(sent(ds))
    matched(tracker)
    for keyword, value in corrected.items():
        setattr(ds, keyword, value)
    assert store.put(sent(ds)) is Status.SUCCESS
    assert match_states(tracker) == ["receiving"]
    (kept,) = of_study(tracker, archive, ds.StudyInstanceUID).values()
    assert kept.read_instance() == ds
    assert len(stored(archive)) == 2, "the version before is kept, too"
    assert views.totals(tracker.database).instances == 1
    with tracker.read() as session:
        versions = session.scalars(select(Instance).order_by(Instance.version)).all()
        (series,) = session.scalars(select(Series))
        (study,) = session.scalars(select(Study))
        audited = session.scalars(select(Audit).where(Audit.action == "corrected")).all()
        last = views.job(tracker.database, 1).events[-1]
    assert [(row.version, row.replaced_at is None) for row in versions] == [(1, False), (2, True)]
    assert (series.instances, series.revision, series.conflicts) == (1, 2, 0)
    assert (study.patient_id, study.instances, study.size) == (ds.PatientID, 1, versions[1].size)
    (row,) = audited
    assert sorted(row.details["attributes"]) == sorted(corrected)
    assert not set(map(str, corrected.values())) & set(map(str, row.details.values()))
    assert (last.to_state, last.why) == ("receiving", "an instance of the study was corrected")
    assert store.put(sent(ds)) is Status.SUCCESS, "the correction again changes nothing"
    with tracker.read() as session:
        assert session.query(Instance).count() == 2


def test_a_correction_in_another_transfer_syntax(store: Store, archive: Archive, tracker: Tracker) -> None:
    (ds,) = mr_series(1)
    store.put(sent(ds))
    ds.PatientName = "Muster^Erika"
    ds.compress(RLELossless, generate_instance_uid=False)
    assert store.put(sent(ds)) is Status.SUCCESS
    (kept,) = of_study(tracker, archive, ds.StudyInstanceUID).values()
    assert kept.read_header().PatientName == "Muster^Erika"


def other_pixels(ds: Any) -> None:
    ds.PixelData = bytes(len(ds.PixelData))


def moved(ds: Any) -> None:
    ds.ImagePositionPatient = [0, 0, 99]


def in_another_series(ds: Any) -> None:
    ds.SeriesInstanceUID = "1.2.9"


@pytest.mark.parametrize("change", [other_pixels, moved, in_another_series])
def test_other_content_is_refused_seen_and_taken_after_a_drop(
    store: Store, archive: Archive, tracker: Tracker, change: Any
) -> None:
    one, other = mr_series(2)
    for ds in (one, other):
        store.put(sent(ds))
    study_uid, series_uid = str(one.StudyInstanceUID), str(one.SeriesInstanceUID)
    matched(tracker)
    change(one)
    for _ in range(2):
        assert store.put(sent(one)) is Status.DUPLICATE_SOP_INSTANCE
    assert views.conflicts_of_study(tracker.database, study_uid) == {series_uid: 2}
    assert views.conflicts(tracker.database) == 2
    assert corrections.drop_series(tracker, archive, study_uid, series_uid, "admin") == 2
    assert stored(archive) == []
    assert views.conflicts(tracker.database) == 0
    assert match_states(tracker) == ["receiving"]
    assert store.put(sent(one)) is Status.SUCCESS
    with tracker.read() as session:
        assert session.get_one(Instance, (study_uid, str(one.SOPInstanceUID), 2)).replaced_at is None
        study = session.get_one(Study, study_uid)
        assert (study.instances, study.series, study.purged_at, study.leftovers) == (1, 1, None, None)
        assert session.get_one(Series, (study_uid, series_uid)).revision >= 3, "it never falls to what it was before"
        (row,) = session.scalars(select(Audit).where(Audit.action == "dropped"))
    assert (row.actor, row.details) == ("admin", {"series": series_uid, "instances": 2})


def test_a_drop_cancels_what_waits_and_names_what_is_not_there(
    store: Store, archive: Archive, tracker: Tracker
) -> None:
    (ds,) = mr_series(1)
    store.put(sent(ds))
    study_uid, series_uid = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)
    queue.enqueue(tracker, NewJob(Kind.INFER, "infer:a", study_uid, {}, 3, 1, series_uid), "match")
    assert corrections.studies_of_series(tracker, series_uid) == [study_uid]
    corrections.drop_series(tracker, archive, study_uid, series_uid, "admin")
    assert [row.state for row in views.jobs(tracker.database, kind=Kind.INFER)] == ["cancelled"]
    assert corrections.studies_of_series(tracker, series_uid) == []
    with pytest.raises(NotFoundError, match="no series"):
        corrections.drop_series(tracker, archive, study_uid, series_uid, "admin")
    purge.resume(tracker, archive)
    with tracker.read() as session:
        assert session.get_one(Study, study_uid).state == "receiving"
