"""What the storage SCP does with what it is sent."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from node.archive.facade import Archive
from node.config.settings import SCPSettings
from node.errors import StorageFullError
from node.receive.commitment_scp import Commitments
from node.receive.server import Receiver
from node.receive.store import Status, Store
from node.tracker import views
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.tables import Series
from tests.conftest import free_port
from tests.dicom import mr_series
from tests.unit.node.receive.storing import WAYS, sent, store_that_keeps, stored


@pytest.fixture(params=WAYS)
def store(request: pytest.FixtureRequest, archive: Archive, tracker: Tracker) -> Iterator[Store]:
    with store_that_keeps(request.param, archive, tracker) as made:
        yield made


def test_what_is_acknowledged_is_in_the_archive_byte_for_byte(store: Store, archive: Archive, tracker: Tracker) -> None:
    (ds,) = mr_series(1)
    request = sent(ds)
    assert store.put(request) is Status.SUCCESS
    (path,) = stored(archive)
    assert path.read_bytes().endswith(request.data_set)
    assert dcmread(path) == ds
    (instance,) = of_study(tracker, archive, ds.StudyInstanceUID).values()
    assert archive.location(instance.key) == str(path)
    assert instance.read_instance() == ds


def test_the_same_instance_twice_is_success_and_stored_once(store: Store, archive: Archive, tracker: Tracker) -> None:
    (ds,) = mr_series(1)
    assert store.put(sent(ds)) is Status.SUCCESS
    assert store.put(sent(ds)) is Status.SUCCESS
    assert len(stored(archive)) == 1
    assert views.totals(tracker.database).instances == 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_the_same_instance_in_another_transfer_syntax_is_the_same_instance(
    store: Store, syntax: str, archive: Archive
) -> None:
    (ds,) = mr_series(1, rows=64, columns=64)
    again = Dataset()
    again.update(ds)
    again.file_meta = ds.file_meta.__class__()
    again.file_meta.update(ds.file_meta)
    if syntax == ImplicitVRLittleEndian:
        again.file_meta.TransferSyntaxUID = syntax
    else:
        again.compress(syntax, generate_instance_uid=False)
    assert store.put(sent(ds)) is Status.SUCCESS
    assert store.put(sent(again)) is Status.SUCCESS
    assert len(stored(archive)) == 1


def test_the_same_uid_with_other_content_is_refused_and_the_first_kept(store: Store, archive: Archive) -> None:
    (ds,) = mr_series(1)
    store.put(sent(ds))
    (path,) = stored(archive)
    before = path.read_bytes()
    ds.PixelData = np.zeros((ds.Rows, ds.Columns), "<u2").tobytes()
    assert store.put(sent(ds)) is Status.DUPLICATE_SOP_INSTANCE
    assert path.read_bytes() == before


@pytest.mark.parametrize("uid", ["../../../etc/passwd", "1.2/../../x", "", "abc", "1..2"])
def test_a_uid_never_becomes_a_path_unchecked(store: Store, archive: Archive, uid: str) -> None:
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        (ds,) = mr_series(1)
        request = sent(ds)
        raw = request.data_set.replace(
            str(ds[keyword].value).encode(), uid.encode().ljust(len(str(ds[keyword].value)))[:64]
        )
        assert store.put(sent(ds, data_set=raw)) in (Status.CANNOT_UNDERSTAND, Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS)
    assert stored(archive) == []


def test_a_request_that_names_another_instance_than_its_data_set_is_refused(store: Store, archive: Archive) -> None:
    (ds,) = mr_series(1)
    assert store.put(sent(ds, sop_uid="1.2.3")) is Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS
    assert stored(archive) == []


@pytest.mark.parametrize("data_set", [b"", b"\x00" * 100, b"\xff" * 1000, b"\x08\x00\x18\x00UI\xff\xff1.2"])
def test_what_cannot_be_read_is_refused(store: Store, archive: Archive, data_set: bytes) -> None:
    (ds,) = mr_series(1)
    assert store.put(sent(ds, data_set=data_set)) is Status.CANNOT_UNDERSTAND
    assert stored(archive) == []


@pytest.mark.parametrize(("said", "expected"), [(b"00000025", 25), (b"-0000025", None), (b"9999999999", None)])
def test_a_number_of_images_that_cannot_be_is_no_number(
    store: Store, tracker: Tracker, said: bytes, expected: int | None
) -> None:
    (ds,) = mr_series(1)
    ds.ImagesInAcquisition = 12345678
    request = sent(ds)
    raw = request.data_set.replace(b"IS\x08\x0012345678", b"IS" + len(said).to_bytes(2, "little") + said)
    assert raw != request.data_set
    assert store.put(sent(ds, data_set=raw)) is Status.SUCCESS
    with tracker.database.read() as session:
        assert session.get_one(Series, (ds.StudyInstanceUID, ds.SeriesInstanceUID)).expected == expected


def test_a_full_disk_answers_out_of_resources_and_keeps_what_it_has(tmp_path: Path, tracker: Tracker) -> None:
    first, second = mr_series(2)
    archive = Archive.in_folder(tmp_path / "data")
    assert Store(archive, tracker, 10).put(sent(first)) is Status.SUCCESS
    full = Archive.in_folder(tmp_path / "data", reserve_gb=1e9)
    with pytest.raises(StorageFullError, match="reserve_gb"):
        full.check_space()
    assert Store(full, tracker, 10).put(sent(second)) is Status.OUT_OF_RESOURCES
    assert len(stored(archive)) == 1
    assert Store(full, tracker, 10).put(sent(first)) is Status.SUCCESS, "what is here already needs no space"


def test_below_the_reserve_associations_for_instances_are_rejected_and_results_still_have_room(
    tmp_path: Path, tracker: Tracker
) -> None:
    free = shutil.disk_usage(tmp_path).free / 1e9
    archive = Archive.in_folder(tmp_path / "data", reserve_gb=1.5 * free)
    archive.check_space(for_results=True)
    receiver = Receiver(
        SCPSettings(host="127.0.0.1", port=free_port()),
        [],
        Store(archive, tracker, 10),
        Commitments(tracker, archive, [], "DIFFMSR"),
    )
    receiver.start()
    try:
        for sop_class, accepted in ((MRImageStorage, False), (Verification, True)):
            ae = AE("MR1")
            ae.add_requested_context(sop_class)
            association = ae.associate("127.0.0.1", receiver.port)
            assert association.is_established is accepted
            if not accepted:
                answer = association.acceptor.primitive
                assert (answer.result, answer.diagnostic) == (2, 1), "transient, temporary congestion"
            association.release() if accepted else None
    finally:
        receiver.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_fills_up_while_writing(tmp_path: Path, tracker: Tracker) -> None:
    """A real file system without space, not the reserve: the write itself fails, and leaves nothing behind."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small], check=False).returncode:
        pytest.skip("this sandbox does not let root mount a tmpfs")
    try:
        archive = Archive.in_folder(small)
        store = Store(archive, tracker, 10)
        answers = [store.put(sent(ds)) for ds in mr_series(4, rows=128, columns=128)]
        assert answers[0] is Status.SUCCESS
        assert answers[-1] is Status.OUT_OF_RESOURCES
        assert len(stored(archive)) == answers.count(Status.SUCCESS) == views.totals(tracker.database).instances
        assert list((small / "incoming").rglob(".part-*")) == []
        archive.close()
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)  # the archive holds its lock there
