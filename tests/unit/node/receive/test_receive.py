"""The storage SCP against dcmtk's senders, and what it does with what they send."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from structlog.testing import capture_logs

from node.archive.facade import Archive
from node.config.settings import SCPSettings, SourceSettings
from node.errors import StorageFullError
from node.receive.commitment_scp import Commitments
from node.receive.group_commit import GroupCommit
from node.receive.policy import configured_callers
from node.receive.server import Receiver
from node.receive.store import Status, Store, StoreRequest
from node.tracker import views
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.tables import Series
from tests.conftest import free_port, require
from tests.dicom import mr_series, write

opened: list[GroupCommit] = []
"""What has to settle before a test looks for files."""


@pytest.fixture(params=["one by one", "in groups"])
def store(request: pytest.FixtureRequest, archive: Archive, tracker: Tracker) -> Iterator[Store]:
    if request.param == "one by one":
        yield Store(archive, tracker, series_quiet_s=10)
        return
    group_commit = GroupCommit.open(archive, tracker, quiet_s=10)
    assert group_commit is not None
    opened.append(group_commit)
    yield Store(archive, tracker, series_quiet_s=10, group_commit=group_commit)
    opened.remove(group_commit)
    group_commit.close()


def sent(ds: Dataset, **changes: object) -> StoreRequest:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    raw = buffer.getvalue()
    meta_length = 128 + 4 + 12 + int.from_bytes(raw[140:144], "little")
    facts = {
        "sop_class_uid": str(ds.SOPClassUID), "sop_uid": str(ds.SOPInstanceUID),
        "transfer_syntax_uid": str(ds.file_meta.TransferSyntaxUID), "implementation_class_uid": "1.2.3", "calling_ae_title": "MR1",
        "data_set": raw[meta_length:], "abstract_syntax_uid": str(ds.SOPClassUID),
    }  # fmt: skip
    return StoreRequest(**(facts | changes))  # type: ignore[arg-type]


def stored(archive: Archive) -> list[Path]:
    for group_commit in opened:
        group_commit.settle()
    return sorted(Path(archive.location("instances")).rglob("*.dcm"))


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


# ---------------------------------------------------------------------- over the wire


def send(program: str, port: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TCP_NODELAY": "1"}
    command = [require(program), *map(str, arguments)]
    at = command.index("PEER")
    command[at : at + 1] = ["127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_c_echo(receiver: Receiver) -> None:
    assert send("echoscu", receiver.port, "PEER").returncode == 0


def test_dcmsend_and_storescu_of_dcmtk(receiver: Receiver, archive: Archive, tmp_path: Path) -> None:
    write(mr_series(5), tmp_path / "out")
    write(mr_series(5), tmp_path / "out2")
    assert send("dcmsend", receiver.port, "PEER", "+sd", tmp_path / "out").returncode == 0
    assert send("storescu", receiver.port, "+sd", "PEER", tmp_path / "out2").returncode == 0
    assert len(stored(archive)) == 10
    assert {dcmread(p).file_meta.TransferSyntaxUID for p in stored(archive)[:5]} == {ExplicitVRLittleEndian}


@pytest.mark.parametrize(
    ("encoder", "arguments", "syntax"),
    [
        ("dcmcrle", (), "1.2.840.10008.1.2.5"),
        ("dcmcjpls", (), "1.2.840.10008.1.2.4.80"),
        ("dcmcjpeg", ("+e1",), "1.2.840.10008.1.2.4.70"),
        ("dcmconv", ("+ti",), "1.2.840.10008.1.2"),
        ("dcmconv", ("+tb",), "1.2.840.10008.1.2.2"),
        ("dcmconv", ("+td",), "1.2.840.10008.1.2.1.99"),
    ],
)
def test_other_transfer_syntaxes_are_stored_as_received(
    receiver: Receiver, archive: Archive, tmp_path: Path, encoder: str, arguments: tuple[str, ...], syntax: str
) -> None:
    (original,) = mr_series(1)
    (path,) = write([original], tmp_path / "in")
    encoded = tmp_path / "encoded.dcm"
    subprocess.run([require(encoder), *arguments, path, encoded], check=True, capture_output=True)
    propose = {"1.2.840.10008.1.2": "-xi", "1.2.840.10008.1.2.2": "-xb", "1.2.840.10008.1.2.1.99": "-xd",
               "1.2.840.10008.1.2.5": "-xr", "1.2.840.10008.1.2.4.80": "-xt", "1.2.840.10008.1.2.4.70": "-xs"}[syntax]  # fmt: skip
    answer = send("storescu", receiver.port, "-R", propose, "PEER", encoded)
    assert answer.returncode == 0, answer.stderr
    (kept,) = stored(archive)
    assert dcmread(kept).file_meta.TransferSyntaxUID == syntax
    if syntax == JPEGLosslessSV1:  # no plugin with a free licence decodes it for pydicom
        subprocess.run([require("dcmdjpeg"), kept, encoded], check=True)
        kept = encoded
    assert np.array_equal(dcmread(kept).pixel_array, original.pixel_array)


def test_only_configured_sources_may_send(
    settings: SCPSettings, store: Store, commitments: Commitments, tmp_path: Path, archive: Archive
) -> None:
    sources = [SourceSettings(name="mr1", ae_title="MR1"), SourceSettings(name="mr2", ae_title="MR2", host="192.0.2.1")]
    receiver = Receiver(settings, configured_callers(sources), store, commitments)
    receiver.start()
    try:
        (path,) = write(mr_series(1), tmp_path / "in")
        assert send("storescu", receiver.port, "-aet", "STRANGER", "PEER", path).returncode != 0
        assert send("storescu", receiver.port, "-aet", "MR2", "PEER", path).returncode != 0, "right title, wrong host"
        assert stored(archive) == []
        assert send("storescu", receiver.port, "-aet", "MR1", "PEER", path).returncode == 0
        assert len(stored(archive)) == 1
    finally:
        receiver.stop(1)


@pytest.mark.parametrize(
    ("changes", "called", "says"),
    [
        ({"require_called_ae_title": True}, "OTHER", "it calls OTHER, not DIFFMSR"),
        ({}, "DIFFMSR", "its AE title is not among the [[sources]]"),
        ({"max_associations": 1}, "DIFFMSR", "1 associations are open already"),
    ],
    ids=["wrong called AE title", "unknown calling AE title", "too many"],
)
def test_a_rejection_says_why_and_what_to_check(
    settings: SCPSettings, store: Store, commitments: Commitments, changes: dict[str, Any], called: str, says: str
) -> None:
    sources = [] if "max_associations" in changes else [SourceSettings(name="mr1", ae_title="MR1")]
    receiver = Receiver(settings.model_copy(update=changes), configured_callers(sources), store, commitments)
    receiver.start()
    ae = AE("MR1" if "require_called_ae_title" in changes else "STRANGER")
    ae.add_requested_context(MRImageStorage)
    try:
        with capture_logs() as logs:
            first = ae.associate("127.0.0.1", receiver.port, ae_title=called)
            assert first.is_established == ("max_associations" in changes)
            second = ae.associate("127.0.0.1", receiver.port, ae_title=called)
            assert not second.is_established  # whether pynetdicom calls it rejected or aborted is its own race
            if first.is_established:
                first.release()
    finally:
        receiver.stop(1)
    rejections = [line for line in logs if line["event"] == "association.rejected"]
    assert rejections[-1]["reason"] == says
    assert rejections[-1]["check"]
    assert rejections[-1]["source"] == ae.ae_title


def test_sop_classes_that_are_not_taken_are_named(receiver: Receiver) -> None:
    ae = AE("MR1")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")
    with capture_logs() as logs:
        ae.associate("127.0.0.1", receiver.port)
    (line,) = [line for line in logs if line["event"] == "association.without_use"]
    assert line["names"] == ["Study Root Query/Retrieve Information Model - FIND"]
    assert "diffmsr-node conformance" in line["check"]


def test_an_instance_without_end_does_not_fill_memory(
    settings: SCPSettings, store: Store, commitments: Commitments, tmp_path: Path, archive: Archive
) -> None:
    receiver = Receiver(settings.model_copy(update={"max_instance_mb": 1}), [], store, commitments)
    receiver.start()
    try:
        small, large = write([*mr_series(1), *mr_series(1, rows=1000, columns=1000)], tmp_path / "in")
        several = write(mr_series(5, rows=500, columns=500), tmp_path / "several")
        assert send("storescu", receiver.port, "PEER", large).returncode != 0
        assert stored(archive) == []
        assert send("storescu", receiver.port, "PEER", small, *several).returncode == 0, "the limit is for each"
        assert len(stored(archive)) == 6
    finally:
        receiver.stop(1)


def test_a_port_that_is_taken_is_one_clear_error(receiver: Receiver, store: Store, commitments: Commitments) -> None:
    second = Receiver(SCPSettings(host="127.0.0.1", port=receiver.port), [], store, commitments)
    with pytest.raises(Exception, match=r"cannot listen on 127.0.0.1:\d+.*\[scp\] port"):
        second.start()
