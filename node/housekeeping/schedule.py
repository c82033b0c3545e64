"""Work that happens by the clock. APScheduler decides when; the tracker knows what is due."""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from node.archive.facade import Archive
from node.config.settings import StorageSettings
from node.errors import NodeError, StorageFullError
from node.housekeeping import retention
from node.tracker import blocked, duties, indexing, purge, queue
from node.tracker.clock import SteadyClock, rebase
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import Kind

log = structlog.get_logger()

RESCUE_EVERY_S = 10
DISK_EVERY_S = 60
LABELS_EVERY_S = 60


Task = Callable[[], object]


def schedule(
    tracker: Tracker,
    archive: Archive,
    index_patient: bool,
    unserved: Collection[Kind] = (),
    storage: StorageSettings | None = None,
) -> BackgroundScheduler:
    """The clock of housekeeping, not yet started. `storage` says how long studies are kept, None for ever. `unserved` are the
    kinds of jobs that the configuration has no worker for. Of several hosts with this role one does the work."""
    tasks: dict[str, tuple[Task, float]] = {
        "rescue": (lambda: free_jobs(tracker, unserved), RESCUE_EVERY_S),
        "purge": (lambda: purge.resume(tracker, archive), DISK_EVERY_S),
    }
    if storage is not None:
        tasks["retention"] = (lambda: retention.free(tracker, archive, storage), DISK_EVERY_S)
    if index_patient:
        tasks["labels"] = (lambda: indexing.add_labels(tracker, archive), LABELS_EVERY_S)
    alone = {name: (only_here(tracker, task), seconds) for name, (task, seconds) in tasks.items()}
    return clock(alone | {"disk": (lambda: watch_disk(archive), DISK_EVERY_S)})


def only_here(tracker: Tracker, task: Task) -> Task:
    """The task, as long as no other node does the housekeeping."""

    def run() -> None:
        if duties.take(tracker, duties.Name.HOUSEKEEPING):
            task()

    return run


def clock(tasks: Mapping[str, tuple[Task, float]], at_once: bool = False) -> BackgroundScheduler:
    """A clock for tasks, each with the seconds between two runs; not yet started. Its jobs live in memory and are the same
    at every start. With `at_once` each runs when the clock starts, else after its time."""
    scheduler = BackgroundScheduler(
        timezone="UTC", job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
    )
    first = {"next_run_time": datetime.now(UTC)} if at_once else {}
    for name, (task, seconds) in tasks.items():
        scheduler.add_job(_guarded(task), "interval", seconds=seconds, id=name, name=name, **first)
    return scheduler


def run_now(scheduler: BackgroundScheduler) -> None:
    """Run every task at once, and then after its time. The next runs of a clock do not follow when the host's clock is set
    back."""
    for job in scheduler.get_jobs():
        job.modify(next_run_time=datetime.now(UTC))


def follow_clock(database: Database, clock: SteadyClock, schedulers: Iterable[BackgroundScheduler]) -> None:
    """When somebody has set the host's clock, move along what work waits for, and then go by the new time. Where hosts share a
    database, the times there stay: only this host's clock has changed."""
    jump = clock.jump()
    if jump is None:
        return
    log.warning("clock.set", by_s=round(jump.total_seconds()), check="have the host's clock kept by NTP")
    if database.url.get_backend_name() == "sqlite":
        try:
            rebase(database, jump)
        except NodeError as error:  # the next look tries again
            log.error("clock.not_rebased", reason=str(error))
            return
    clock.adopt()
    for scheduler in schedulers:
        run_now(scheduler)


def free_jobs(tracker: Tracker, unserved: Collection[Kind]) -> None:
    """Free the jobs of workers that died, and bring to an end what waits and would wait for ever."""
    rescued = queue.rescue(tracker)
    if rescued:
        log.warning("jobs.rescued", count=rescued)
    unblocked = blocked.resolve(tracker, unserved)
    if unblocked:
        log.warning("jobs.unblocked", count=unblocked)


def watch_disk(archive: Archive) -> None:
    """Warn while there is still time to act."""
    try:
        archive.check_space()
    except StorageFullError as error:
        log.error("disk.below_reserve", reason=str(error))


def _guarded(task: Task) -> Callable[[], None]:
    def run() -> None:
        try:
            task()
        except NodeError as error:
            log.error("housekeep.failed", reason=str(error))

    return run
