"""The deliver stage: send a destination the derived instances of a result that it has not accepted yet."""

import time
from collections.abc import Mapping
from dataclasses import replace

import structlog
from pydicom import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    generate_uid,
)

from node.archive.facade import Archive
from node.config.settings import DestinationSettings, Settings
from node.deliver import commitment_scu
from node.deliver.breaker import Breaker
from node.deliver.scu import SendResult
from node.deliver.transport import send
from node.dimse.associations import Peer
from node.dimse.status import Verdict
from node.errors import LostError, PeerError
from node.payloads import DeliverRequest, DeliverResult
from node.tracker import commitments, deliveries, queue, steps
from node.tracker.audit import Action, Detail, try_audit
from node.tracker.deliveries import InstanceAnswer
from node.tracker.handle import Tracker
from node.tracker.outcomes import Committing, Done, Failed, Missing, Outcome, Retry
from node.tracker.queue import Claim, backoff_s
from node.tracker.states import State
from node.tracker.tables import Delivery
from node.tracker.worker import Handler, Lease

log = structlog.get_logger()

PATIENCE_WITH_REFUSALS = 3
"""A PACS in trouble, or one that has just been started, may reject what it accepts a minute later, so a rejection counts only after
as many attempts, and when it is repeated."""

NOTE_EVERY_S = 0.25
"""How long answers are gathered for one transaction. What a crash takes of them is sent again."""

DOCUMENTS = frozenset({
    Comprehensive3DSRStorage, ComprehensiveSRStorage, GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage, ParametricMapStorage,
})  # fmt: skip
"""What accompanies the images. A PACS that does not store such objects gets only the images."""


def make_deliver_handler(
    tracker: Tracker, archive: Archive, settings: Settings, breakers: Mapping[str, Breaker] | None = None
) -> Handler:
    """The deliver stage as a function of a lease. `breakers` are those of the destinations, by name."""
    known = breakers or {}

    def deliver(lease: Lease) -> Outcome:
        destination = settings.destination(DeliverRequest.model_validate(lease.claim.payload).destination)
        breaker = known.get(destination.name)
        try:
            outcome = attempt(lease)
        except PeerError as error:
            if breaker is not None and breaker.failed():
                log.warning("deliver.unreachable", destination=destination.name, reason=str(error))
            delay_s = backoff_s(lease.claim.attempts, destination.initial_delay_s, destination.max_delay_s)
            outcome = Retry(str(error), delay_s)
        else:
            if breaker is not None and not isinstance(outcome, Missing) and breaker.reached():
                log.info("deliver.reachable_again", destination=destination.name)
                queue.hasten(tracker, destination.name)
        if isinstance(outcome, Retry):
            return replace(outcome, give_up_after_s=destination.give_up_h * 3600)
        return outcome

    def attempt(lease: Lease) -> Outcome:
        claim = lease.claim
        asked = DeliverRequest.model_validate(claim.payload)
        destination = settings.destination(asked.destination)
        delay_s = backoff_s(claim.attempts, destination.initial_delay_s, destination.max_delay_s)
        if claim.was is State.COMMITTING and commitments.answered(tracker, claim):
            outcome = _reported(deliveries.entered(tracker, claim), destination.name, delay_s)
            return _name_left_out(outcome, tracker, archive, claim, asked.result)
        try:
            derived = archive.adopt_derived(asked.result)
            if derived is None:
                return Missing("nothing is derived yet", steps.derive_job(asked.result, asked.request))
            deliveries.enter(tracker, claim, derived)
            outcome = (
                _send(tracker, archive, lease, destination, settings.scp.ae_title, delay_s)
                or _commit(tracker, archive, claim, destination, settings.scp.ae_title, delay_s)
            )  # fmt: skip
            return _name_left_out(outcome, tracker, archive, claim, asked.result)
        except LostError as error:
            return Missing(str(error), steps.derive_job(asked.result, asked.request))

    return deliver


def _name_left_out(outcome: Outcome, tracker: Tracker, archive: Archive, claim: Claim, result: str) -> Outcome:
    """The outcome of a finished delivery, with the documents that the destination does not store."""
    if not isinstance(outcome, Done):
        return outcome
    sent = {row.sop_uid for row in deliveries.entered(tracker, claim)}
    left_out = [
        archive.derived_instance(each.key, each.sha256).read_header().SOPClassUID.name
        for each in archive.derived(result) or ()
        if each.sop_uid not in sent
    ]
    if not left_out:
        return outcome
    sentence = f"{outcome.sentence}; left out, because it does not store such objects: {', '.join(left_out)}"
    return Done(sentence, DeliverResult(instances=len(sent), left_out=tuple(left_out), sentence=sentence))


