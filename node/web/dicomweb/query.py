"""A search as its address says it: matching keys, paging, and what the answers hold (PS3.18 8.3.4)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from starlette.exceptions import HTTPException

from node.tracker.catalogue import StudyKeys
from node.web.dicomweb.model import tag_of

EVERYTHING = "all"
_RANGED = frozenset({"DA", "TM", "DT"})
_INDEXED = {
    "PatientName": "patient_name",
    "PatientID": "patient_id",
    "AccessionNumber": "accession_number",
    "StudyDescription": "description",
    "ModalitiesInStudy": "modality",
}
"""Keys that the tracker itself can match, by the names that it gives them."""


@dataclass(frozen=True)
class Query:
    """What a search asks for."""

    keys: dict[str, str]
    """Keyword to the value to match, which may hold wildcards, a range or a list of UIDs."""
    fields: frozenset[str]
    """Keywords that the answers are to hold besides the usual ones."""
    limit: int | None
    offset: int
    fuzzy: bool

    @property
    def everything(self) -> bool:
        return EVERYTHING in self.fields

    @property
    def indexed(self) -> StudyKeys:
        """The part that the tracker matches."""
        keys = {name: self.keys[keyword] for keyword, name in _INDEXED.items() if keyword in self.keys}
        first, _, last = self.keys.get("StudyDate", "").partition("-")
        is_range = "-" in self.keys.get("StudyDate", "")
        uids = self.keys.get("StudyInstanceUID", "")
        return StudyKeys(study_uids=tuple(_list(uids)), first_date=first, last_date=last if is_range else first, **keys)

    @property
    def others(self) -> dict[str, str]:
        """The part that is matched on the answers."""
        return {k: v for k, v in self.keys.items() if k not in (*_INDEXED, "StudyDate", "StudyInstanceUID")}

    def matches(self, answer: Dataset) -> bool:
        """Whether an answer has what the other keys ask for. An attribute that it lacks matches nothing."""
        return all(matches(answer, keyword, wanted) for keyword, wanted in self.others.items())


def read_query(parameters: Iterable[tuple[str, str]], known: frozenset[str]) -> Query:
    """The query of an address. HTTPException 400 for what is unknown or makes no sense; `known` are the keywords that can be
    matched."""
    keys: dict[str, str] = {}
    fields: set[str] = set()
    numbers = {"limit": "", "offset": "0"}
    fuzzy = False
    for name, value in parameters:
        if name == "includefield":
            fields |= {EVERYTHING if field == EVERYTHING else _keyword(field) for field in value.split(",") if field}
        elif name in numbers:
            numbers[name] = value
        elif name == "fuzzymatching":
            fuzzy = value.lower() == "true"
        elif name != "accept":
            keyword = _keyword(name)
            if keyword not in known:
                raise HTTPException(400, f"{keyword} cannot be searched for here")
            if value not in ("", "*"):
                keys[keyword] = value
    try:
        limit = int(numbers["limit"]) if numbers["limit"] else None
        offset = int(numbers["offset"])
    except ValueError:
        raise HTTPException(400, "limit and offset are numbers") from None
    if offset < 0 or (limit is not None and limit < 0):
        raise HTTPException(400, "limit and offset are not negative")
    return Query(keys, frozenset(fields), limit, offset, fuzzy)


def matches(answer: Dataset, keyword: str, wanted: str) -> bool:
    """Whether an attribute matches (PS3.4 C.2.2.2): a single value, a list of UIDs, a range, or wildcards. Names of people
    match in upper and lower case."""
    vr = dictionary_VR(keyword)
    value = answer.get(keyword)
    values = [str(one).strip() for one in (value if isinstance(value, list | tuple) else [value]) if one is not None]
    if vr == "UI":
        return any(one in _list(wanted) for one in values)
    if vr in _RANGED and "-" in wanted:
        first, _, last = wanted.partition("-")
        return any((not first or one >= first) and (not last or one[: len(last)] <= last) for one in values)
    pattern = re.compile(translate(wanted.replace("[", "[[]")), re.IGNORECASE if vr == "PN" else 0)
    return any(pattern.match(one) for one in values)


def _list(wanted: str) -> list[str]:
    """A list of UIDs, separated by commas or, as in DIMSE, by backslashes."""
    return [uid for uid in re.split(r"[,\\]", wanted) if uid]


def _keyword(name: str) -> str:
    try:
        keyword = keyword_for_tag(tag_of(name))
    except (ValueError, OverflowError):
        keyword = ""
    if not keyword:
        raise HTTPException(
            400, f"there is no attribute {name[:64]!r}; name it by keyword or by eight hexadecimal digits"
        )
    return keyword
