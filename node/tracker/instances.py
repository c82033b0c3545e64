"""Which instances there are, each as something that can be read."""

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from node.archive.digest import Digest
from node.archive.facade import Archive, StoredInstance
from node.archive.layout import InstanceName, parse_key
from node.errors import DamagedFileError, LostError, NotFoundError
from node.tracker.tables import Instance

if TYPE_CHECKING:
    from pydicom import Dataset


class Reader(Protocol):
    """A Tracker, or the Database alone."""

    def read(self) -> AbstractContextManager[Session]: ...


def current() -> Select[Instance]:
    """The instances in use: of each the latest version."""
    return select(Instance).where(Instance.replaced_at.is_(None))


def versions(study_uid: str, sop_uid: str) -> Select[Instance]:
    """The versions of an instance, the latest first; of a series that was dropped even the latest is no longer in use."""
    one = (Instance.study_uid == study_uid, Instance.sop_uid == sop_uid)
    return select(Instance).where(*one).order_by(Instance.version.desc())


def stored(row: Instance, archive: Archive) -> StoredInstance:
    """An instance, to be read."""
    return archive.instance(row.key, Digest(row.sha256, row.transfer_syntax_uid))


def was_replaced(tracker: Reader, study_uid: str, sop_uid: str, sha256: str) -> bool:
    """Whether that content of an instance was in use once, and no longer is."""
    with tracker.read() as session:
        rows = session.scalars(versions(study_uid, sop_uid).where(Instance.sha256 == sha256))
        return any(row.replaced_at is not None for row in rows)


def find(tracker: Reader, study_uid: str, sop_uid: str) -> Instance | None:
    """The instance of that SOP instance UID in that study."""
    with tracker.read() as session:
        one = current().where(Instance.study_uid == study_uid, Instance.sop_uid == sop_uid)
        return session.scalars(one).one_or_none()


def anywhere(tracker: Reader, sop_uid: str) -> list[Instance]:
    """The instances of that SOP instance UID in any study: a PACS may copy a study and keep the UIDs in it."""
    with tracker.read() as session:
        return list(session.scalars(current().where(Instance.sop_uid == sop_uid).order_by(Instance.study_uid)))


def of_study(tracker: Reader, archive: Archive, study_uid: str) -> dict[str, StoredInstance]:
    """The instances of a study, by SOP instance UID; NotFoundError when the study is unknown."""
    found = {row.sop_uid: stored(row, archive) for row in _of_study(tracker, study_uid)}
    if not found:
        raise NotFoundError(f"no instance of study {study_uid} was received")
    return found


def one_header_of_each_series(tracker: Reader, archive: Archive, study_uid: str) -> dict[str, "Dataset"]:
    """By series instance UID, the header of the first instance of the series that can be read."""
    found: dict[str, Dataset] = {}
    for row in _of_study(tracker, study_uid):
        if row.series_uid not in found:
            with suppress(LostError, DamagedFileError):
                found[row.series_uid] = stored(row, archive).read_header()
    return found


def named(tracker: Reader, contents: Mapping[str, str]) -> set[str]:
    """Of these keys, each with the SHA-256 of its content, those that a row has with that content."""
    names = [name for key in contents if isinstance(name := parse_key(key), InstanceName)]
    pairs = [(name.study_uid, name.sop_uid) for name in names]
    rows = select(Instance.key, Instance.sha256).where(tuple_(Instance.study_uid, Instance.sop_uid).in_(pairs))
    with tracker.read() as session:
        return {key for key, sha256 in session.execute(rows) if contents.get(key) == sha256}


def intact_by_series(tracker: Reader, archive: Archive, study_uid: str) -> Counter[str]:
    """How many instances of each series of a study are in use, there, and as they were kept. It reads all of them."""
    return Counter(row.series_uid for row in _of_study(tracker, study_uid) if stored(row, archive).is_intact())


def keys_of_study(tracker: Reader, study_uid: str) -> set[str]:
    """The keys of all versions of all instances of a study, in use or not."""
    with tracker.read() as session:
        return set(session.scalars(select(Instance.key).where(Instance.study_uid == study_uid)))


def _of_study(tracker: Reader, study_uid: str) -> list[Instance]:
    with tracker.read() as session:
        return list(session.scalars(current().where(Instance.study_uid == study_uid).order_by(Instance.key)))
