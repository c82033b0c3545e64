"""The infer stage, as a process of its own: a fault of the GPU costs one attempt of one job, never the receiver.

python -m node.infer.worker CONFIG        started and watched by the service; ends when its standard input closes
"""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import structlog

from node.archive.facade import Archive
from node.config.loading import load_settings
from node.config.settings import DestinationSettings, Settings
from node.errors import NodeError
from node.infer.engine import Engine
from node.infer.quality import not_usable
from node.infer.volume import read_volume
from node.payloads import PairRequest, StackRequest
from node.telemetry.log import configure_logging
from node.tracker import views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, NewJob, Outcome
from node.tracker.states import Kind
from node.tracker.worker import Handler, Lease, run_worker

log = structlog.get_logger()


def make_infer_handler(
    database: Database, archive: Archive, engine: Engine, destinations: list[DestinationSettings], hold: bool
) -> Handler:
    """The infer stage as a function of a lease: volumes in, a Result in the archive, a deliver job a destination.
    With `hold`, deliveries of a result graded not usable start held."""

    def work(lease: Lease) -> Outcome:
        claim = lease.claim
        request = PairRequest.model_validate(claim.payload)
        started = time.monotonic()
        if archive.has_result(claim.key):
            result = archive.open_result(claim.key)
        else:
            paths = views.instance_paths(database, request.study_uid)
            target, reference = (
                read_volume(_files(stack, paths), stack.frames) for stack in (request.target, request.reference)
            )
            result = engine.super_resolve(target, reference, request, lease.progress)
            archive.put_result(claim.key, result)
        doubts = not_usable(result)
        slices = len(request.target.sop_uids)
        seconds = time.monotonic() - started
        deliveries = tuple(
            NewJob(
                kind=Kind.DELIVER,
                key=f"{claim.key}:{destination.name}",
                study_uid=claim.study_uid,
                payload={"destination": destination.name, "result": claim.key, "request": claim.payload},
                max_attempts=destination.max_attempts,
                revision=claim.revision,
                target_series_uid=request.target.series_uid,
                reference_series_uid=request.reference.series_uid,
                held=doubts if hold else None,
            )
            for destination in destinations
        )
        return Done(
            "; ".join([f"{slices} slices super-resolved", *([doubts] if doubts else [])]),
            {"slices": slices, "seconds": round(seconds, 2), "device": engine.device, "usable": doubts is None},
            deliveries,
        )

    return work


def _files(stack: StackRequest, paths: dict[str, str]) -> list[Path]:
    return [Path(paths[uid]) for uid in stack.sop_uids]


def run(settings: Settings) -> None:
    """Load the model once, then work until the service is gone."""
    stop = threading.Event()
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
    database = Database(settings.node.url)
    engine = Engine.load(settings.model, settings.registration, settings.report)
    archive = Archive(settings.node.data_dir, settings.storage.reserve_gb)
    worker = f"{socket.gethostname()}/infer/{os.getpid()}"
    log.info("infer.ready", model=engine.name, device=engine.device)
    run_worker(
        Tracker(database),
        Kind.INFER,
        worker,
        make_infer_handler(database, archive, engine, settings.destinations, settings.report.hold),
        stop,
    )


def _watch_parent(stop: threading.Event) -> None:
    """A closed standard input means that the service has stopped, or was killed. A line means: finish your job."""
    if sys.stdin.readline():
        stop.set()
        sys.stdin.readline()
    os._exit(0)


def main() -> int:
    # A stop reaches the whole process group; this process is told on its standard input, when the service is ready to.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    settings = load_settings(Path(sys.argv[1]))
    configure_logging(settings.node.log_level)
    try:
        run(settings)
    except NodeError as error:
        log.error("infer.cannot_start", reason=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
