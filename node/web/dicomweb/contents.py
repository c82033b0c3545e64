"""What is kept of a study: the instances as received, and what was derived from them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from node.archive.facade import StoredInstance
from node.dicom.uid import is_uid
from node.errors import LostError, NotFoundError
from node.tracker import catalogue
from node.tracker.instances import stored
from node.web.site import Site


@dataclass(frozen=True)
class Place:
    """A study, a series of it, or an instance of that, by UID."""

    study_uid: str
    series_uid: str | None = None
    sop_uid: str | None = None

    def __post_init__(self) -> None:
        """ValueError when one is not a UID."""
        for uid in (self.study_uid, self.series_uid, self.sop_uid):
            if uid is not None and not is_uid(uid):
                raise ValueError("not a UID")


@dataclass(frozen=True)
class Entry:
    """An instance in the archive."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str | None
    """None where the tracker keeps nothing of headers."""
    stored: StoredInstance

    @property
    def path(self) -> str:
        """Its place below the root of the service."""
        return f"studies/{self.study_uid}/series/{self.series_uid}/instances/{self.sop_uid}"


def entries(site: Site, place: Place) -> list[Entry]:
    """What is at a place: received instances first. NotFoundError when there is nothing."""
    found = [
        entry
        for entry in of_studies(site, [place.study_uid]).get(place.study_uid, [])
        if place.series_uid in (None, entry.series_uid) and place.sop_uid in (None, entry.sop_uid)
    ]
    if not found:
        raise NotFoundError("nothing of that UID is kept here")
    return found


def of_studies(site: Site, study_uids: Sequence[str]) -> dict[str, list[Entry]]:
    """What is kept of each study; studies without anything kept are left out."""
    found: dict[str, list[Entry]] = {}
    for entry in (*_received(site, study_uids), *_derived(site, study_uids)):
        found.setdefault(entry.study_uid, []).append(entry)
    return found


def _received(site: Site, study_uids: Sequence[str]) -> Iterator[Entry]:
    for row, modality in catalogue.instances(site.tracker.database, study_uids):
        yield Entry(
            row.study_uid, row.series_uid, row.sop_uid, row.sop_class_uid, row.transfer_syntax_uid, modality,
            stored(row, site.archive),
        )  # fmt: skip


def _derived(site: Site, study_uids: Sequence[str]) -> Iterator[Entry]:
    """What was derived of each result. What is lost is left out: the delivery has it made again."""
    seen: set[str] = set()
    for name in catalogue.results(site.tracker.database, study_uids):
        with suppress(LostError):
            for made in site.archive.derived(name) or ():
                if made.sop_uid not in seen:
                    seen.add(made.sop_uid)
                    yield _entry(site.archive.derived_instance(made.key, made.sha256))


@lru_cache(maxsize=20_000)
def _entry(kept: StoredInstance) -> Entry:
    """A derived instance, by its header: the tracker has no row for it. What is derived never changes."""
    header = kept.read_header()
    return Entry(
        str(header.StudyInstanceUID),
        str(header.SeriesInstanceUID),
        str(header.SOPInstanceUID),
        str(header.SOPClassUID),
        str(header.file_meta.TransferSyntaxUID),
        str(header.get("Modality", "")),
        kept,
    )
