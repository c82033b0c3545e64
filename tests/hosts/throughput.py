"""How much more is done by more infer workers: python -m tests.hosts.throughput

Each worker is a process with the loop, the leases and the heartbeats of an infer worker, on one PostgreSQL. In place of the network its
work waits for a fixed time, as for a GPU of its own, so what is measured is what the queue costs.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from node.payloads import PairRequest, StackRequest
from node.tracker import queue, steps
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Outcome
from node.tracker.states import Kind
from node.tracker.worker import Lease, run_worker
from tests.waiting import until


def main() -> None:
    from tests.hosts.database import Server

    arguments = argparse.ArgumentParser(prog="python -m tests.hosts.throughput", description=__doc__)
    arguments.add_argument("--jobs", type=int, default=60)
    arguments.add_argument("--seconds", type=float, default=0.5, help="that a job takes")
    arguments.add_argument("--work", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.work is not None:
        work(given.work, given.seconds)
        return
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        Path(folder).chmod(0o755)  # the database server is another user
        server = Server(Path(folder) / "postgres", "127.0.0.1")
        server.start()
        try:
            base = None
            for workers in (1, 2, 4):
                rate = _measure(server.url, workers, given.jobs, given.seconds)
                base = base or rate
                print(f"{workers} workers: {rate:.2f} jobs/s, {rate / base:.2f} times one")
        finally:
            server.kill()


def _measure(url: str, workers: int, count: int, seconds: float) -> float:
    """Jobs per second, from when the first was begun to when the last was done."""
    database = Database(url)
    database.upgrade()
    tracker = Tracker(database)
    command = [sys.executable, "-m", "tests.hosts.throughput", "--work", url, "--seconds", str(seconds)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(workers)
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    stack = StackRequest(series_uid="1.2.1", contrast="T2", sop_uids=("1.2.1.1",))
    for number in range(count):
        pair = PairRequest(study_uid="1.2", target=stack, reference=stack)
        queue.enqueue(tracker, steps.infer_job(f"infer:{workers}-{number}", pair, 3), "test")
    began = time.monotonic()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    done = "SELECT count(*) FROM job WHERE state = 'done'"

    def finished() -> bool:
        with database.read() as session:
            return bool(
                session.connection().exec_driver_sql(f"{done} AND key LIKE 'infer:{workers}-%%'").scalar_one() == count
            )

    until(finished, "all jobs are done")
    took = time.monotonic() - began
    for process in running:
        process.kill()
        process.wait()
    database.dispose()
    return count / took


def work(url: str, seconds: float) -> None:
    """The worker."""

    def handle(lease: Lease) -> Outcome:
        time.sleep(seconds)
        return Done("waited")

    tracker = Tracker(Database(url))
    print("ready", flush=True)
    sys.stdin.readline()
    run_worker(tracker, Kind.INFER, f"host/infer/{time.monotonic_ns()}", handle, threading.Event())


if __name__ == "__main__":
    main()
