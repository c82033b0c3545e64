"""Starts a node on what a disk holds after a loss of power, and looks for what was promised before: in the files and in SQLite, not
through the node."""

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from node.archive.facade import Archive
from node.receive.adopt import adopt
from node.receive.group_commit import recover
from node.receive.store import Store
from node.tracker import identity
from node.tracker.database import Database
from node.tracker.handle import Tracker
from tests.chaos.scanner import data_set
from tests.power.recorded import derived


def start(data: Path) -> str | None:
    """What the start of a service does about received instances. Why it would refuse to start, or None."""
    archive = Archive.in_folder(data)
    database = Database(f"sqlite:///{data / 'tracker.sqlite3'}")
    try:
        expected = identity.remembered(data)
        if problem := database.problem():
            return problem
        if expected is not None and expected != identity.of(database):
            return "the tracker is another one"
        database.upgrade()
        identity.confirm(database, data)
        tracker = Tracker(database)
        store = Store(archive, tracker, 10)
        archive.discard_incoming()
        recover(archive, tracker, store.readmit)
        adopt(archive, tracker, store.readmit, datetime.now(UTC) + timedelta(days=1))
    finally:
        database.dispose()
        archive.close()
    return None


def missing(data: Path, promised: Collection[str], sent: Mapping[str, bytes]) -> list[str]:
    """What was promised and is not there, one sentence each. `sent` has the data set of each instance."""
    wrong = []
    kept: dict[str, list[bytes]] = {}
    for path in (data / "instances").rglob("*.dcm"):
        try:
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        except InvalidDicomError:
            wrong.append(f"{path.relative_to(data)} of {path.stat().st_size} bytes is damaged")
            continue
        kept.setdefault(uid, []).append(path.read_bytes())
    with closing(sqlite3.connect(data / "tracker.sqlite3")) as database:
        query = "SELECT sop_uid, key FROM instance WHERE replaced_at IS NULL"
        rows: dict[str, str] = dict(database.execute(query).fetchall())
    for promise in promised:
        what, _, uid = promise.partition(" ")
        if what == "derived":
            contents = [path.read_bytes() for path in sorted((data / "derived").rglob("*.dcm"))]
            if contents != [content for _, content in derived()]:
                wrong.append(f"{len(contents)} derived instances, or not those that were made")
        elif [data_set(content) for content in kept.get(uid, [])] != [sent[uid]]:
            wrong.append(f"instance {uid} has {len(kept.get(uid, []))} files, or other bytes than were sent")
        elif uid not in rows or not (data / rows[uid]).is_file():
            wrong.append(f"instance {uid} has no row that leads to its file")
    wrong += [f"the row of {uid} leads nowhere" for uid, key in rows.items() if not (data / key).is_file()]
    return wrong
