"""A store that keeps instances one by one, and one that keeps them in groups."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.archive.facade import Archive
from node.receive.group_commit import GroupCommit
from node.receive.store import Store
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
