"""What runs under strace: python -m tests.power.recorded DATA FILES. Each line that it prints is a promise: what it names must
survive from then on."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydicom import dcmread

from node.archive import log
from node.archive.facade import Archive
from node.receive.group_commit import GroupCommit
from node.receive.store import Status, Store
from node.tracker import identity
from node.tracker.database import Database
from node.tracker.handle import Tracker
from tests.unit.node.receive.storing import sent

SEGMENT = 256 << 10
"""Segments are small, so that several are used, and used again."""
LARGE = 20_000
"""Instances with more bytes than this do not go to the log."""


def main() -> None:
    data, files = Path(sys.argv[1]), sorted(Path(sys.argv[2]).glob("*.dcm"))
    log.Log.__init__.__defaults__ = (SEGMENT,)
    log.Log.largest = LARGE  # type: ignore[assignment,method-assign]
    archive = Archive.in_folder(data)
    database = Database(f"sqlite:///{data / 'tracker.sqlite3'}")
    database.upgrade()
    identity.confirm(database, data)
    tracker = Tracker(database)
    group_commit = GroupCommit.open(archive, tracker, 10)
    assert group_commit is not None
    store = Store(archive, tracker, 10, group_commit=group_commit)
    third = len(files) // 3
    for path in files[:third]:
        receive(store, path)
    group_commit.settle()
    with ThreadPoolExecutor(4) as associations:
        list(associations.map(lambda path: receive(store, path), files[third : 2 * third]))
    derive(archive, "infer:a")
    for path in files[2 * third :]:
        receive(store, path)
    group_commit.settle()
    group_commit.close()
    archive.close()
    os._exit(0)


def receive(store: Store, path: Path) -> None:
    dataset = dcmread(path)
    assert store.put(sent(dataset)) is Status.SUCCESS
    promise(f"instance {dataset.SOPInstanceUID}")


def derive(archive: Archive, name: str) -> None:
    archive.put_layers(name, b"layers")
    archive.put_derived(name, derived(), "<html>")
    promise("derived")


def derived() -> Sequence[tuple[str, bytes]]:
    """(SOP instance UID, content) of what is made."""
    return [(f"1.2.826.8.{number}", bytes([number]) * 5000) for number in range(3)]


def promise(what: str) -> None:
    os.write(1, f"{what}\n".encode())


if __name__ == "__main__":
    main()