def _send(
    tracker: Tracker, archive: Archive, lease: Lease, destination: DestinationSettings, ae_title: str, delay_s: float
) -> Outcome | None:
    """Send what was not accepted yet; None when every instance is."""
    rows = deliveries.entered(tracker, lease.claim)
    waiting = [archive.derived_instance(row.key, row.sha256) for row in rows if not row.accepted]
    accepted, refused, answers = 0, list[SendResult](), list[InstanceAnswer]()
    done, noted_at = len(rows) - len(waiting), time.monotonic()
    refused_before = {row.sop_uid for row in rows if row.status is not None}
    try:
        for done, sent in enumerate(send(waiting, destination, ae_title), start=len(rows) - len(waiting) + 1):
            if sent.status is None and sent.sop_class_uid in DOCUMENTS:
                log.warning("deliver.document_left_out", destination=destination.name, reason=sent.words)
                deliveries.leave_out(tracker, lease.claim, sent.sop_uid)
                continue
            answers.append(InstanceAnswer(sent.sop_uid, sent.accepted, sent.words))
            if time.monotonic() - noted_at >= NOTE_EVERY_S:
                deliveries.note(tracker, lease.claim, answers, (done, len(rows)))
                noted_at = time.monotonic()
                answers.clear()
            if sent.accepted:
                accepted += 1
            else:
                refused.append(sent)
            if done < len(rows):
                lease.check()
    finally:
        if accepted:
            details: dict[str, Detail] = {
                "destination": destination.name,
                "instances": accepted,
                "job": lease.claim.job_id,
            }
            try_audit(tracker, Action.SENT, lease.claim.worker, lease.claim.study_uid, details)
        if answers:
            deliveries.note(tracker, lease.claim, answers, (done, len(rows)))
    if not refused:
        return None
    error = f"{destination.name} did not accept {len(refused)} of {len(rows)} instances: {refused[0].words}"
    repeated = all(s.verdict is Verdict.REFUSED and s.sop_uid in refused_before for s in refused)
    if lease.claim.attempts >= PATIENCE_WITH_REFUSALS and repeated:
        return Failed(
            f"{error}; the PACS rejects them permanently. Check its log, fix the cause, then run: diffmsr-node queue retry "
            f"{lease.claim.job_id}"
        )
    return Retry(error, delay_s)


def _commit(
    tracker: Tracker, archive: Archive, claim: Claim, destination: DestinationSettings, ae_title: str, delay_s: float
) -> Outcome:
    """Ask for the commitment of every accepted instance, where that is configured. The job is done only then."""
    rows = deliveries.entered(tracker, claim)
    accepted = f"{destination.name} has accepted all {len(rows)} instances"
    if not destination.commitment:
        return Done(accepted, DeliverResult(instances=len(rows)))
    if all(row.committed for row in rows):  # a report came while the job was held, or waited to ask again
        return _reported(rows, destination.name, delay_s)
    peer = Peer.destination(destination, ae_title)
    headers = [archive.derived_instance(row.key, row.sha256).read_header() for row in rows if not row.committed]
    if claim.was is State.COMMITTING and destination.commitment_fallback == "find":
        return _found(tracker, claim, peer, headers, delay_s, "it did not report on their storage commitment in time")
    transaction_uid = str(generate_uid(prefix=None))
    commitments.opened(tracker, claim, transaction_uid)
    try:
        commitment_scu.request_commitment(
            peer,
            transaction_uid,
            headers,
            record=lambda report: commitments.reported(
                tracker, report.transaction_uid, report.committed_uids, report.failed_uids
            ),
            answered=lambda: commitments.answered(tracker, claim),
        )
    except PeerError as error:
        if destination.commitment_fallback == "find":
            return _found(tracker, claim, peer, headers, delay_s, str(error))
        raise
    if commitments.answered(tracker, claim):
        return _reported(deliveries.entered(tracker, claim), destination.name, delay_s)
    why = f"{accepted}, and was asked to commit {len(headers)} of them"
    return Committing(why, transaction_uid, destination.commitment_timeout_s)


def _reported(rows: list[Delivery], destination: str, delay_s: float) -> Outcome:
    """What remains after a report: nothing, or to send again later what was not committed."""
    open_ = [row for row in rows if not row.committed]
    if not open_:
        sentence = f"{destination} has accepted and committed all {len(rows)} instances"
        return Done(sentence, DeliverResult(instances=len(rows)))
    return Retry(f"{destination} did not commit {len(open_)} of {len(rows)} instances: {open_[0].status}", delay_s)


def _found(tracker: Tracker, claim: Claim, peer: Peer, instances: list[Dataset], delay_s: float, why: str) -> Outcome:
    """Accept a C-FIND that lists every instance in place of a commitment. What it does not list is sent again."""
    listed = commitment_scu.found(peer, instances)
    missing = [uid for uid in (str(ds.SOPInstanceUID) for ds in instances) if uid not in listed]
    if missing:
        answers = [InstanceAnswer(uid, False, "accepted, but a C-FIND does not list it") for uid in missing]
        deliveries.note(tracker, claim, answers)
        return Retry(f"a C-FIND lists {len(listed)} of {len(instances)} accepted instances; {why}", delay_s)
    sentence = f"a C-FIND lists all {len(instances)} instances; they are not committed: {why}"
    return Done(sentence, DeliverResult(instances=len(instances), sentence=sentence))
