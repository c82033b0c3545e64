"""The loop every worker runs: claim, work under a heartbeat, settle. A stage brings the work as a plain function."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

import structlog

from node.errors import LeaseLostError, NodeError, RefusedError
from node.telemetry.log import place_of
from node.telemetry.tracing import span
from node.tracker import queue
from node.tracker.due import Destinations
from node.tracker.handle import Tracker
from node.tracker.outcomes import Failed, Outcome, Postponed, Refused, Retry
from node.tracker.queue import Claim, backoff_s
from node.tracker.states import Kind, State

log = structlog.get_logger()

HEARTBEAT_S = 10.0
POLL_S, LONGEST_POLL_S = 0.5, 5.0
"""Between two looks for work. What this process enqueues wakes the worker at once, so the poll is for what other processes
enqueue; while nothing comes it slows down from the first to the second."""
AFTER_LOCAL_TROUBLE_S = 10.0
"""Until a job is tried again for which this host had no disk or no database. That uses none of its attempts."""
AFTER_TROUBLE_S = 5.0
"""Until the tracker is asked again when it did not answer."""

GOOD = {State.DONE, State.RECEIVING, State.WAITING_PAIR, State.COMMITTING}
"""Ends of an attempt that need nobody's attention."""


class StoppingError(NodeError):
    """The service is stopping; the job is given back untried."""


class Lease:
    """A claimed job while its worker holds it. `progress` reports how far it is; it raises LeaseLostError once this worker
    no longer holds the job, and StoppingError once the service is to stop."""

    def __init__(self, tracker: Tracker, claim: Claim, stop: threading.Event) -> None:
        self.claim = claim
        self._tracker = tracker
        self._stop = stop
        self._lost: LeaseLostError | None = None
        self._over = threading.Event()

    def progress(self, done: int, total: int) -> None:
        queue.heartbeat(self._tracker, self.claim, (done, total))
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
                queue.heartbeat(self._tracker, self.claim)
            except LeaseLostError as error:
                self._lost = error
                return
            except NodeError as error:  # a database that is away for a moment: the lease outlives a few beats
                log.warning("heartbeat.failed", job=self.claim.job_id, reason=str(error))


Handler = Callable[[Lease], Outcome]


def run_worker(
    tracker: Tracker,
    kind: Kind,
    worker: str,
    handler: Handler,
    stop: threading.Event,
    *,
    destinations: Destinations | None = None,
    gate: Callable[[], float] | None = None,
    initial_s: float = 5,
    maximum_s: float = 300,
) -> None:
    """Do the jobs of one kind (of deliveries those to some destinations) one after the other, until `stop` is set. The
    caller that sets it then wakes the workers of `tracker`. When a job is due, `gate` says how many seconds it has to wait
    all the same. No error of a job is raised here."""
    idle = 0
    while not stop.is_set():
        seen = tracker.wakeups.count(kind)
        try:
            wait_s = _until_due_s(tracker, kind, destinations)
            if wait_s <= 0 and gate is not None:
                wait_s = gate()
            claim = queue.claim(tracker, kind, worker, destinations) if wait_s <= 0 else None
        except NodeError as error:
            log.error("claim.failed", kind=kind, reason=str(error))
            stop.wait(AFTER_TROUBLE_S)
            continue
        if claim is not None:
            idle = 0
            attempt(tracker, claim, handler, stop, backoff_s(claim.attempts, initial_s, maximum_s))
            continue
        poll_s = min(POLL_S * 2**idle, LONGEST_POLL_S)
        woken = tracker.wakeups.wait(kind, seen, min(poll_s, wait_s) if wait_s > 0 else poll_s)
        idle = 0 if woken else min(idle + 1, 8)


def _until_due_s(tracker: Tracker, kind: Kind, destinations: Destinations | None) -> float:
    """Seconds until a job is due, not above 0 when one is due now. This only reads. A claim would lock out all writers,
    whether there is something to claim or not."""
    due = queue.next_due(tracker, kind, destinations)
    return LONGEST_POLL_S if due is None else (due - tracker.clock()) / timedelta(seconds=1)


def attempt(tracker: Tracker, claim: Claim, handler: Handler, stop: threading.Event, delay_s: float) -> State | None:
    """Do a claimed job and settle it, with a retry after `delay_s` seconds where one may help; its new state. None when it is
    no longer this worker's, was given back, or could not be settled. Never raises for what a job does."""
    with span(claim.kind, claim.study_uid, job=claim.job_id, attempt=claim.attempts, worker=claim.worker) as note:
        state = _attempt(tracker, claim, handler, stop, delay_s)
        note("state", state or "given up")
    return state


def _attempt(tracker: Tracker, claim: Claim, handler: Handler, stop: threading.Event, delay_s: float) -> State | None:
    logger = log.bind(job=claim.job_id, kind=claim.kind, study=claim.study_uid, attempt=claim.attempts)
    outcome: Outcome
    logger.info("job.started")
    try:
        with Lease(tracker, claim, stop) as lease:
            try:
                outcome = handler(lease)
            except (LeaseLostError, StoppingError):
                raise
            except RefusedError as error:
                outcome = Refused(error.code, error.sentence)
            except NodeError as error:
                if error.local:
                    outcome = Postponed(str(error), AFTER_LOCAL_TROUBLE_S)
                else:
                    outcome = Retry(str(error), delay_s) if error.retryable else Failed(str(error))
            except Exception as error:
                # The text of a foreign exception may quote the data it stumbled on; the log gets its type and place.
                logger.error("job.crashed", error=type(error).__name__, where=place_of(error))
                outcome = Retry(f"unexpected {type(error).__name__} in {place_of(error)}; please report it", delay_s)
        state = queue.settle(tracker, claim, outcome)
        level = logging.INFO if state in GOOD else logging.WARNING
        code = {"code": outcome.code} if isinstance(outcome, Refused) else {}
        logger.log(level, "job.settled", state=state, reason=outcome.sentence, **code)
        return state
    except LeaseLostError as error:
        logger.warning("job.lost", reason=str(error))
    except StoppingError as error:
        queue.give_back(tracker, claim)
        logger.info("job.given_back", reason=str(error))
    except NodeError as error:
        # The lease runs out and housekeeping frees the job: it is done again rather than lost.
        logger.error("job.unsettled", reason=str(error))
    return None
