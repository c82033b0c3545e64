"""One infer worker process per device, kept alive: a fault of the GPU costs one attempt of one job, never the service.

The service tells a worker on its standard input, line by line: "work" when a job was enqueued, "finish" when it is to end
after its job. The end of the input means that the service is gone. A worker tells the service on its standard output, with
the name of a kind of job, that it has enqueued one; and "alive", every few seconds while it waits for work, and after each
batch while it has some. One that says nothing for `stall_s` hangs, in its computation or as a process, and is replaced. One that
has said nothing yet is still loading its model, and has no job; it may take LOADING_S, however short `stall_s` is.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from node.errors import ModelError, NodeError
from node.identity import worker_name
from node.roles import Role
from node.tracker import queue
from node.tracker.handle import Tracker
from node.tracker.states import Kind

log = structlog.get_logger()

WORK, FINISH, ALIVE = "work", "finish", "alive"
LOADING_S = 300.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Before a worker that died is started again: doubling while it dies within a minute of its start."""


def devices(configured: Sequence[str]) -> tuple[str, ...]:
    """The devices to start a worker for. "all" asks a process that knows the machine; ModelError when that fails."""
    if tuple(configured) != ("all",):
        return tuple(configured)
    asked = subprocess.run([sys.executable, "-m", "node.infer.devices"], capture_output=True, text=True, check=False)
    found = tuple(asked.stdout.split())
    if asked.returncode or not found:
        raise ModelError('[model] device = "all": the devices of this machine cannot be found; name them')
    return found


class Supervisor:
    """The infer workers of a service."""

    def __init__(
        self,
        tracker: Tracker,
        data_dir: Path,
        command: Sequence[str],
        devices: Sequence[str],
        stopping: threading.Event,
        stall_s: float = 600,
    ) -> None:
        """`command` starts a worker; the name of its device is appended. The caller that sets `stopping` then wakes the
        workers of `tracker`, and calls `stop`."""
        self._stall_s = stall_s
        self._tracker, self._data_dir = tracker, data_dir
        self._command, self._devices = list(command), list(devices)
        self._stopping = stopping
        self._guard = threading.Lock()
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._ready: set[int] = set()
        """The processes that have said something."""
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._tracker.wakeups.listen(self._pass_on)
        for device in self._devices:
            thread = threading.Thread(target=self._keep_alive, args=(device,), name=f"infer-{device}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, patience_s: float) -> None:
        """Wait until each worker has finished its job, as it was told when the others were woken. One that takes longer than
        `patience_s` is killed, and its job done again; one that is still loading has none, and is killed at once."""
        deadline = time.monotonic() + patience_s
        with self._guard:
            workers = list(self._workers.values())
            loading = [worker for worker in workers if worker.pid not in self._ready]
        for worker in loading:
            worker.kill()
        for worker in workers:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
        for thread in self._threads:
            thread.join()

    def pids(self) -> dict[str, int]:
        """The process of each device that has one now."""
        with self._guard:
            return {device: worker.pid for device, worker in self._workers.items()}

    def _pass_on(self, kind: Kind) -> None:
        if kind is Kind.INFER:
            with self._guard:
                workers = list(self._workers.values())
            for worker in workers:
                _tell(worker, FINISH if self._stopping.is_set() else WORK)

    def _keep_alive(self, device: str) -> None:
        pause_s = SHORTEST_PAUSE_S / 2
        while not self._stopping.is_set():
            started = time.monotonic()
            reason = self._run(device)
            if self._stopping.is_set():
                return
            lived_s = time.monotonic() - started
            pause_s = SHORTEST_PAUSE_S if lived_s > LONGEST_PAUSE_S else min(LONGEST_PAUSE_S, pause_s * 2)
            log.error("infer.died", device=device, reason=reason, restart_in_s=pause_s)
            self._stopping.wait(pause_s)

    def _run(self, device: str) -> str:
        """Run a worker until it ends; how it ended, in words."""
        try:
            with self._guard:
                if self._stopping.is_set():
                    return "the service is stopping"
                worker = subprocess.Popen(
                    [*self._command, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                assert worker.stdin is not None
                os.set_blocking(worker.stdin.fileno(), False)
                self._workers[device] = worker
        except OSError as error:
            return f"it cannot be started: {error.strerror}"
        watchdog = Watchdog(worker, self._stall_s)
        self._listen(worker, watchdog)
        code = worker.wait()
        watchdog.end()
        with self._guard:
            del self._workers[device]
            self._ready.discard(worker.pid)
        self._free_job_of(worker.pid)
        return f"no sign of life for {watchdog.patience_s:g} s" if watchdog.has_bitten else f"exit code {code}"

    def _listen(self, worker: "subprocess.Popen[str]", watchdog: "Watchdog") -> None:
        """Wake the workers of this process for what the infer worker enqueues, until it ends."""
        known = {kind.value: kind for kind in Kind}
        assert worker.stdout is not None
        for line in worker.stdout:
            watchdog.heard()
            with self._guard:
                self._ready.add(worker.pid)
            if line.strip() in known:
                self._tracker.wakeups.wake(known[line.strip()])

    def _free_job_of(self, pid: int) -> None:
        """A job that died with its worker need not wait until its lease runs out."""
        dead = worker_name(self._data_dir, Role.INFER, pid)
        try:
            if queue.rescue(self._tracker, dead=lambda worker: worker == dead, actor="supervisor"):
                log.warning("job.rescued", worker=dead)
        except NodeError as error:  # housekeeping does it later
            log.warning("rescue.failed", reason=str(error))


class Watchdog:
    """Kills a process that says nothing for `stall_s` seconds, or at first for LOADING_S, if that is longer."""

    def __init__(self, process: "subprocess.Popen[str]", stall_s: float) -> None:
        self.has_bitten = False
        self._process, self._stall_s = process, stall_s
        self.patience_s = max(stall_s, LOADING_S)
        """How long it waits for the next word."""
        self._said_something = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._watch, name=f"watchdog-{process.pid}", daemon=True)
        self._thread.start()

    def heard(self) -> None:
        """The process has said something."""
        self._said_something.set()

    def end(self) -> None:
        """The process has ended."""
        self._over = True
        self._said_something.set()
        self._thread.join()

    def _watch(self) -> None:
        while self._said_something.wait(self.patience_s):
            if self._over:
                return
            self.patience_s = self._stall_s
            self._said_something.clear()
        self.has_bitten = True
        self._process.kill()  # which ends a stopped process, too


def _tell(worker: "subprocess.Popen[str]", word: str) -> None:
    assert worker.stdin is not None
    # It has just died, and is started again; or it does not read what it was told before, which says the same.
    with suppress(OSError, ValueError):
        os.write(worker.stdin.fileno(), f"{word}\n".encode())
