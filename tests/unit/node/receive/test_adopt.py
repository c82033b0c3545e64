"""Files of instances that no row names are entered when they can be read, and removed when not."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset

from node.archive.digest import Digest, data_set_starts, sha256
from node.archive.facade import Archive
from node.dicom.transfer_syntax import to_bytes
from node.receive.adopt import Adopted, adopt
from node.receive.store import Status, Store
from node.tracker import views
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.purge import purge
from tests.dicom import mr_series
from tests.unit.node.kept import path_of
from tests.unit.node.receive.storing import sent

LATER = datetime.now(UTC) + timedelta(hours=1)


def orphan(archive: Archive, ds: Dataset) -> tuple[str, bytes]:
    """A file as a crash leaves it between the two steps: study, content."""
    content = to_bytes(ds)
    digest = Digest(sha256(content[data_set_starts(content) :]), str(ds.file_meta.TransferSyntaxUID))
    archive.put_instance(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, content, digest)
    return str(ds.StudyInstanceUID), content


def test_a_file_without_a_row_is_entered_once(store: Store, archive: Archive, tracker: Tracker) -> None:
    study_uid, content = orphan(archive, mr_series(1)[0])
    assert adopt(archive, tracker, store.readmit, LATER) == Adopted(entered=1)
    (stored,) = of_study(tracker, archive, study_uid).values()
    assert stored.content() == content
    assert views.jobs(tracker.database), "its study is matched"
    assert adopt(archive, tracker, store.readmit, LATER) == Adopted()


def test_what_has_a_row_or_is_young_is_left_alone(store: Store, archive: Archive, tracker: Tracker) -> None:
    one, other = mr_series(2)
    assert store.put(sent(one)) is Status.SUCCESS
    assert adopt(archive, tracker, store.readmit, LATER) == Adopted()
    orphan(archive, other)
    assert adopt(archive, tracker, store.readmit, LATER - timedelta(hours=2)) == Adopted()
    assert store.put(sent(other)) is Status.SUCCESS
    assert adopt(archive, tracker, store.readmit, LATER) == Adopted()


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_what_cannot_be_read_is_removed(store: Store, archive: Archive, tracker: Tracker, content: bytes) -> None:
    orphan(archive, mr_series(1)[0])
    (path,) = Path(archive.location("instances")).rglob("*.dcm")
    path.write_bytes(content)
    assert adopt(archive, tracker, store.readmit, LATER) == Adopted(removed=1)
    assert not path.exists()


def test_what_was_purged_does_not_come_back(store: Store, archive: Archive, tracker: Tracker) -> None:
    one, other = mr_series(2)
    assert store.put(sent(one)) is Status.SUCCESS
    kept = path_of(tracker, archive, one)
    purge(tracker, archive, str(one.StudyInstanceUID), "test")
    orphan(archive, other)
    assert adopt(archive, tracker, store.readmit, LATER) == Adopted(removed=1)
    assert not kept.exists() and not list(Path(archive.location("instances")).rglob("*.dcm"))
    assert store.put(sent(other)) is Status.SUCCESS


def test_other_content_of_an_instance_that_has_a_row_is_removed(
    store: Store, archive: Archive, tracker: Tracker
) -> None:
    (ds,) = mr_series(1)
    assert store.put(sent(ds)) is Status.SUCCESS
    kept = path_of(tracker, archive, ds)
    other = kept.with_name(f"{kept.stem}-0123456789abcdef.dcm")
    other.write_bytes(kept.read_bytes()[:-2] + os.urandom(2))
    assert adopt(archive, tracker, store.readmit, LATER) == Adopted(removed=1)
    assert kept.exists() and not other.exists()
