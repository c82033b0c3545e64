"""The infer stage, as a process of its own: a fault of the GPU costs one attempt of one job, never the receiver.

python -m node.infer.worker CONFIG [DEVICE]        started and watched by `supervisor.py`; ends when its standard input
closes
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from node.archive.facade import Archive
from node.config.loading import load_settings
from node.config.settings import Settings
from node.errors import DamagedError, MissingError, NodeError
from node.identity import worker_name
from node.infer.engine import Engine
from node.infer.layers import encode_result_layers
from node.infer.run import run
from node.infer.supervisor import ALIVE, FINISH
from node.payloads import InferResult, PairRequest
from node.result import Result
from node.roles import Role
from node.telemetry.log import configure_logging
from node.telemetry.tracing import trace_to_collector
from node.tracker import instances, steps
from node.tracker.clock import SteadyClock
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Outcome
from node.tracker.states import Kind
from node.tracker.worker import Handler, Lease, run_worker

log = structlog.get_logger()


class Pulse:
    """Signs of life for the supervisor: on its own while the worker waits for work, and at each progress while it works."""

    EVERY_S = 5.0

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._busy = False

    def start(self) -> None:
        """Beat until the process ends."""
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Only progress is a sign of life."""
        self._busy = True
        self._say(ALIVE)
        try:
            yield
        finally:
            self._busy = False

    def beating(self, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """The function, and a beat at each call."""

        def beat(done: int, total: int) -> None:
            self._say(ALIVE)
            progress(done, total)

        return beat

    def _beat(self) -> None:
        while True:
            if not self._busy:
                self._say(ALIVE)
            time.sleep(self.EVERY_S)


def make_infer_handler(
    tracker: Tracker, archive: Archive, engine: Engine, max_matrix: int, pulse: Pulse | None = None
) -> Handler:
    """The infer stage as a function of a lease: a pair in, a result into the archive, one derive job."""
    pulse = pulse or Pulse(lambda word: None)

    def infer(lease: Lease) -> Outcome:
        with pulse.working():
            return super_resolve(lease)

    def super_resolve(lease: Lease) -> Outcome:
        claim = lease.claim
        request = PairRequest.model_validate(claim.payload)
        started = time.monotonic()
        result = _kept(archive, claim.key)
        if result is None:
            archive.check_space(for_results=True)  # before the work, not after it
            received = instances.of_study(tracker, archive, request.study_uid)
            seen = run(request, received, engine, max_matrix, pulse.beating(lease.progress))
            # The result is kept last: when it is there, everything that goes with it is there.
            archive.put_layers(claim.key, encode_result_layers(seen))
            archive.put_result(claim.key, seen.result)
            result = seen.result
        doubts = None if result.quality is None else result.quality.doubts
        undone = None if result.acquired is None else result.acquired.summary
        slices = len(request.target.sop_uids)
        return Done(
            "; ".join([f"{slices} slices super-resolved", *(said for said in (undone, doubts) if said)]),
            InferResult(
                slices=slices, seconds=round(time.monotonic() - started, 2), device=engine.device, usable=doubts is None,
                memory_bytes=engine.peak_memory(),
            ),
            (steps.derive_job(claim.key, request),),
        )  # fmt: skip

    return infer


def _kept(archive: Archive, name: str) -> Result | None:
    """A result that an earlier attempt made; None when it, or what the viewer shows of it, is missing or damaged and has to be made
    again."""
    try:
        with archive.layers(name):
            return archive.open_result(name)
    except MissingError:
        return None
    except DamagedError as error:
        log.warning("infer.result_damaged", result=name, reason=str(error))
        return None


def work(settings: Settings, device: str) -> None:
    """Load the model once, then work until the service is gone."""
    stop = threading.Event()
    tracker = Tracker(Database(settings.node.url), clock=SteadyClock(follows=True))
    tracker.wakeups.listen(_announce)
    threading.Thread(target=_obey, args=(stop, tracker), daemon=True).start()
    pulse = Pulse(_say)
    engine = Engine.load(settings.model, settings.registration, settings.acquisition, settings.report, device)
    archive = Archive.of(settings)
    worker = worker_name(settings.node.data_dir, Role.INFER)
    infer = make_infer_handler(tracker, archive, engine, settings.match.stack.max_matrix, pulse)
    log.info("infer.ready", model=engine.name, trust=engine.trust, device=engine.device)
    pulse.start()  # from now on the supervisor waits for its job when it stops
    run_worker(tracker, Kind.INFER, worker, infer, stop)


def _obey(stop: threading.Event, tracker: Tracker) -> None:
    """Do what the supervisor says (`supervisor.py`). When the input ends, the service has stopped or was killed."""
    for line in sys.stdin:
        if line.strip() == FINISH:
            stop.set()
        tracker.wakeups.wake(Kind.INFER)
    os._exit(0)


def _announce(kind: Kind) -> None:
    """Tell the supervisor what was enqueued here."""
    if kind is not Kind.INFER:
        _say(kind)


def _say(word: str) -> None:
    """Tell the supervisor, in one write: several threads do."""
    with suppress(OSError):  # it is gone
        os.write(1, f"{word}\n".encode())


def main() -> int:
    # The signal to stop reaches the whole process group. This process is told on its standard input instead.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    settings = load_settings(Path(sys.argv[1]))
    device = sys.argv[2] if len(sys.argv) > 2 else settings.model.devices[0]
    configure_logging(settings.node.log_level)
    try:
        trace_to_collector(settings.tracing, settings.scp.ae_title)
        work(settings, device)
    except NodeError as error:
        log.error("infer.cannot_start", reason=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
