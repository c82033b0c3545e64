"""What is no MR image but comes with a study: it stops no sender, is counted, and is kept only where the configuration says so."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import MPEG4HP41, ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts
from sqlalchemy import select

from node.archive.facade import Archive
from node.config.match import MatchSettings
from node.config.settings import SCPSettings
from node.match.assess import assess_study
from node.match.stack_roles import ModelFacts
from node.receive.commitment_scp import Commitments
from node.receive.server import Receiver
from node.receive.store import Store
from node.tracker import views
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.tables import Audit
from tests.dicom import study, write
from tests.waiting import until

from .test_receive import send

CSA_NON_IMAGE = "1.3.12.2.1107.5.9.1"
OTHERS = {
    "raw data": "1.2.840.10008.5.1.4.1.1.66",
    "PDF": "1.2.840.10008.5.1.4.1.1.104.1",
    "key object selection": "1.2.840.10008.5.1.4.1.1.88.59",
    "segmentation": "1.2.840.10008.5.1.4.1.1.66.4",
    "CSA non-image": CSA_NON_IMAGE,
    "spectroscopy": "1.2.840.10008.5.1.4.1.1.4.2",
    "standalone curve, retired": "1.2.840.10008.5.1.4.1.1.9",
}

UNKNOWN_TO_STORESCU = {CSA_NON_IMAGE, OTHERS["standalone curve, retired"]}


def other(beside: Dataset, sop_class: str, number: int = 1) -> Dataset:
    """An object of that SOP class in the series of an image, before its slices."""
    ds = Dataset()
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        ds.add(beside[keyword])
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, f"1.2.3.{number}.{abs(hash(sop_class))}", "MR"
    ds.file_meta = type(beside.file_meta)()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class, ds.SOPInstanceUID
    return ds


def ended(tracker: Tracker) -> list[dict[str, object]]:
    with tracker.read() as session:
        rows = session.scalars(select(Audit).where(Audit.action == "association").order_by(Audit.id))
        return [dict(row.details) for row in rows]


def whole_study(t2: Sequence[Dataset], t1: Sequence[Dataset], others: Sequence[str]) -> list[Dataset]:
    """As an auto-route sends it: the objects that are not images come before the T1."""
    return [*t2, *(other(t1[0], sop_class) for sop_class in others), *t1]


@pytest.mark.parametrize(("program", "keep_other"), [("dcmsend", False), ("dcmsend", True), ("storescu", False)])
def test_a_whole_study_arrives_whatever_is_in_it(
    settings: SCPSettings, archive: Archive, tracker: Tracker, commitments: Commitments, tmp_path: Path,
    program: str, keep_other: bool,
) -> None:  # fmt: skip
    t2, t1 = study()
    others = [one for one in OTHERS.values() if program == "dcmsend" or one not in UNKNOWN_TO_STORESCU]
    write(whole_study(t2, t1, others), tmp_path / "study")
    store = Store(archive, tracker, 10, keep_other=keep_other)
    receiver = Receiver(settings, [], store, commitments)
    receiver.start()
    try:
        options = ["-nuc"] if program == "dcmsend" else ["-R"]
        answer = send(program, receiver.port, *options, "+sd", "PEER", tmp_path / "study")
        assert answer.returncode == 0, answer.stderr
        until(lambda: bool(ended(tracker)), "the association is in the trail")
    finally:
        receiver.stop(1)
    kept = of_study(tracker, archive, str(t1[0].StudyInstanceUID))
    images = {str(ds.SOPInstanceUID) for ds in t1 + t2}
    assert set(kept) >= images and len(kept) == len(images) + keep_other * len(others)
    figures = [sum(int(str(row[key])) for row in ended(tracker)) for key in ("stored", "dropped", "refused")]
    assert figures == [len(kept), len(others) * (not keep_other), 0]
    verdict = assess_study(
        [one.read_header() for one in kept.values()], MatchSettings(), ModelFacts("tiny", "1", 4, (("T2", "T1"),))
    )
    assert verdict.outcome == "paired"
    (request,) = verdict.requests
    assert {*request.target.sop_uids, *request.reference.sop_uids} == images
    assert views.totals(tracker.database).instances == len(kept)


def test_every_storage_class_is_accepted_in_any_transfer_syntax(receiver: Receiver) -> None:
    classes = sorted({str(context.abstract_syntax) for context in AllStoragePresentationContexts})
    for at in range(0, len(classes), 128):
        ae = AE("MR1")
        for sop_class in classes[at : at + 128]:
            ae.add_requested_context(sop_class, [MPEG4HP41, ExplicitVRLittleEndian])
        association = ae.associate("127.0.0.1", receiver.port)
        assert {c.abstract_syntax for c in association.accepted_contexts} == set(classes[at : at + 128])
        association.release()
    ae = AE("MR1")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.77.1.1.1", MPEG4HP41)  # video endoscopy
    association = ae.associate("127.0.0.1", receiver.port)
    assert association.is_established
    association.release()


@pytest.mark.parametrize(
    ("admitted", "accepted"),
    [("all", {CSA_NON_IMAGE, "1.3.46.670589.9999"}), ([CSA_NON_IMAGE], {CSA_NON_IMAGE}), ([], set())],
)
def test_the_configuration_says_which_private_classes_are_accepted(
    settings: SCPSettings, store: Store, commitments: Commitments, admitted: str | list[str], accepted: set[str]
) -> None:
    receiver = Receiver(settings.model_copy(update={"private_sop_classes": admitted}), [], store, commitments)
    receiver.start()
    try:
        ae = AE("MR1")
        for sop_class in (CSA_NON_IMAGE, "1.3.46.670589.9999", "1.2.840.10008.5.1.4.1.2.2.1"):
            ae.add_requested_context(sop_class)
        association = ae.associate("127.0.0.1", receiver.port)
        assert {c.abstract_syntax for c in association.accepted_contexts} == accepted
        association.release() if accepted else association.abort()
    finally:
        receiver.stop(1)


def test_what_is_dropped_may_be_of_any_size_and_content(
    settings: SCPSettings, store: Store, tracker: Tracker, commitments: Commitments
) -> None:
    """Raw data of gigabytes ends no association, since none of it is held in memory."""
    t2, _ = study()
    raw = other(t2[0], OTHERS["raw data"])
    raw.add_new(0x00431010, "OB", bytes(3_000_000))
    receiver = Receiver(settings.model_copy(update={"max_instance_mb": 1}), [], store, commitments)
    receiver.start()
    try:
        ae = AE("MR1")
        ae.add_requested_context(raw.SOPClassUID, ExplicitVRLittleEndian)
        ae.add_requested_context(t2[0].SOPClassUID, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", receiver.port)
        assert [association.send_c_store(ds).Status for ds in (raw, t2[0], raw)] == [0, 0, 0]
        association.release()
        until(lambda: bool(ended(tracker)), "the association is in the trail")
    finally:
        receiver.stop(1)
    (row,) = ended(tracker)
    assert (row["stored"], row["dropped"]) == (1, 2)
