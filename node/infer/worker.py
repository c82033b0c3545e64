"""The infer stage, as a process of its own: a fault of the GPU costs one attempt of one job, never the receiver.

python -m node.infer.worker CONFIG [DEVICE]        started and watched by the supervisor, see there; ends when its standard
input closes
"""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
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
from node.infer.supervisor import FINISH
from node.payloads import PairRequest
from node.result import Result
from node.roles import Role
from node.telemetry.log import configure_logging
from node.tracker import instances, steps
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Outcome
from node.tracker.states import Kind
from node.tracker.worker import Handler, Lease, run_worker

log = structlog.get_logger()


def make_infer_handler(tracker: Tracker, archive: Archive, engine: Engine, max_matrix: int) -> Handler:
    """The infer stage as a function of a lease: a pair in, a result into the archive, one derive job."""

    def infer(lease: Lease) -> Outcome:
        claim = lease.claim
        request = PairRequest.model_validate(claim.payload)
        started = time.monotonic()
        result = _kept(archive, claim.key)
        if result is None:
            received = instances.of_study(tracker, archive, request.study_uid)
            seen = run(request, received, engine, max_matrix, lease.progress)
            # The result last: when it is there, all that goes with it is.
            archive.put_layers(claim.key, encode_result_layers(seen))
            archive.put_result(claim.key, seen.result)
            result = seen.result
        doubts = None if result.quality is None else result.quality.doubts
        undone = None if result.acquired is None else result.acquired.summary
        slices = len(request.target.sop_uids)
        return Done(
            "; ".join([f"{slices} slices super-resolved", *(said for said in (undone, doubts) if said)]),
            {
                "slices": slices, "seconds": round(time.monotonic() - started, 2), "device": engine.device,
                "usable": doubts is None, "memory_bytes": engine.peak_memory(),
            },
            (steps.derive_job(claim.key, request),),
        )  # fmt: skip

    return infer


def _kept(archive: Archive, name: str) -> Result | None:
    """A result that an earlier attempt made; None when there is none, or it is damaged and has to be made again."""
    try:
        return archive.open_result(name)
    except MissingError:
        return None
    except DamagedError as error:
        log.warning("infer.result_damaged", result=name, reason=str(error))
        return None


def work(settings: Settings, device: str) -> None:
    """Load the model once, then work until the service is gone."""
    stop = threading.Event()
    tracker = Tracker(Database(settings.node.url))
    tracker.wakeups.listen(_announce)
    threading.Thread(target=_obey, args=(stop, tracker), daemon=True).start()
    engine = Engine.load(settings.model, settings.registration, settings.acquisition, settings.report, device)
    archive = Archive.of(settings)
    worker = worker_name(settings.node.data_dir, Role.INFER)
    infer = make_infer_handler(tracker, archive, engine, settings.match.stack.max_matrix)
    log.info("infer.ready", model=engine.name, device=engine.device)
    run_worker(tracker, Kind.INFER, worker, infer, stop)


def _obey(stop: threading.Event, tracker: Tracker) -> None:
    """Do what the supervisor says, see there. When the input ends, the service has stopped or was killed."""
    for line in sys.stdin:
        if line.strip() == FINISH:
            stop.set()
        tracker.wakeups.wake(Kind.INFER)
    os._exit(0)


def _announce(kind: Kind) -> None:
    """Tell the supervisor what was enqueued here."""
    if kind is not Kind.INFER:
        with suppress(OSError):  # it is gone
            sys.stdout.write(f"{kind}\n")
            sys.stdout.flush()


def main() -> int:
    # A stop reaches the whole process group; this process is told on its standard input, when the service is ready to.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    settings = load_settings(Path(sys.argv[1]))
    device = sys.argv[2] if len(sys.argv) > 2 else settings.model.devices[0]
    configure_logging(settings.node.log_level)
    try:
        work(settings, device)
    except NodeError as error:
        log.error("infer.cannot_start", reason=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
