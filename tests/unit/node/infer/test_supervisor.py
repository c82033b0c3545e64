"""Infer workers kept alive. The worker here is a small program that says what it was told; the real one is started by the
acceptance tests."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.identity import worker_name
from node.infer import supervisor as supervision
from node.infer.supervisor import Supervisor, devices
from node.tracker import queue, views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import NewJob
from node.tracker.states import Kind, State
from tests.waiting import until

WORKER = """
import os, sys, threading, time
folder, device = sys.argv[1:]
def live():
    while True:
        os.write(1, b"alive\\n")
        time.sleep(0.05)
if device == "lively":
    threading.Thread(target=live, daemon=True).start()
def say(text):
    with open(f"{folder}/{device}", "a") as file:
        file.write(text + "\\n")
say(f"started {os.getpid()}")
if device == "loading":
    time.sleep(10**6)
if device == "slow":
    time.sleep(1)
print("alive", flush=True)
for line in sys.stdin:
    say(line.strip())
    if line.strip() == "work":
        print("nonsense")
        print("derive", flush=True)
    if line.strip() == "finish" and device != "stubborn":
        sys.exit(0)
"""


class Site:
    def __init__(self, folder: Path, *names: str, stall_s: float = 600) -> None:
        self.folder = folder
        (folder / "said").mkdir()
        (folder / "worker.py").write_text(WORKER)
        self.database = Database(f"sqlite:///{folder / 'tracker.sqlite3'}")
        self.database.upgrade()
        self.tracker, self.stopping = Tracker(self.database), threading.Event()
        command = [sys.executable, str(folder / "worker.py"), str(folder / "said")]
        self.supervisor = Supervisor(self.tracker, folder, command, names, self.stopping, stall_s)
        self.supervisor.start()
        for name in names:
            until(lambda name=name: self.said(name), f"worker of {name} runs")

    def said(self, device: str) -> list[str]:
        path = self.folder / "said" / device
        return path.read_text().splitlines() if path.exists() else []

    def stop(self, patience_s: float = 300) -> None:
        self.stopping.set()
        self.tracker.wakeups.wake(*Kind)
        self.supervisor.stop(patience_s)

    def ask(self, number: int = 1) -> None:
        queue.enqueue(self.tracker, NewJob(Kind.INFER, f"infer:{number}", "1.2", {}, 3), "test")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(supervision, "SHORTEST_PAUSE_S", 0.02)
    made: list[Site] = []

    def start(*names: str, **options: float) -> Site:
        made.append(Site(tmp_path, *names, **options))
        return made[-1]

    yield start
    for each in made:
        each.stop(patience_s=0)
        each.database.dispose()


def test_one_worker_per_device_each_told_when_there_is_work(site: Any) -> None:
    running = site("cuda:0", "cuda:1")
    seen = running.tracker.wakeups.count(Kind.DERIVE)
    running.ask()
    until(lambda: all("work" in running.said(name) for name in ("cuda:0", "cuda:1")), "both are told")
    until(lambda: running.tracker.wakeups.count(Kind.DERIVE) == seen + 2, "what they enqueue wakes this process")
    assert set(running.supervisor.pids()) == {"cuda:0", "cuda:1"}


def test_a_worker_that_dies_is_replaced_and_its_job_is_free_at_once(site: Any) -> None:
    running = site("cpu")
    running.ask()
    pid = running.supervisor.pids()["cpu"]
    queue.claim(running.tracker, Kind.INFER, worker_name(running.folder, "infer", pid))
    os.kill(pid, signal.SIGKILL)
    until(lambda: len([line for line in running.said("cpu") if "started" in line]) == 2, "another one runs")
    assert running.supervisor.pids()["cpu"] != pid
    (job,) = views.jobs(running.database)
    assert (job.state, job.attempts) == (State.READY, 0), "the attempt does not count"


def test_a_worker_that_hangs_is_replaced_and_its_job_is_free(site: Any) -> None:
    """It lives, and is stopped as by a debugger: its process is there and says nothing more."""
    running = site("lively", stall_s=2)
    until(lambda: running.supervisor._ready, "it is ready")
    running.ask()
    pid = running.supervisor.pids()["lively"]
    queue.claim(running.tracker, Kind.INFER, worker_name(running.folder, "infer", pid))
    os.kill(pid, signal.SIGSTOP)
    until(lambda: running.supervisor.pids().get("lively", pid) != pid, "another one runs")
    (job,) = views.jobs(running.database)
    assert (job.state, job.attempts) == (State.READY, 0)


def test_a_worker_may_load_its_model_for_longer_than_it_may_be_silent(site: Any) -> None:
    """On a machine under load it would be killed again and again, and no job ever done."""
    running = site("slow", stall_s=0.2)
    until(lambda: running.supervisor._ready, "it is ready")
    assert len(running.said("slow")) == 1, "it was not started again before"


def test_a_stop_lets_workers_finish(site: Any) -> None:
    running = site("cpu")
    until(lambda: running.supervisor._ready, "it is ready")
    running.stop()
    assert running.said("cpu")[-1] == "finish"
    assert running.supervisor.pids() == {}
    assert len(running.said("cpu")) == 2, "it was not started again"


def test_a_stop_does_not_wait_for_a_worker_that_is_still_loading(site: Any) -> None:
    """Loading a model takes half a minute on a slow machine, and the service used up its time to stop for that."""
    running = site("loading")
    running.stop(patience_s=10**6)
    assert running.supervisor.pids() == {}


def test_a_worker_that_does_not_finish_is_killed(site: Any) -> None:
    running = site("stubborn")
    until(lambda: running.supervisor._ready, "it is ready")
    running.stop(patience_s=0.5)
    assert running.supervisor.pids() == {}


def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "SHORTEST_PAUSE_S", 0.02)
    program = tmp_path / "worker"
    stopping, started = threading.Event(), tmp_path / "started"
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    tracker = Tracker(database)
    supervisor = Supervisor(tracker, tmp_path, [str(program)], ["cpu"], stopping)
    supervisor.start()
    program.write_text(f"#!/bin/sh\ntouch {started}\nread line\n")
    program.chmod(0o755)
    until(started.exists, "it is started once it can be")
    stopping.set()
    tracker.wakeups.wake(*Kind)
    supervisor.stop(300)
    database.dispose()


def test_all_devices_of_this_machine() -> None:
    found = devices(("all",))
    assert found == ("cpu",) or all(name.startswith("cuda:") for name in found)
    assert devices(("cuda:0", "cuda:1")) == ("cuda:0", "cuda:1")
