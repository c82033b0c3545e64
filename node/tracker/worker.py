"""The loop every worker runs: claim, work under a heartbeat, settle. Stages bring the work as a plain function."""

import logging
import threading
from collections.abc import Callable

import structlog

from node.errors import LeaseLostError, NodeError, RefusedError
from node.telemetry.log import place_of
from node.tracker.outcomes import Committing, Done, Failed, Matched, Outcome, Refused, Retry
from node.tracker.queue import HEARTBEAT_S, Claim, Queue, backoff_s
from node.tracker.states import Kind, State

log = structlog.get_logger()

POLL_S = 0.5
GOOD = {State.DONE, State.RECEIVING, State.WAITING_PAIR, State.COMMITTING}
"""Ends of an attempt that nobody has to look into."""


class StoppingError(NodeError):
    """The service is stopping; the job is given back untried."""


class Lease:
    """A claimed job in its worker's hands. `progress` reports how far it is; it raises LeaseLostError once the job is
    no longer this worker's, and StoppingError once the service is to stop."""

    def __init__(self, queue: Queue, claim: Claim, stop: threading.Event) -> None:
        self.claim = claim
        self._queue = queue
        self._stop = stop
        self._lost: LeaseLostError | None = None
        self._over = threading.Event()

    def progress(self, done: int, total: int) -> None:
        self._queue.heartbeat(self.claim, (done, total))
        if done < total:
            self.check()

    def check(self) -> None:
        """Raise when the work is to end: LeaseLostError, StoppingError. Writes nothing."""
        if self._lost is not None:
            raise self._lost
        if self._stop.is_set():
            raise StoppingError

    def __enter__(self) -> "Lease":
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{self.claim.job_id}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            try:
                self._queue.heartbeat(self.claim)
            except LeaseLostError as error:
                self._lost = error
                return
            except NodeError as error:  # a database that is away for a moment: the lease outlives a few beats
                log.warning("heartbeat.failed", job=self.claim.job_id, error=str(error))


Handler = Callable[[Lease], Outcome]


def run_worker(
    queue: Queue,
    kind: Kind,
    worker: str,
    work: Handler,
    stop: threading.Event,
    initial_s: float = 5,
    maximum_s: float = 300,
) -> None:
    """Do the jobs of one kind, one after the other, until `stop` is set. Never raises for what a job does."""
    while not stop.is_set():
        try:
            claim = queue.claim(kind, worker)
        except NodeError as error:
            log.error("claim.failed", kind=kind, error=str(error))
            stop.wait(5)
            continue
        if claim is None:
            stop.wait(POLL_S)
            continue
        _do(queue, claim, work, stop, initial_s, maximum_s)


def _do(queue: Queue, claim: Claim, work: Handler, stop: threading.Event, initial_s: float, maximum_s: float) -> None:
    logger = log.bind(job=claim.job_id, kind=claim.kind, study=claim.study_uid, attempt=claim.attempts)
    delay_s = backoff_s(claim.attempts, initial_s, maximum_s)
    outcome: Outcome
    logger.info("job.started")
    try:
        with Lease(queue, claim, stop) as lease:
            try:
                outcome = work(lease)
            except (LeaseLostError, StoppingError):
                raise
            except RefusedError as error:
                outcome = Refused(error.code, error.sentence)
            except NodeError as error:
                outcome = Retry(str(error), delay_s) if error.retryable else Failed(str(error))
            except Exception as error:
                # The text of a foreign exception may quote the data it stumbled on; the log gets its type and place.
                logger.error("job.crashed", error=type(error).__name__, where=place_of(error))
                outcome = Retry(f"unexpected {type(error).__name__} in {place_of(error)}; please report it", delay_s)
        state = queue.settle(claim, outcome)
        logger.log(logging.INFO if state in GOOD else logging.WARNING, "job.settled", state=state, says=_says(outcome))
    except LeaseLostError as error:
        logger.warning("job.lost", reason=str(error))
    except StoppingError as error:
        queue.release_lease(claim)
        logger.info("job.given_back", reason=str(error))
    except NodeError as error:
        # The lease runs out and housekeeping frees the job: it is done again rather than lost.
        logger.error("job.unsettled", error=str(error))


def _says(outcome: Outcome) -> str:
    match outcome:
        case Done(why) | Matched(why) | Committing(why):
            return why
        case Refused(code, sentence):
            return f"{code}: {sentence}"
        case Retry(error) | Failed(error):
            return error
