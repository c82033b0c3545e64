"""Every precondition of the node, each in one place. `start` checks them before it begins, and so does everything else that
needs to know whether the node can work."""

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from node.archive.facade import Archive
from node.archive.layout import FOLDERS
from node.config.settings import Settings
from node.errors import ConfigError, NodeError
from node.infer.model import read_model
from node.tracker import identity, spool, status
from node.tracker.database import Database, parse_url, without_secrets

log = structlog.get_logger()

_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"})

LATE_AUDIT = timedelta(minutes=10)
"""Audit messages that have waited for longer are said to wait."""

_KEPT = (*FOLDERS, "incoming", "tracker.sqlite3", "tracker.sqlite3-wal", "node-id", "service-*.lock")
"""What the service makes in its data folder, and reads and writes."""

_START_DATABASE = "start the database, or correct [node] database_url"
_RESTORE = (
    "put a backup in its place: diffmsr-node db restore FILE; or make it from what is stored: diffmsr-node db rebuild"
)


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    """The node works, but an administrator should know this."""
    FAIL = "fail"
    """The node cannot work."""


@dataclass(frozen=True)
class Check:
    """The answer to one question."""

    name: str
    level: Level
    sentence: str
    """What was found."""
    fix: str | None = None
    """What to do about it; None when all is well."""
    closed: bool = False
    """Whether nothing is received because of it, though the node works."""
    failure: type[NodeError] = ConfigError
    """What `require` raises when the node cannot work."""

    @property
    def says(self) -> str:
        return self.sentence if self.fix is None else f"{self.sentence}; {self.fix}"


Question = Callable[[Settings], Check]


def data_folder(settings: Settings) -> Check:
    """The data folder exists, or can be made, and this user may write in it and in what the service has made there."""
    folder = settings.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".write-probe-"):
            pass
    except OSError as error:
        sentence = f"[node] data_dir: cannot make or write {folder}: {error.strerror}"
        return Check("data folder", Level.FAIL, sentence, "name a folder that the user of the service may write in")
    foreign = [p for pattern in _KEPT for p in folder.glob(pattern) if not os.access(p, os.R_OK | os.W_OK)]
    if foreign:
        sentence = f"[node] data_dir: this account may not read and write {foreign[0]}"
        return Check("data folder", Level.FAIL, sentence, "use the account of the service, or give it all files there")
    return Check("data folder", Level.OK, f"{folder} can be written")


def archive_place(settings: Settings) -> Check:
    """The archive, where it is not in the data folder, is there and can be written."""
    name, place = "archive", settings.storage.archive
    if place is None:
        return Check(name, Level.OK, "the archive is in the data folder")
    try:
        archive = Archive.of(settings)
        archive.check()
    except NodeError as error:
        fix = "correct [storage] archive, mount it, or see the credentials in the environment"
        return Check(name, Level.FAIL, str(error), fix, failure=type(error))
    return Check(name, Level.OK, f"{place} can be written")


def tracker_place(settings: Settings) -> Check:
    """SQLite is not on a network file system, whose locks it cannot rely on."""
    name = "tracker's place"
    try:
        backend = parse_url(settings.node.url).get_backend_name()
    except ConfigError as error:
        return Check(name, Level.FAIL, str(error), "correct it, or leave it out to use SQLite")
    if backend != "sqlite":
        return Check(name, Level.OK, "the tracker is a database server")
    mount, kind = _mount_of(settings.node.data_dir.resolve())
    if kind in _NETWORK_FILE_SYSTEMS:
        sentence = f"[node] data_dir {settings.node.data_dir} is on {mount} ({kind}), a network file system, where SQLite is not safe"
        return Check(name, Level.FAIL, sentence, "use a local disk, or set database_url to PostgreSQL")
    return Check(name, Level.OK, "the tracker is on a local disk")


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.node.url)
    try:
        yield database
    finally:
        database.dispose()


