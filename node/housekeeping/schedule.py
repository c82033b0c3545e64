"""Work that happens by the clock. APScheduler decides when; the tracker knows what is due."""

from collections.abc import Callable

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from node.archive.facade import Archive
from node.errors import NodeError, StorageFullError
from node.tracker import indexing, purge, queue
from node.tracker.handle import Tracker

log = structlog.get_logger()

RESCUE_EVERY_S = 5
DISK_EVERY_S = 60
LABELS_EVERY_S = 10


def schedule(tracker: Tracker, archive: Archive, index_patient: bool) -> BackgroundScheduler:
    """The clock, not yet started: its jobs live in memory and are the same at every start."""
    scheduler = BackgroundScheduler(
        timezone="UTC", job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
    )
    scheduler.add_job(_guarded(lambda: rescue(tracker)), "interval", seconds=RESCUE_EVERY_S, id="rescue")
    scheduler.add_job(_guarded(lambda: watch_disk(archive)), "interval", seconds=DISK_EVERY_S, id="disk")
    scheduler.add_job(_guarded(lambda: purge.resume(tracker, archive)), "interval", seconds=DISK_EVERY_S, id="purge")
    if index_patient:
        labels = _guarded(lambda: indexing.add_labels(tracker, archive))
        scheduler.add_job(labels, "interval", seconds=LABELS_EVERY_S, id="labels")
    return scheduler


def rescue(tracker: Tracker) -> None:
    """Free the jobs of workers that died."""
    count = queue.rescue(tracker)
    if count:
        log.warning("jobs.rescued", count=count)


def watch_disk(archive: Archive) -> None:
    """Warn while there is still time to act."""
    try:
        archive.check_space()
    except StorageFullError as error:
        log.error("disk.below_reserve", reason=str(error))


def _guarded(task: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            task()
        except NodeError as error:
            log.error("housekeep.failed", reason=str(error))

    return run
