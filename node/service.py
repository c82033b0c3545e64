"""The composition root: which roles run in this process, how they start, how they stop."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

import sdnotify
import structlog

from node import __version__
from node.archive.facade import Archive
from node.config.settings import Settings
from node.deliver.worker import make_deliver_handler
from node.derived.worker import make_derive_handler
from node.errors import ConfigError, NodeError
from node.housekeeping.schedule import schedule
from node.match.worker import make_match_handler
from node.receive.commitment_scp import Commitments
from node.receive.fetch import make_fetch_handler
from node.receive.server import Receiver
from node.receive.store import Store
from node.tracker import queue
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import Kind
from node.tracker.worker import Handler, run_worker
from node.weights import model_facts, pixel_settings

log = structlog.get_logger()

DRAIN_S = 25
"""How long a stop waits for what is in hand, all of it together; systemd's own patience is 90 s."""


class Role(StrEnum):
    RECEIVE = "receive"
    MATCH = "match"
    INFER = "infer"
    DELIVER = "deliver"
    HOUSEKEEP = "housekeep"


class Service:
    """The roles of one process, sharing one tracker and one archive."""

    def __init__(self, settings: Settings, config_path: Path, roles: list[Role]) -> None:
        self._settings = settings
        self._config_path = config_path
        self._roles = roles
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._stops: list[Callable[[], None]] = []

    def run(self) -> None:
        """Start everything, wait for SIGTERM or SIGINT, drain, return. NodeError when something cannot start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        settings = self._settings
        refuse_network_filesystem(settings)
        archive = Archive(settings.node.data_dir, settings.storage.reserve_gb)
        with only_one(settings.node.data_dir, self._roles):
            database = Database(settings.node.url)
            database.upgrade()
            tracker = Tracker(database)
            self._recover(tracker, archive)
            try:
                self._start(tracker, archive)
                sdnotify.SystemdNotifier().notify("READY=1")
                log.info("service.ready", version=__version__, roles=self._roles)
                self._stopping.wait()
                log.info("service.stopping")
                sdnotify.SystemdNotifier().notify("STOPPING=1")
            finally:
                self._stopping.set()
                tracker.wakeups.wake(*Kind)
                self._deadline = time.monotonic() + DRAIN_S
                for stop in reversed(self._stops):
                    stop()
                database.dispose()
        log.info("service.stopped")

    def _recover(self, tracker: Tracker, archive: Archive) -> None:
        """What a crash left: half-written files of instances never acknowledged, and jobs whose workers are gone.

        The lock of `only_one` is ours, so every worker of these roles on this host is dead.
        """
        mine = tuple(f"{socket.gethostname()}/{role}/" for role in self._roles)
        rescued = queue.rescue(tracker, dead=lambda worker: worker.startswith(mine), actor="start")
        discarded = archive.discard_incoming() if Role.RECEIVE in self._roles else 0
        if rescued or discarded:
            log.warning("service.recovered", jobs=rescued, unfinished_files=discarded)

    def _start(self, tracker: Tracker, archive: Archive) -> None:
        settings = self._settings
        facts, pixels = model_facts(settings), pixel_settings(settings)
        if Role.DELIVER in self._roles:
            self._thread(tracker, Kind.DELIVER, Role.DELIVER, make_deliver_handler(tracker, archive, settings))
            self._thread(tracker, Kind.DERIVE, Role.DELIVER, make_derive_handler(tracker, archive, settings))
        if Role.INFER in self._roles:
            self._supervise_infer()
        if Role.MATCH in self._roles:
            fetch_attempts = settings.fetch.max_attempts if settings.fetch else None
            work = make_match_handler(
                tracker, settings.completion, settings.match, facts, pixels, settings.model.max_attempts, fetch_attempts
            )
            self._thread(tracker, Kind.MATCH, Role.MATCH, work)
        if Role.HOUSEKEEP in self._roles:
            scheduler = schedule(tracker, archive)
            scheduler.start()
            self._stops.append(scheduler.shutdown)
        if not settings.destinations:
            log.warning("service.no_destination", reason="results stay here: no [[destinations]] is configured")
        if Role.RECEIVE in self._roles:
            store = Store(archive, tracker, settings.completion.series_quiet_s)
            commitments = Commitments(tracker, settings.sources, settings.scp.ae_title)
            answering = [d.ae_title for d in settings.destinations if d.commitment]
            if settings.fetch:
                answering.append(settings.fetch.ae_title)
            receiver = Receiver(settings.scp, settings.sources, store, commitments, answering)
            receiver.start()
            self._stops.append(receiver.stop)
            self._thread(tracker, Kind.COMMIT, Role.RECEIVE, commitments.report)
            if settings.fetch:
                self._thread(
                    tracker, Kind.FETCH, Role.RECEIVE, make_fetch_handler(tracker, store, settings.fetch, settings)
                )

    def _thread(self, tracker: Tracker, kind: Kind, role: Role, work: Handler) -> None:
        worker = f"{socket.gethostname()}/{role}/{os.getpid()}"
        thread = threading.Thread(
            target=run_worker, args=(tracker, kind, worker, work, self._stopping), name=role, daemon=True
        )
        thread.start()
        self._stops.append(lambda: thread.join(self._patience_s()))

    def _patience_s(self) -> float:
        """What is left of the time that a stop gives to all there is, not to each in turn."""
        return max(0.0, self._deadline - time.monotonic())

    def _supervise_infer(self) -> None:
        """Keep one infer worker process alive; a crash is logged and answered with a new one, ever more slowly."""
        command = [sys.executable, "-m", "node.infer.worker", str(self._config_path)]

        def supervise() -> None:
            pause_s = 1.0
            while not self._stopping.is_set():
                started = time.monotonic()
                ended = self._infer(command)
                if self._stopping.is_set():
                    return
                pause_s = 1.0 if time.monotonic() - started > 60 else min(60.0, pause_s * 2)
                log.error("infer.died", ended=ended, restart_in_s=pause_s)
                self._stopping.wait(pause_s)

        thread = threading.Thread(target=supervise, name=Role.INFER, daemon=True)
        thread.start()
        self._stops.append(lambda: thread.join(self._patience_s() + 5))

    def _infer(self, command: list[str]) -> str:
        """Run a worker until it ends or the service stops; how it ended."""
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        while process.poll() is None and not self._stopping.wait(0.2):
            pass
        if self._stopping.is_set():
            _let_finish(process)
        return f"exit code {process.returncode}"


def _let_finish(process: "subprocess.Popen[str]") -> None:
    """Ask the worker to finish its job; when that takes too long its job is simply done again later."""
    assert process.stdin is not None
    try:
        process.stdin.write("finish\n")
        process.stdin.flush()
        process.wait(DRAIN_S)
    except (OSError, subprocess.TimeoutExpired):
        process.kill()
    finally:
        process.wait()


# ---------------------------------------------------------------------- one service a data folder


def _lock_path(data_dir: Path, role: Role) -> Path:
    return data_dir / f"service-{role}-{socket.gethostname()}.lock"


@contextmanager
def only_one(data_dir: Path, roles: list[Role]) -> Iterator[None]:
    """Hold this host's lock of every role on this data folder; NodeError when another service has one."""
    held: list[TextIO] = []
    try:
        for role in roles:
            file = _lock_path(data_dir, role).open("a+")
            held.append(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise NodeError(
                    f"the role {role} is already running on {data_dir} ({file.read().strip() or 'starting'}); "
                    "stop that service first, or give this one another [node] data_dir"
                ) from None
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}))
            file.flush()
        yield
    finally:
        for lock in held:
            lock.close()


def running_roles(data_dir: Path) -> dict[str, dict[str, Any]]:
    """The roles running on this host for that data folder, each with its process and since when."""
    running: dict[str, dict[str, Any]] = {}
    for role in Role:
        try:
            with _lock_path(data_dir, role).open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    running[role] = json.loads(lock.read() or "{}")
        except FileNotFoundError:
            continue
    return running


def refuse_network_filesystem(settings: Settings) -> None:
    """SQLite's locks are not to be trusted on a network file system: ConfigError there."""
    if not settings.node.url.startswith("sqlite"):
        return
    folder = settings.node.data_dir.resolve()
    best: tuple[int, str, str] = (0, "", "")
    for line in Path("/proc/mounts").read_text().splitlines() if Path("/proc/mounts").exists() else []:
        _, mount, kind, *_ = line.split()
        if folder.is_relative_to(mount) and len(mount) >= best[0]:
            best = (len(mount), mount, kind)
    if best[2] in {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"}:
        raise ConfigError(
            f"[node] data_dir {folder} is on {best[1]} ({best[2]}), a network file system, where SQLite is not safe; "
            "use a local disk, or set database_url to PostgreSQL"
        )
