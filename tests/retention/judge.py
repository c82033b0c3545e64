"""What is there in the end: by SQLite, the files, and the REST API of the PACS. Nothing here is the node's own code."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread

from tests.acceptance.conftest import Orthanc
from tests.chaos import reader
from tests.chaos.scanner import SentStudy

AT_A_TIME = 500


def judge(data: Path, pacs: Orthanc, sent: Sequence[SentStudy], slices: int, expected: Path) -> list[str]:
    """Everything that does not hold, one sentence each. `expected` is a folder with what is to come of some of the studies,
    made without service and network."""
    there = {study["MainDicomTags"]["StudyInstanceUID"]: study for study in _listed(pacs, "studies")}
    series = {each["ID"]: each for each in _listed(pacs, "series")}
    made: dict[str, list[dict[str, Any]]] = {
        uid: [series[number] for number in study["Series"]] for uid, study in there.items()
    }
    wrong = [f"the PACS has study {uid}, which nobody sent" for uid in there.keys() - {s.study_uid for s in sent}]
    for study in sent:
        wrong += [
            f"study {study.study_uid}: {sentence}" for sentence in _at_pacs(made.get(study.study_uid, []), slices)
        ]
        if study.missing():
            wrong.append(f"study {study.study_uid} was not acknowledged as a whole")
    with closing(sqlite3.connect(data / "tracker.sqlite3")) as tracker:
        wrong += _tracker(tracker, data, sent, made)
    return [*wrong, *_pixels(pacs, made, expected)]


def _at_pacs(series: Sequence[dict[str, Any]], slices: int) -> Iterator[str]:
    """One series of images, and one report, each instance once: Orthanc lists it by its UID, and keeps the first."""
    found = sorted((each["MainDicomTags"]["Modality"], len(each["Instances"])) for each in series)
    if found != [("MR", slices), ("SR", 1)]:
        yield f"the PACS has {found} of it"


def _tracker(
    tracker: sqlite3.Connection, data: Path, sent: Sequence[SentStudy], made: dict[str, list[dict[str, Any]]]
) -> Iterator[str]:
    """Each study has one row. What was freed has nothing else, and went only after the PACS had all of it; what was not is
    as it was sent."""
    rows = dict(tracker.execute("SELECT study_uid, state FROM study").fetchall())
    freed = dict(tracker.execute("SELECT study_uid, min(at) FROM audit WHERE action = 'purged' GROUP BY study_uid"))
    kept = [study for study in sent if rows.get(study.study_uid) != "purged"]
    for study in sent:
        uid = study.study_uid
        if rows.get(uid) not in ("purged", "delivered"):
            yield f"study {uid} is {rows.get(uid, 'without a row')}"
        if (rows.get(uid) == "purged") != (uid in freed):
            yield f"study {uid} is {rows.get(uid)}, and the audit trail says another thing"
        if uid in freed:
            last = max((each["LastUpdate"] for each in made.get(uid, [])), default="never")
            moment = freed[uid][:19].translate(str.maketrans({"-": "", ":": "", " ": "T"}))
            if last > moment:
                yield f"study {uid} was freed at {moment}, and reached the PACS at {last}"
    uids = {study.study_uid for study in kept}
    for table in ("instance", "series", "job"):
        others = {uid for (uid,) in tracker.execute(f"SELECT DISTINCT study_uid FROM {table}")} - uids
        yield from (f"study {uid} was freed, and has rows in {table}" for uid in others)
    for uid in {path.name for path in (data / "instances").iterdir()} - uids:
        yield f"study {uid} was freed, and has files"
    for kind in ("results", "layers", "derived"):
        count = sum(1 for _ in (data / kind).iterdir())
        if count != len(kept):
            yield f"{count} {kind} are kept, for {len(kept)} studies"
    yield from reader.instances(data, lambda query: tracker.execute(query).fetchall(), kept)


def _pixels(pacs: Orthanc, made: dict[str, list[dict[str, Any]]], expected: Path) -> Iterator[str]:
    """What was made without service and network is at the PACS under the same UIDs, with the same pixels."""
    paths = sorted(expected.rglob("*.dcm"))
    if not paths:
        yield "nothing was made to compare with"
    wanted = [dcmread(path) for path in paths]
    found = {}
    for uid in {str(instance.StudyInstanceUID) for instance in wanted}:
        for number in (number for each in made.get(uid, []) for number in each["Instances"]):
            instance = dcmread(BytesIO(pacs.get(f"/instances/{number}/file")))
            found[instance.SOPInstanceUID] = instance
    for instance in wanted:
        other = found.get(instance.SOPInstanceUID)
        if other is None or other.get("PixelData") != instance.get("PixelData"):
            yield f"derived instance {instance.SOPInstanceUID} is {'missing' if other is None else 'different'} at the PACS"


def _listed(pacs: Orthanc, kind: str) -> Iterator[dict[str, Any]]:
    """Everything of a kind that the PACS has."""
    since = 0
    while found := json.loads(pacs.get(f"/{kind}?expand&since={since}&limit={AT_A_TIME}")):
        yield from found
        since += len(found)