def tracker(settings: Settings) -> Check:
    """The database answers, and it is not of a later version."""
    try:
        with _database(settings) as database:
            current, expected = database.revision()
            known = database.knows(current)
    except NodeError as error:
        fix = _RESTORE if settings.node.url.startswith("sqlite") else _START_DATABASE
        return Check("tracker", Level.FAIL, str(error), fix, failure=type(error))
    if not known:
        sentence = f"the tracker is at schema {current}, and this version knows schemas up to {expected}"
        return Check("tracker", Level.FAIL, sentence, "start the version that it was upgraded with, or a later one")
    if current != expected:
        return Check("tracker", Level.OK, f"the tracker is at schema {current or 'none'}; start makes it {expected}")
    return Check("tracker", Level.OK, f"the tracker answers, at schema {current}")


def tracker_whole(settings: Settings) -> Check:
    """The tracker is the one that this data folder has worked with, and SQLite finds no damage in it. It reads all of it."""
    name = "tracker's content"
    fix = _RESTORE
    try:
        with _database(settings) as database:
            problem = database.problem()
            expected = identity.remembered(settings.node.data_dir)
            found = identity.of(database) if problem is None else None
    except NodeError as error:
        return Check(name, Level.FAIL, str(error), fix, failure=type(error))
    except OSError as error:
        sentence = f"[node] data_dir: cannot read {error.filename}: {error.strerror}"
        return Check(name, Level.FAIL, sentence, "use the account of the service")
    if problem is not None:
        sentence = f"the tracker at {without_secrets(database.url)} cannot be used: {problem}"
        return Check(name, Level.FAIL, sentence, fix)
    if expected is not None and found != expected:
        what = "is empty" if found is None else "is another one"
        sentence = f"the tracker at {without_secrets(database.url)} {what}: this data folder has worked with tracker {expected}"
        return Check(name, Level.FAIL, sentence, fix)
    return Check(name, Level.OK, "the tracker is whole")


def model(settings: Settings) -> Check:
    """The manifest of the weights can be used."""
    try:
        manifest = read_model(settings.model)
    except NodeError as error:
        return Check(
            "model",
            Level.FAIL,
            str(error),
            "correct [model] path, or leave it out to use the weights that come with the package",
        )
    return Check("model", Level.OK, f"{manifest.name} {manifest.version}")


def destinations(settings: Settings) -> Check:
    """There is somewhere to send results to."""
    if not settings.destinations:
        sentence = "no [[destinations]] are configured: results stay on this machine"
        return Check("destinations", Level.WARN, sentence, "add the PACS as [[destinations]]")
    return Check("destinations", Level.OK, ", ".join(d.name for d in settings.destinations))


def hosts(settings: Settings) -> Check:
    """The name of every peer resolves to an address."""
    name = "host names"
    peers = [(f"[[sources]] {s.name}", s.host) for s in settings.sources]
    peers += [
        (f"[[destinations]] {d.name}", urlsplit(d.url).hostname if d.url else d.host) for d in settings.destinations
    ]
    peers += [("[fetch]", settings.fetch.host)] if settings.fetch else []
    peers += [("[audit]", settings.audit.host)] if settings.audit else []
    unknown = [f"{host} of {entry}" for entry, host in peers if host and not _resolves(host)]
    if unknown:
        fix = "correct host there, or see whether the name server of this machine answers"
        return Check(name, Level.WARN, f"cannot find the address of {', '.join(unknown)}", fix)
    return Check(name, Level.OK, "every host name has an address")


def _resolves(host: str) -> bool:
    with suppress(OSError, UnicodeError):
        return bool(socket.getaddrinfo(host, None))
    return False


def disk_space(settings: Settings) -> Check:
    """The disk has more than its reserve left."""
    folder = settings.archive_folder or settings.node.data_dir
    # Before the first start the folder is missing, yet its disk is known.
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        return Check("disk space", Level.FAIL, f"cannot look at {error.filename}: {error.strerror}", "check the disk")
    reserve = settings.storage.reserve_gb
    if free < reserve:
        sentence = f"{free:.1f} GB left under {folder}, below [storage] reserve_gb = {reserve:g}: nothing is received"
        return Check("disk space", Level.WARN, sentence, "free some space, or lower the reserve", closed=True)
    return Check("disk space", Level.OK, f"{free:.1f} GB left")


