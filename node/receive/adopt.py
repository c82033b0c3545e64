"""Files of instances that no row names: a crash between the two left them, or a tracker was restored from an older backup. None
is lost: what can be read is entered; the rest was never acknowledged, and is removed. The log says so for each study, and for each file that is removed."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from node.archive.digest import data_set_starts, sha256
from node.archive.facade import Archive
from node.errors import LostError, NodeError, StorageError
from node.tracker import arrivals, instances
from node.tracker.handle import Tracker

log = structlog.get_logger()


OTHERS_WRITE_FOR = timedelta(minutes=10)
"""So young files of an archive that hosts share may be without a row because another host is just entering them."""
_MARK = "receiving"


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
    progress: Callable[[int], None] = lambda done: None,
) -> Adopted:
    """Enter or remove every file without a row that is older than `before`: a younger one may be getting its row just now.
    `enter` is that of `group_commit.recover`. Ends early when `stop` is set. `progress` hears how many files were looked
    at. StorageError, DatabaseError."""
    done, seen = Adopted(), 0
    for study_uid, keys in archive.instance_keys(before):
        if stop is not None and stop.is_set():
            break
        named = instances.keys_of_study(tracker, study_uid)
        entered_before = done.entered
        for key in keys:
            seen += 1
            progress(seen)
            if key in named:
                continue
            problem = _problem(archive, tracker, enter, study_uid, key)
            if problem is None and key not in instances.keys_of_study(tracker, study_uid):
                problem = "its instance is kept under another key"
            if problem is None:
                done.entered += 1
                log.debug("adopt.entered", key=key)
            else:
                done.removed += 1
                archive.delete(key)
                log.warning("adopt.removed", key=key, reason=problem)
        if done.entered > entered_before:
            log.info("adopt.study", study=study_uid, entered=done.entered - entered_before)
    return done


def mark(data_dir: Path) -> bool:
    """Note that files may be without rows from now on; whether that was noted before. StorageError."""
    path = data_dir / _MARK
    marked = path.exists()
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    return marked


class Adoption:
    """Adopts what the last receiver of a node has left, if that has not ended in order. It takes as long as the archive is
    large, so it happens beside the work."""

    def __init__(self, data_dir: Path, shared: bool) -> None:
        """`shared`: other hosts may write to the archive."""
        self._data_dir, self._shared = data_dir, shared
        self._stopping, self._all_have_rows = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, archive: Archive, tracker: Tracker, enter: Callable[[bytes, str], str | None]) -> None:
        """Begin, before anything is received."""
        if not mark(self._data_dir):
            self._all_have_rows.set()
            return
        now = tracker.clock()
        before = now - OTHERS_WRITE_FOR if self._shared else now

        def adopt_all() -> None:
            try:
                found = adopt(archive, tracker, enter, before, self._stopping)
            except NodeError as error:
                log.error("adopt.failed", reason=str(error))
                return
            if not self._stopping.is_set():
                self._all_have_rows.set()
                log.info("adopt.ended", entered=found.entered, removed=found.removed)

        self._thread = threading.Thread(target=adopt_all, name="adopt", daemon=True)
        self._thread.start()

    def stop(self, patience_s: float) -> None:
        """End early; the next start begins again."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(patience_s)

    def end(self) -> None:
        """Nothing is received any more, and what was kept has its row."""
        if self._all_have_rows.is_set():
            (self._data_dir / _MARK).unlink(missing_ok=True)


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
