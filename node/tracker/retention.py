"""Which studies may be freed: those whose work has come to an end, longest ago first. What is in work, held, failed, kept by
somebody, or was never delivered stays, whatever the disk says."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, or_, select

from node.config.settings import StorageSettings
from node.errors import NotFoundError
from node.tracker.audit import Action, audit
from node.tracker.handle import Tracker
from node.tracker.instances import Reader
from node.tracker.states import FINISHED
from node.tracker.studies import StudyState
from node.tracker.tables import Job, Study

AT_AN_END = (StudyState.DELIVERED, StudyState.REFUSED)


@dataclass(frozen=True)
class Freeable:
    """A study that may be freed."""

    study_uid: str
    state: str
    size: int
    """Bytes of its instances as received; its results come on top."""
    last_received_at: datetime


def freeable(
    tracker: Reader, now: datetime, storage: StorageSettings, before: datetime | None = None
) -> Iterator[Freeable]:
    """The studies that may be freed, longest ago first; with `before` those last received before that."""
    ends: list[ColumnElement[bool]] = [Study.state.in_(AT_AN_END)]
    if storage.failed_retention_days is not None:
        long_ago = now - timedelta(days=storage.failed_retention_days)
        expired = Study.state.in_((StudyState.FAILED, StudyState.CANCELLED, StudyState.DONE))
        ends.append(expired & (Study.last_received_at < long_ago))
    unfinished = exists().where(Job.study_uid == Study.study_uid, Job.state.not_in(FINISHED))
    found = (
        select(Study)
        .where(
            or_(*ends),
            Study.purged_at.is_(None),
            Study.leftovers.is_(None),
            or_(Study.keep_until.is_(None), Study.keep_until <= now),
            ~unfinished,
        )
        .order_by(Study.last_received_at)
    )
    if before is not None:
        found = found.where(Study.last_received_at < before)
    with tracker.read() as session:
        for study in session.scalars(found.execution_options(yield_per=100)):
            yield Freeable(study.study_uid, study.state, study.size, study.last_received_at)


def keep(tracker: Tracker, study_uid: str, until: datetime | None, actor: str) -> None:
    """Have a study stay until then; None: as long as all others. NotFoundError when there is none."""
    with tracker.write() as session:
        study = session.get(Study, study_uid, with_for_update=True)
        if study is None or study.purged_at is not None:
            raise NotFoundError(f"no study {study_uid} is kept")
        study.keep_until = until
        details = {"act": "kept", "until": None if until is None else until.isoformat(timespec="seconds")}
        audit(tracker, Action.ADMINISTERED, actor, study_uid, details, session)