def blocked_work(settings: Settings) -> Check:
    """Every job that is due has a worker that takes it."""
    name = "blocked work"
    try:
        with _database(settings) as database:
            current, expected = database.revision()
            found = status.blocked_jobs(database, settings) if current == expected else []
    except NodeError as error:
        return Check(name, Level.FAIL, str(error), _START_DATABASE, failure=type(error))
    first = next((job for job in found if job.advice is not None), None)
    if first is None:
        sentence = f"{len(found)} jobs wait for what is to come" if found else "every job that is due has a worker"
        return Check(name, Level.OK, sentence)
    sentence = f"{len(found)} jobs are due and cannot begin; {first.kind} job {first.id}: {first.why}"
    return Check(name, Level.WARN, sentence, first.advice)


def audit_messages(settings: Settings) -> Check:
    """The collector of audit messages has what it is to have."""
    name = "audit messages"
    if settings.audit is None:
        return Check(name, Level.OK, "no collector is configured: the audit trail stays in the tracker")
    try:
        with _database(settings) as database:
            current, expected = database.revision()
            found = spool.backlog(database) if current == expected else spool.Backlog(0, None)
    except NodeError as error:
        return Check(name, Level.FAIL, str(error), _START_DATABASE, failure=type(error))
    collector = settings.audit.entry
    if found.since is not None and datetime.now(UTC) - found.since > LATE_AUDIT:
        sentence = f"{found.rows} audit messages wait for {collector}, since {found.since:%Y-%m-%d %H:%M} UTC"
        return Check(name, Level.WARN, sentence, "see whether it runs, and audit.not_sent in the log; nothing is lost")
    return Check(name, Level.OK, f"{found.rows} wait for {collector}")


def archive_owner(settings: Settings) -> Check:
    """The archive that hosts share is the one of this tracker."""
    name = "archive's tracker"
    if settings.storage.archive is None:
        return Check(name, Level.OK, "the archive is in the data folder")
    try:
        with _database(settings) as database:
            current, expected = database.revision()
            problem = identity.problem_with(Archive.of(settings), database) if current == expected else None
    except NodeError as error:
        return Check(name, Level.FAIL, str(error), "see whether it is mounted here", failure=type(error))
    if problem is not None:
        fix = "mount the archive that the other hosts use, or correct [storage] archive or [node] database_url"
        return Check(name, Level.FAIL, f"[storage] archive {settings.storage.archive}: {problem}", fix)
    return Check(name, Level.OK, f"{settings.storage.archive} belongs to this tracker")


PRECONDITIONS: tuple[Question, ...] = (
    data_folder,
    archive_place,
    tracker_place,
    tracker,
    model,
    destinations,
    disk_space,
    blocked_work,
    audit_messages,
)
"""In this order, because a later question relies on the answer to an earlier one."""


TO_START: tuple[Question, ...] = (*PRECONDITIONS, tracker_whole, archive_owner)
"""What a start asks, and the doctor: with what takes too long to be asked again and again."""


def run(settings: Settings, questions: Iterable[Question] = PRECONDITIONS) -> list[Check]:
    """The answers to the questions, up to the first with which the node cannot work."""
    answers = []
    for question in questions:
        answers.append(question(settings))
        if answers[-1].level is Level.FAIL:
            break
    return answers


class Standing:
    """The preconditions that fail at the moment, for callers that ask often: they are checked once every few seconds."""

    def __init__(self, settings: Settings, every_s: float = 5) -> None:
        self._settings, self._every_s = settings, every_s
        self._asked_at = -float("inf")
        self._failing: list[str] = []
        self._guard = threading.Lock()

    def failing(self) -> list[str]:
        """The names of the preconditions that fail, so that the node cannot work, or receives nothing."""
        with self._guard:
            if time.monotonic() - self._asked_at > self._every_s:
                self._failing = [a.name for a in run(self._settings) if a.level is Level.FAIL or a.closed]
                self._asked_at = time.monotonic()
            return self._failing


def require(answers: Iterable[Check]) -> None:
    """Log every warning. Raises the failure of the first answer with which the node cannot work."""
    for answer in answers:
        if answer.level is Level.FAIL:
            raise answer.failure(answer.says)
        if answer.level is Level.WARN:
            log.warning("check.warned", check=answer.name, reason=answer.says)


def _mount_of(folder: Path) -> tuple[str, str]:
    """(mount point, kind of file system) of a folder; empty where the system does not tell."""
    best = ("", "")
    mounts = Path("/proc/mounts")
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        _, mount, kind, *_ = line.split()
        if folder.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best
