"""Files of instances that no row names: a crash between the two left them, or a tracker was restored from an older backup. None
is lost: what can be read is entered; the rest was never acknowledged, and is removed. The log says so for each."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from node.archive.digest import data_set_starts, sha256
from node.archive.facade import Archive
from node.errors import LostError, NodeError
from node.tracker import arrivals, instances
from node.tracker.handle import Tracker

log = structlog.get_logger()


@dataclass
class Adopted:
    """What was done about files without a row."""

    entered: int = 0
    removed: int = 0


def adopt(
    archive: Archive,
    tracker: Tracker,
    enter: Callable[[bytes, str], str | None],
    before: datetime,
    stop: threading.Event | None = None,
) -> Adopted:
    """Enter or remove every file without a row that is older than `before`: a younger one may be getting its row just now.
    `enter` is that of `group_commit.recover`. Ends early when `stop` is set. StorageError, DatabaseError."""
    done = Adopted()
    for study_uid, keys in archive.instance_keys(before):
        if stop is not None and stop.is_set():
            break
        named = instances.keys_of_study(tracker, study_uid)
        for key in (key for key in keys if key not in named):
            problem = _problem(archive, tracker, enter, study_uid, key)
            if problem is None and key not in instances.keys_of_study(tracker, study_uid):
                problem = "its instance is kept under another key"
            if problem is None:
                done.entered += 1
                log.warning("adopt.entered", key=key)
            else:
                done.removed += 1
                archive.delete(key)
                log.warning("adopt.removed", key=key, reason=problem)
    return done


def _problem(
    archive: Archive, tracker: Tracker, enter: Callable[[bytes, str], str | None], study_uid: str, key: str
) -> str | None:
    """Why a file cannot be entered, in words; None once it is."""
    if arrivals.is_purged(tracker, study_uid):
        return "its study was purged"
    try:
        content = archive.content(key)
        return enter(content, sha256(memoryview(content)[data_set_starts(content) :]))
    except LostError:
        return "it is gone"
    except NodeError:
        raise
    except Exception as error:  # whatever a damaged file makes its readers raise
        return f"it cannot be read: {type(error).__name__}"
