"""Storage commitment as SCP: the node looks in tracker and archive for the instances that a scanner asks about, and reports
on the association of the request, or on a new one to the scanner. A report that the node owes is a job, so it survives a
restart.

Also as SCU, for a destination that opens an association to us to report on a request of the deliver stage."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import structlog
from pynetdicom import build_role
from pynetdicom.association import Association
from pynetdicom.events import Event

from node.archive.facade import Archive
from node.config.settings import SourceSettings
from node.dimse.associations import Peer, associate
from node.dimse.commitment_messages import (
    CONTEXTS,
    PUSH_MODEL,
    REQUEST,
    WELL_KNOWN_INSTANCE,
    ReferencedInstance,
    Report,
    read_request,
    report,
    take_report,
)
from node.dimse.status import N_EVENT_REPORT, ActionStatus, EventStatus, FailureReason, words
from node.errors import DamagedError, MissingError, NodeError, PeerError
from node.payloads import CommitmentRequest
from node.tracker import commitments, queue
from node.tracker.handle import Tracker
from node.tracker.instances import anywhere, stored
from node.tracker.outcomes import Done, Failed, NewJob, Outcome, Retry
from node.tracker.queue import backoff_s
from node.tracker.states import FINISHED, Kind
from node.tracker.worker import Lease

log = structlog.get_logger()

GRACE_S = 1.0
"""A peer that has released the association by then, or goes on sending, gets the report on another one."""
ATTEMPTS, INITIAL_S, MAXIMUM_S = 100, 5, 900
"""Attempts to report to a source, over about a day."""
BUSY_S = 60
"""Longest pause between two looks at an association that is still sending: more than an hour of attempts."""


class Commitments:
    """Storage commitment on the associations that peers open. One object serves all of them."""

    def __init__(
        self,
        tracker: Tracker,
        archive: Archive,
        sources: Sequence[SourceSettings],
        ae_title: str,
        max_requests: int = 100,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        """`max_requests` is how many reports may be owed to one peer. `flush` is that of the `Store`."""
        self._tracker = tracker
        self._archive = archive
        self._max_requests = max_requests
        self._sources = sources
        self._ae_title = ae_title
        self._flush = flush
        self._asked_on: WeakValueDictionary[str, Association] = WeakValueDictionary()
        self._heard_at: WeakKeyDictionary[Association, float] = WeakKeyDictionary()

    def know(self, sources: Sequence[SourceSettings]) -> None:
        """From now on these are the sources that reports go to."""
        self._sources = sources

    def requested(self, event: Event) -> tuple[ActionStatus, None]:
        """N-ACTION from a scanner: keep the request as a job, so that the answer promises a report."""
        return self._take_request(event), None

    def heard(self, association: Association) -> None:
        """Any message: a peer that still sends instances may take a report in between for a broken answer."""
        if association in self._heard_at:
            self._heard_at[association] = time.monotonic()

    def reported(self, event: Event) -> tuple[EventStatus, None]:
        """N-EVENT-REPORT from a destination that was asked by the deliver stage."""
        return take_report(
            event,
            lambda said: commitments.reported(
                self._tracker, said.transaction_uid, said.committed_uids, said.failed_uids
            ),
        )

    def _take_request(self, event: Event) -> ActionStatus:
        ae_title = event.assoc.requestor.ae_title.strip()
        logger = log.bind(source=ae_title)
        request: Any = event.request
        if request.RequestedSOPInstanceUID != WELL_KNOWN_INSTANCE:
            return ActionStatus.NO_SUCH_INSTANCE
        if event.action_type != REQUEST:
            return ActionStatus.NO_SUCH_ACTION
        try:
            transaction_uid, instances = read_request(event.action_information)
        except Exception as error:  # pydicom raises nearly anything on a damaged data set
            logger.warning("commitment.request_malformed", error=type(error).__name__)
            return ActionStatus.INVALID_ARGUMENT
        key = f"commit:{ae_title}:{transaction_uid}"
        request = CommitmentRequest(
            transaction_uid=transaction_uid,
            ae_title=ae_title,
            instances=tuple((instance.sop_class_uid, instance.sop_uid) for instance in instances),
        )
        try:
            self._flush()
            known = anywhere(self._tracker, instances[0].sop_uid)
            study_uid = known[0].study_uid if known else ""
            new = NewJob(Kind.COMMIT, key, study_uid, request.model_dump(mode="json"), ATTEMPTS)
            if commitments.owed(self._tracker, ae_title) >= self._max_requests:
                logger.warning("commitment.too_many_requests", limit=self._max_requests)
                return ActionStatus.RESOURCE_LIMITATION
            state = queue.enqueue(self._tracker, new, ae_title, GRACE_S)
        except NodeError as error:
            logger.error("commitment.request_not_recorded", reason=str(error))
            return ActionStatus.PROCESSING_FAILURE
        if state in FINISHED:
            return ActionStatus.DUPLICATE_TRANSACTION
        self._asked_on[key] = event.assoc
        self._heard_at[event.assoc] = time.monotonic()
        logger.info("commitment.requested", transaction=transaction_uid, instances=len(instances))
        return ActionStatus.SUCCESS

    def report(self, lease: Lease) -> Outcome:
        """The work of a commit job: look for the instances, and report."""
        request = CommitmentRequest.model_validate(lease.claim.payload)
        self._flush()
        verdict = self._judge(request)
        kept = f"{len(verdict.committed)} of {len(request.instances)} instances committed"
        peers = [Peer.source(source, self._ae_title) for source in self._sources if source.ae_title == request.ae_title]
        peer = next((peer for peer in peers if peer is not None), None)
        asked_on = self._asked_on.get(lease.claim.key)
        if asked_on is not None and asked_on.is_established:
            if time.monotonic() - self._heard_at[asked_on] >= GRACE_S:
                with suppress(RuntimeError):  # it ended just now
                    if _send(asked_on, verdict) == 0x0000:
                        return Done(f"{kept}, reported to {request.ae_title} on the association of its request")
            elif peer is None:
                wait_s = backoff_s(lease.claim.attempts, GRACE_S, BUSY_S)
                return Retry(f"{kept}; {request.ae_title} is still sending on the association of its request", wait_s)
        if peer is None:
            return Failed(
                f"{kept}, but the report cannot be delivered to {request.ae_title}: it has left or did not accept the "
                "report, and no [[sources]] entry with that ae_title has host and port. Add them, then run: diffmsr-node "
                f"queue retry {lease.claim.job_id}"
            )
        try:
            # We open the association, but stay the SCP of the service.
            with associate(peer, CONTEXTS, roles=[build_role(PUSH_MODEL, scp_role=True)]) as association:
                status = _send(association, verdict)
            if status != 0x0000:
                what = "no answer" if status is None else f"answered {words(N_EVENT_REPORT, status)}"
                raise peer.error(f"report of storage commitment: {what}", "check the peer's log")
        except PeerError as error:
            return Retry(str(error), backoff_s(lease.claim.attempts, INITIAL_S, MAXIMUM_S))
        return Done(f"{kept}, reported to {request.ae_title}")

    def _judge(self, request: CommitmentRequest) -> Report:
        failed = dict(self._failures(request))
        instances = [ReferencedInstance(*instance) for instance in request.instances]
        return Report(request.transaction_uid, [i for i in instances if i not in failed], failed)

    def _failures(self, request: CommitmentRequest) -> Iterator[tuple[ReferencedInstance, FailureReason]]:
        for sop_class_uid, sop_uid in request.instances:
            instance = ReferencedInstance(sop_class_uid, sop_uid)
            rows = anywhere(self._tracker, sop_uid)
            of_class = [row for row in rows if row.sop_class_uid == sop_class_uid]
            if not of_class:
                yield instance, FailureReason.CLASS_INSTANCE_CONFLICT if rows else FailureReason.NO_SUCH_INSTANCE
                continue
            for row in of_class:  # of each study that has one
                try:
                    stored(row, self._archive).content()
                except DamagedError:
                    yield instance, FailureReason.PROCESSING_FAILURE
                except MissingError:
                    yield instance, FailureReason.NO_SUCH_INSTANCE


def _send(association: Association, verdict: Report) -> int | None:
    """N-EVENT-REPORT; the peer's status, None without an answer."""
    answer, _ = association.send_n_event_report(report(verdict), verdict.event_type, PUSH_MODEL, WELL_KNOWN_INSTANCE)
    status: int | None = answer.get("Status")
    return status
