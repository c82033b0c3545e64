"""QIDO-RS: studies, series and instances that match (PS3.18 10.6)."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum
from itertools import islice

from pydicom import Dataset
from starlette.exceptions import HTTPException

from node.errors import DamagedFileError, LostError
from node.tracker import catalogue
from node.web.dicomweb.contents import Entry, Place, of_studies
from node.web.dicomweb.model import is_bulk
from node.web.dicomweb.query import Query
from node.web.site import Site

MOST_READ = 500
"""Studies whose headers one search may read: beyond that it would take minutes."""

_AT_ONCE = 50

_PATIENT_AND_STUDY = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "TimezoneOffsetFromUTC", "StudyDescription",
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
)  # fmt: skip
_SERIES = (
    "Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "SeriesDate", "SeriesTime", "BodyPartExamined",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
)  # fmt: skip
_INSTANCE = (
    "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
)  # fmt: skip


class QueryLevel(Enum):
    """What is searched for, and the attributes that its answers have."""

    STUDY = _PATIENT_AND_STUDY
    SERIES = _SERIES
    INSTANCE = _INSTANCE


KNOWN = {
    QueryLevel.STUDY: frozenset((*_PATIENT_AND_STUDY, "ModalitiesInStudy")),
    QueryLevel.SERIES: frozenset((*_PATIENT_AND_STUDY, "ModalitiesInStudy", *_SERIES)),
    QueryLevel.INSTANCE: frozenset((*_PATIENT_AND_STUDY, "ModalitiesInStudy", *_SERIES, *_INSTANCE)),
}


def search(site: Site, level: QueryLevel, within: Place | None, query: Query, limit: int, root: str) -> list[Dataset]:
    """The answers from `offset` on, `limit` at most. HTTPException 413 when too many studies had to be read."""
    if within is not None:
        study_uids: Sequence[str] = [within.study_uid]
    else:
        study_uids = catalogue.study_uids(site.tracker.database, query.indexed)
    offset = query.offset
    if level is QueryLevel.STUDY and not query.others:  # one answer each: those before the page need not be read
        study_uids, offset = study_uids[offset:], 0
    found = _answers(site, level, within, study_uids, query, root)
    return list(islice(found, offset, offset + limit))


def _answers(
    site: Site, level: QueryLevel, within: Place | None, study_uids: Sequence[str], query: Query, root: str
) -> Iterator[Dataset]:
    for study in _studies(site, study_uids):
        kept = [e for e in study if within is None or within.series_uid in (None, e.series_uid)]
        for group in _groups(level, kept):
            header = _header(group)
            if header is not None:
                answer = _answer(level, header, group, study, query, root)
                if query.matches(answer):
                    yield _trimmed(answer, level, within, query)


def _studies(site: Site, study_uids: Sequence[str]) -> Iterator[list[Entry]]:
    """What is kept of each study, asked for some at a time."""
    for start in range(0, len(study_uids), _AT_ONCE):
        if start >= MOST_READ:
            reason = f"the search reads more than {MOST_READ} studies; narrow it, by StudyDate for example"
            raise HTTPException(413, reason)
        some = study_uids[start : start + _AT_ONCE]
        found = of_studies(site, some)
        yield from (found[study_uid] for study_uid in some if study_uid in found)


def _groups(level: QueryLevel, kept: Sequence[Entry]) -> list[list[Entry]]:
    """The instances that make up each answer."""
    if level is QueryLevel.INSTANCE:
        return [[entry] for entry in kept]
    if level is QueryLevel.STUDY:
        return [list(kept)]
    series: dict[str, list[Entry]] = {}
    for entry in kept:
        series.setdefault(entry.series_uid, []).append(entry)
    return list(series.values())


def _header(group: Sequence[Entry]) -> Dataset | None:
    """The header of the first instance that can be read."""
    for entry in group:
        with suppress(LostError, DamagedFileError):
            return entry.stored.read_header()
    return None


def _answer(
    level: QueryLevel, header: Dataset, group: Sequence[Entry], study: Sequence[Entry], query: Query, root: str
) -> Dataset:
    """All that a search can match or hold, of every level down to this one."""
    answer = Dataset()
    wanted = {*KNOWN[level], *query.fields}
    for element in header:
        if (element.keyword in wanted or query.everything) and not is_bulk(element) and not element.tag.is_private:
            answer.add(element)
    first = group[0]
    answer.StudyInstanceUID = first.study_uid
    paths = {
        QueryLevel.STUDY: f"studies/{first.study_uid}",
        QueryLevel.SERIES: f"studies/{first.study_uid}/series/{first.series_uid}",
        QueryLevel.INSTANCE: first.path,
    }
    answer.RetrieveURL = f"{root}/{paths[level]}"
    if level is QueryLevel.STUDY:
        answer.ModalitiesInStudy = _modalities(study)
        answer.NumberOfStudyRelatedSeries = len({entry.series_uid for entry in study})
        answer.NumberOfStudyRelatedInstances = len(study)
    elif level is QueryLevel.SERIES:
        answer.NumberOfSeriesRelatedInstances = len(group)
    else:
        answer.InstanceAvailability = "ONLINE"
    return answer


def _modalities(study: Sequence[Entry]) -> list[str]:
    """Where the tracker does not know that of a series, one header of it is read."""
    found = set()
    for group in _groups(QueryLevel.SERIES, study):
        modality = group[0].modality
        if modality is None and (header := _header(group)) is not None:
            modality = str(header.get("Modality", ""))
        found.add(modality or "")
    return sorted(found - {""})


def _trimmed(answer: Dataset, level: QueryLevel, within: Place | None, query: Query) -> Dataset:
    """The answer without what its address says already, unless it was asked for: attributes of higher levels."""
    if query.everything or within is None or level is QueryLevel.STUDY:
        return answer
    higher = {*_PATIENT_AND_STUDY, *(_SERIES if level is QueryLevel.INSTANCE else ())}
    kept = {"StudyInstanceUID", "SeriesInstanceUID", "Modality", *query.fields, *query.keys}
    for keyword in higher - kept:
        if keyword in answer:
            delattr(answer, keyword)
    return answer
