"""A receiver that dies at a named moment."""

import os
from pathlib import Path
from typing import Any

from node.archive.facade import Archive
from node.receive import entering, group_commit
from node.receive.group_commit import GroupCommit, recover
from node.receive.store import Store
from node.tracker import arrivals
from node.tracker.database import Database
from node.tracker.handle import Tracker
from tests.dicom import mr_series
from tests.unit.node.receive.storing import sent


def die(*_: Any, **__: Any) -> Any:
    os._exit(9)


def main(data: Path, moment: str, count: int, answers: Path) -> None:
    """Receive `count` instances, and note in a file what each was answered with: SOP instance UID, status."""
    archive = Archive.in_folder(data)
    database = Database(f"sqlite:///{data / 'tracker.sqlite3'}")
    database.upgrade()
    tracker = Tracker(database)
    if moment.startswith("recovery"):
        if moment == "recovery, before it is entered":
            group_commit.arrivals.record = die  # type: ignore[assignment]
        recover(archive, tracker, Store(archive, tracker, 10).readmit)
        os._exit(0)
    entering.GATHER_S = 3600
    kept = GroupCommit.open(archive, tracker, 10)
    assert kept is not None
    store = Store(archive, tracker, 10, group_commit=kept)
    instances = mr_series(count, study_uid="1.2.826.7", series_uid="1.2.826.7.1", seed=7)
    for number, ds in enumerate(instances):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.7.1.{number}"
        if number == count - 1:
            if moment == "before the log is durable":
                kept._log.make_durable = die  # type: ignore[method-assign]
            elif moment == "before it is acknowledged":
                kept._entering.soon = die  # type: ignore[method-assign]
            elif moment == "acknowledged, before it is entered":
                arrivals.record_further = die  # type: ignore[assignment]
            elif moment == "before its transaction ends":
                arrivals._of_study = die
            elif moment == "after it is entered":
                kept._log.keep = die  # type: ignore[method-assign]
        answer = f"{ds.SOPInstanceUID} {int(store.put(sent(ds)))}\n"
        with answers.open("a") as file:
            file.write(answer)
        if moment == "the first of a series":
            os._exit(9)
    store.flush()
    if moment == "while files are made":
        kept._tracker.database.make_durable = die  # type: ignore[method-assign]
        kept.settle()
    os._exit(9)
