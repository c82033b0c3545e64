"""What the receiver does about instances that were lost, copied or refused, and what it writes down about all of them."""

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, MRImageStorage
from sqlalchemy import select

from node.archive.facade import Archive
from node.config.settings import SCPSettings, SourceSettings
from node.dimse.status import StoreStatus as Status
from node.receive.commitment_scp import Commitments
from node.receive.policy import configured_callers
from node.receive.server import Receiver
from node.receive.store import Store
from node.tracker import queue, views
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.outcomes import Failed, NewJob
from node.tracker.states import Kind, State
from node.tracker.tables import Audit, Study
from tests.conftest import free_port
from tests.dicom import mr_series
from tests.unit.node.kept import path_of, spoil
from tests.unit.node.receive.storing import sent
from tests.waiting import until


def trail(tracker: Tracker) -> list[Audit]:
    with tracker.read() as session:
        return list(session.scalars(select(Audit).order_by(Audit.id)))


@pytest.mark.parametrize("damage", [Path.unlink, spoil], ids=["deleted", "damaged"])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian], ids=["as it was", "in another transfer syntax"])
def test_a_resend_of_what_was_lost_keeps_it_anew_before_it_is_success(
    store: Store, archive: Archive, tracker: Tracker, damage: Any, syntax: str | None
) -> None:
    (ds,) = mr_series(1)
    store.put(sent(ds))
    damage(path_of(tracker, archive, ds))
    (stored,) = of_study(tracker, archive, ds.StudyInstanceUID).values()
    assert not stored.is_intact()
    if syntax is not None:
        ds.file_meta.TransferSyntaxUID = syntax
    assert store.put(sent(ds)) is Status.SUCCESS
    (stored,) = of_study(tracker, archive, ds.StudyInstanceUID).values()
    assert stored.read_instance().PixelData == ds.PixelData
    assert views.totals(tracker.database).instances == 1
    assert [row.action for row in trail(tracker)] == ["stored", "repaired"]


def test_jobs_that_failed_for_what_was_lost_continue_when_it_comes_again(
    store: Store, archive: Archive, tracker: Tracker
) -> None:
    one, other = mr_series(2)
    for ds in (one, other):
        store.put(sent(ds))
    study_uid, series_uid = str(one.StudyInstanceUID), str(one.SeriesInstanceUID)
    for name, sentence in (("lost", "E_STORED_DAMAGED: /x does not match"), ("other", "the model is broken")):
        new = NewJob(Kind.INFER, name, study_uid, {}, 3, 2, series_uid)
        queue.enqueue(tracker, new, "match")
        claim = queue.claim(tracker, Kind.INFER, "host/infer/1")
        assert claim is not None
        queue.settle(tracker, claim, Failed(sentence))
    spoil(path_of(tracker, archive, one))
    store.put(sent(one))
    states = {views.job(tracker.database, row.id).key: row.state for row in views.jobs(tracker.database)}
    assert states == {f"match:{study_uid}": State.RECEIVING, "lost": State.READY, "other": State.FAILED}


def test_an_archive_that_is_away_loses_nothing_and_acknowledges_nothing(
    store: Store, archive: Archive, tracker: Tracker
) -> None:
    (ds,) = mr_series(1)
    store.put(sent(ds))
    root = Path(archive.location("instances")).parent
    root.rename(root.with_name("elsewhere"))
    root.mkdir()
    assert store.put(sent(ds)) is Status.OUT_OF_RESOURCES
    root.rmdir()
    root.with_name("elsewhere").rename(root)
    assert store.put(sent(ds)) is Status.SUCCESS
    assert [row.action for row in trail(tracker)] == ["stored"]


def test_an_instance_that_was_copied_into_another_study_is_kept_there_too(
    store: Store, archive: Archive, tracker: Tracker
) -> None:
    (ds,) = mr_series(1, study_uid="1.2.3")
    first = str(ds.StudyInstanceUID)
    assert store.put(sent(ds)) is Status.SUCCESS
    ds.StudyInstanceUID = first + ".9"
    assert store.put(sent(ds)) is Status.SUCCESS
    for study_uid in (first, first + ".9"):
        (stored,) = of_study(tracker, archive, study_uid).values()
        assert stored.read_header().StudyInstanceUID == study_uid
    assert views.totals(tracker.database).studies == 2


@pytest.mark.parametrize("index_patient", [True, False])
def test_one_setting_keeps_the_patient_out_of_the_tracker(
    archive: Archive, tracker: Tracker, index_patient: bool
) -> None:
    (ds,) = mr_series(1)
    Store(archive, tracker, 10, index_patient).put(sent(ds))
    with tracker.read() as session:
        row = session.get_one(Study, ds.StudyInstanceUID)
    assert row.patient_id == ("P1" if index_patient else None)
    assert row.instances == 1


def test_what_is_refused_is_in_the_trail_without_a_word_about_the_patient(store: Store, tracker: Tracker) -> None:
    (ds,) = mr_series(1)
    store.put(sent(ds))
    other = Dataset()
    other.update(ds)
    other.file_meta = ds.file_meta
    other.ImageComments = "Secret"
    assert store.put(sent(other)) is Status.DUPLICATE_SOP_INSTANCE
    store.put(sent(ds, sop_uid="no UID at all"))
    _, duplicate, malformed = trail(tracker)
    assert (duplicate.action, duplicate.actor, duplicate.study_uid) == ("refused", "MR1", ds.StudyInstanceUID)
    assert duplicate.details["status"] == "0xC111"
    assert malformed.details["sop_instance"] == "?"
    assert "Secret" not in str([row.details for row in trail(tracker)])


def test_an_association_that_brought_something_is_in_the_trail(
    store: Store, archive: Archive, tracker: Tracker
) -> None:
    settings = SCPSettings(host="127.0.0.1", port=free_port())
    sources = [SourceSettings(name="mr1", ae_title="MR1")]
    commitments = Commitments(tracker, archive, sources, "DIFFMSR")
    receiver = Receiver(settings, configured_callers(sources), store, commitments)
    receiver.start()
    try:
        one, other = mr_series(2)
        ae = AE("MR1")
        ae.add_requested_context(MRImageStorage)
        association = ae.associate("127.0.0.1", settings.port)
        for ds in (one, other):
            association.send_c_store(ds)
        one.PixelData = bytes(len(one.PixelData))
        association.send_c_store(one)
        association.release()
        stranger = AE("STRANGER")
        stranger.add_requested_context(CTImageStorage)
        assert stranger.associate("127.0.0.1", settings.port).is_rejected

        def ended() -> list[Audit]:
            rows = [row for row in trail(tracker) if row.action == "association"]
            return rows if len(rows) == 2 else []

        until(lambda: bool(ended()), "both associations are in the trail")
    finally:
        receiver.stop(1)
    by_actor = {row.actor: row.details for row in ended()}
    assert by_actor["MR1"] == {"host": "127.0.0.1", "stored": 2, "refused": 1, "dropped": 0}
    assert by_actor["STRANGER"]["rejected"] == "its AE title is not among the [[sources]]"
