"""Frees the space of studies that are done with, by age and by how full the disk is. A row of each study stays, and says when
that was."""

import itertools
from collections.abc import Iterator
from datetime import timedelta

import structlog

from node.archive.facade import Archive
from node.config.settings import StorageSettings
from node.errors import TransitionError
from node.tracker.handle import Tracker
from node.tracker.purge import purge
from node.tracker.retention import Freeable, freeable

log = structlog.get_logger()

AT_A_TIME = 100
"""Studies freed in one go; the next is a minute later."""
BELOW_PERCENT = 2.0
"""So far below the watermark the disk is brought, so that not every new study frees an old one."""


def due(tracker: Tracker, archive: Archive, storage: StorageSettings) -> Iterator[Freeable]:
    """What is to be freed now, longest ago first: older than `retention_days`, or as much as brings the disk below
    `watermark_percent`. What results take is not counted, so a little more may go than is needed."""
    now = tracker.clock()
    by_age: list[Freeable] = []
    if storage.retention_days is not None:
        by_age = list(freeable(tracker, now, storage, now - timedelta(days=storage.retention_days)))
        yield from by_age
    usage = archive.usage()
    if storage.watermark_percent is None or usage is None:
        return
    used, total = usage
    if used <= total * storage.watermark_percent / 100:
        return
    too_much = used - total * max(0.0, storage.watermark_percent - BELOW_PERCENT) / 100 - sum(f.size for f in by_age)
    gone = {found.study_uid for found in by_age}
    for found in freeable(tracker, now, storage):
        if too_much <= 0:
            return
        if found.study_uid not in gone:
            too_much -= found.size
            yield found


def free(tracker: Tracker, archive: Archive, storage: StorageSettings, actor: str = "housekeep") -> list[Freeable]:
    """Free what is due, at most AT_A_TIME studies; which they were. StorageError, DatabaseError."""
    freed = []
    for found in list(itertools.islice(due(tracker, archive, storage), AT_A_TIME)):
        try:
            purge(tracker, archive, found.study_uid, actor, unless_received_after=found.last_received_at)
        except TransitionError as error:  # it was taken up again just now
            log.info("retention.passed_over", study=found.study_uid, reason=str(error))
            continue
        log.info("retention.freed", study=found.study_uid, bytes=found.size, state=found.state)
        freed.append(found)
    return freed
