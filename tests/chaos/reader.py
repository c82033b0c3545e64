"""What is there in the end: read from the files with pydicom, from the database with its driver, and from the PACS by its REST API.
Nothing here is the node's own code."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from tests.acceptance.conftest import Orthanc
from tests.chaos.scanner import SentStudy, digest

JOBS = ("match", "infer", "derive", "deliver")
"""What becomes of a study, one job each."""


Ask = Callable[[str], list[tuple[Any, ...]]]
"""Asks the database."""


def asking_sqlite(path: Path) -> Ask:
    """The rows of a query to SQLite; none while it does not answer."""

    def ask(query: str) -> list[tuple[Any, ...]]:
        try:
            with closing(sqlite3.connect(path)) as database:
                return database.execute(query).fetchall()
        except sqlite3.Error:
            return []

    return ask


def states(ask: Ask, study_uid: str) -> dict[str, list[str]]:
    """The states of the jobs of a study, by kind."""
    found: dict[str, list[str]] = {}
    for kind, state in ask(f"SELECT kind, state FROM job WHERE study_uid = '{study_uid}'"):
        found.setdefault(kind, []).append(state)
    return found


def is_done(ask: Ask, study_uid: str) -> bool:
    return states(ask, study_uid) == {kind: ["done"] for kind in JOBS}


def judge(archive: Path, ask: Ask, pacs: Orthanc, sent: Sequence[SentStudy], expected: Path) -> list[str]:
    """Everything that does not hold, one sentence each. `expected` is a folder with what is to come of the studies, made
    without service, network and faults."""
    wrong = instances(archive, ask, sent)
    for study in sent:
        if not is_done(ask, study.study_uid):
            wrong.append(f"study {study.study_uid} is not done: {states(ask, study.study_uid)}")
    return wrong + _derived(archive, pacs, sent, expected)


def instances(archive: Path, ask: Ask, sent: Sequence[SentStudy]) -> list[str]:
    """Each acknowledged instance has one file, with the bytes that were sent; and one row that is in force."""
    wrong = []
    kept: dict[str, list[bytes]] = {}
    for path in (archive / "instances").rglob("*.dcm"):
        kept.setdefault(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID), []).append(path.read_bytes())
    rows = Counter(uid for (uid,) in ask("SELECT sop_uid FROM instance WHERE replaced_at IS NULL"))
    for study in sent:
        for uid in dict.fromkeys(study.acknowledged):
            contents = kept.get(uid, [])
            if len(contents) != 1:
                wrong.append(f"acknowledged instance {uid} has {len(contents)} files")
            elif digest(contents[0]) != study.digests[uid]:
                wrong.append(f"acknowledged instance {uid} has other bytes than were sent")
            if rows[uid] != 1:
                wrong.append(f"acknowledged instance {uid} has {rows[uid]} rows")
    return wrong


def _derived(archive: Path, pacs: Orthanc, sent: Sequence[SentStudy], expected: Path) -> list[str]:
    """The PACS has each derived instance once, as the node keeps it, and no others; and they are those that are expected."""
    wrong = []
    kept = [dcmread(path) for path in (archive / "derived").rglob("*.dcm")]
    there = [dcmread(BytesIO(pacs.get(f"/instances/{n}/file"))) for n in json.loads(pacs.get("/instances"))]
    made = [dcmread(path) for path in expected.rglob("*.dcm")]
    studies = {study.study_uid for study in sent}
    if {d.StudyInstanceUID for d in made} != studies:
        wrong.append("what is expected was not made of every study")
    for name, found in (("kept", kept), ("at the PACS", there)):
        again = [uid for uid, count in Counter(d.SOPInstanceUID for d in found).items() if count > 1]
        wrong += [f"derived instance {uid} is {name} more than once" for uid in again]
        wrong += [f"derived instance {uid} is not {name}" for uid in _uids(made) - _uids(found)]
        wrong += [f"derived instance {uid} is {name}, which nobody expects" for uid in _uids(found) - _uids(made)]
    by_uid = {d.SOPInstanceUID: d for d in there}
    wrong += [
        f"derived instance {d.SOPInstanceUID} differs at the PACS" for d in kept if d != by_uid.get(d.SOPInstanceUID)
    ]
    pixels = {d.SOPInstanceUID: d.get("PixelData") for d in made}
    wrong += [
        f"derived instance {d.SOPInstanceUID} has other pixels than without faults"
        for d in there
        if pixels.get(d.SOPInstanceUID) != d.get("PixelData")
    ]
    return wrong


def _uids(instances: Sequence[Dataset]) -> set[str]:
    return {str(d.SOPInstanceUID) for d in instances}
