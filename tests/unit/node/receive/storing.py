"""A store that keeps instances one by one, and one that keeps them in groups; and what is sent to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from pydicom import Dataset

from node.archive.facade import Archive
from node.receive.group_commit import GroupCommit
from node.receive.store import Store, StoreRequest
from node.tracker.handle import Tracker

WAYS = ["one by one", "in groups"]

_opened: list[GroupCommit] = []


@contextmanager
def store_that_keeps(way: str, archive: Archive, tracker: Tracker) -> Iterator[Store]:
    if way == "one by one":
        yield Store(archive, tracker, series_quiet_s=10)
        return
    group_commit = GroupCommit.open(archive, tracker, quiet_s=10)
    assert group_commit is not None
    _opened.append(group_commit)
    yield Store(archive, tracker, series_quiet_s=10, group_commit=group_commit)
    _opened.remove(group_commit)
    group_commit.close()


def stored(archive: Archive) -> list[Path]:
    """The files of instances, once all of them are there."""
    for group_commit in _opened:
        group_commit.settle()
    return sorted(Path(archive.location("instances")).rglob("*.dcm"))


def sent(ds: Dataset, **changes: object) -> StoreRequest:
    """The request of a sender for an instance."""
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
