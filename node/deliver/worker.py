"""The deliver stage: encode a result as a derived series, send each destination what it has not accepted yet."""

from pathlib import Path

import structlog
from pydicom import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    generate_uid,
)

from node.archive.facade import Archive
from node.config.settings import DestinationSettings, Settings
from node.deliver import commitment_scu
from node.deliver.scu import Sent, send
from node.derived.encode import encode
from node.derived.identifiers import series_number
from node.dicom.read import read_header
from node.dicom.transfer_syntax import to_bytes
from node.dimse.associations import Peer
from node.dimse.status import Verdict
from node.errors import PeerError
from node.payloads import PairRequest
from node.tracker import commitments, deliveries, views
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Committing, Done, Failed, Outcome, Retry
from node.tracker.queue import Claim, backoff_s
from node.tracker.states import State
from node.tracker.tables import Delivery
from node.tracker.worker import Handler, Lease

log = structlog.get_logger()

PATIENCE_WITH_REFUSALS = 3
"""A PACS in trouble may refuse what it takes a minute later, so a refusal is believed when it has been repeated."""


DOCUMENTS = frozenset({Comprehensive3DSRStorage, ComprehensiveSRStorage, GrayscaleSoftcopyPresentationStateStorage})
"""What goes with the images. A PACS that does not store such things gets the images alone."""


def make_deliver_handler(tracker: Tracker, archive: Archive, settings: Settings) -> Handler:
    """The deliver stage as a function of a lease."""

    def work(lease: Lease) -> Outcome:
        claim = lease.claim
        destination = settings.destination(claim.payload["destination"])
        if not deliveries.entered(tracker, claim):
            request = PairRequest.model_validate(claim.payload["request"])
            files = derive(tracker.database, archive, claim.payload["result"], request, settings)
            deliveries.enter(tracker, claim, files)
        delay_s = backoff_s(claim.attempts, destination.initial_delay_s, destination.max_delay_s)
        try:
            if claim.was is State.COMMITTING and commitments.answered(tracker, claim):
                return _reported(deliveries.entered(tracker, claim), destination.name, delay_s)
            return (
                _send(tracker, lease, destination, settings.scp.ae_title, delay_s)
                or _commit(tracker, claim, destination, settings.scp.ae_title, delay_s)
            )  # fmt: skip
        except PeerError as error:
            return Retry(str(error), delay_s)

    return work


def _send(
    tracker: Tracker, lease: Lease, destination: DestinationSettings, ae_title: str, delay_s: float
) -> Outcome | None:
    """Send what was not accepted yet; None when every instance is."""
    rows = deliveries.entered(tracker, lease.claim)
    waiting = [Path(row.path) for row in rows if not row.accepted]
    refused: list[Sent] = []
    for done, sent in enumerate(send(waiting, destination, ae_title), start=len(rows) - len(waiting) + 1):
        if sent.status is None and sent.sop_class_uid in DOCUMENTS:
            log.warning("deliver.document_left_out", destination=destination.name, reason=sent.words)
            deliveries.leave_out(tracker, lease.claim, sent.sop_uid)
            continue
        deliveries.note(tracker, lease.claim, sent.sop_uid, sent.accepted, sent.words, (done, len(rows)))
        if not sent.accepted:
            refused.append(sent)
        if done < len(rows):
            lease.check()
    if not refused:
        return None
    error = f"{destination.name} did not accept {len(refused)} of {len(rows)} instances: {refused[0].words}"
    if lease.claim.attempts >= PATIENCE_WITH_REFUSALS and all(s.verdict is Verdict.REFUSED for s in refused):
        return Failed(f"{error}; it will not take them as they are, see its log; then: diffmsr-node queue retry")
    return Retry(error, delay_s)


def _commit(tracker: Tracker, claim: Claim, destination: DestinationSettings, ae_title: str, delay_s: float) -> Outcome:
    """Have every accepted instance committed, where that is asked for. Done only then."""
    rows = deliveries.entered(tracker, claim)
    accepted = f"{destination.name} has accepted all {len(rows)} instances"
    if not destination.commitment:
        return Done(accepted, {"instances": len(rows)})
    if all(row.committed for row in rows):  # a report came while the job was held, or waited to ask again
        return _reported(rows, destination.name, delay_s)
    peer = Peer.destination(destination, ae_title)
    instances = commitment_scu.headers([Path(row.path) for row in rows if not row.committed])
    if claim.was is State.COMMITTING and destination.commitment_fallback == "find":
        return _found(tracker, claim, peer, instances, delay_s, "it did not report on their storage commitment in time")
    transaction_uid = str(generate_uid(prefix=None))
    commitments.opened(tracker, claim, transaction_uid)
    try:
        commitment_scu.ask(
            peer,
            transaction_uid,
            instances,
            record=lambda report: commitments.reported(
                tracker, report.transaction_uid, report.committed_uids, report.failed_uids
            ),
            answered=lambda: commitments.answered(tracker, claim),
        )
    except PeerError as error:
        if destination.commitment_fallback == "find":
            return _found(tracker, claim, peer, instances, delay_s, str(error))
        raise
    if commitments.answered(tracker, claim):
        return _reported(deliveries.entered(tracker, claim), destination.name, delay_s)
    why = f"{accepted}, and was asked to commit {len(instances)} of them"
    return Committing(why, transaction_uid, destination.commitment_timeout_s)


def _reported(rows: list[Delivery], destination: str, delay_s: float) -> Outcome:
    """What a report leaves to do: nothing, or to send again later what was not committed."""
    open_ = [row for row in rows if not row.committed]
    if not open_:
        return Done(f"{destination} has accepted and committed all {len(rows)} instances", {"instances": len(rows)})
    return Retry(f"{destination} did not commit {len(open_)} of {len(rows)} instances: {open_[0].status}", delay_s)


def _found(tracker: Tracker, claim: Claim, peer: Peer, instances: list[Dataset], delay_s: float, why: str) -> Outcome:
    """Without a commitment, be content with a C-FIND that lists every instance; what it does not is sent again."""
    listed = commitment_scu.found(peer, instances)
    missing = [uid for uid in (str(ds.SOPInstanceUID) for ds in instances) if uid not in listed]
    for sop_uid in missing:
        deliveries.note(tracker, claim, sop_uid, False, "accepted, but a C-FIND does not list it")
    if missing:
        return Retry(f"a C-FIND lists {len(listed)} of {len(instances)} accepted instances; {why}", delay_s)
    sentence = f"a C-FIND lists all {len(instances)} instances; they are not committed: {why}"
    return Done(sentence, {"instances": len(instances), "sentence": sentence})


def derive(database: Database, archive: Archive, key: str, request: PairRequest, settings: Settings) -> dict[str, Path]:
    """Encode the result `key` into the archive, once for all destinations; SOP instance UID to file, in the order to
    be sent."""
    if made := archive.derived(key):
        return made
    paths = views.instance_paths(database, request.study_uid)
    sources = [paths[uid] for uid in dict.fromkeys((*request.target.sop_uids, *request.reference.sop_uids))]
    number = series_number(
        request,
        views.requests(database, request.study_uid),
        (read_header(Path(path)) for path in views.one_instance_a_series(database, request.study_uid)),
        settings.output.series_number_offset,
    )
    headers = [read_header(Path(path)) for path in sources]
    encoded = encode(archive.open_result(key), headers, settings.output, settings.report, number)
    for mend in encoded.corrections:
        log.warning("derived.mended", study=request.study_uid, what=mend)
    return archive.put_derived(key, ((i.SOPInstanceUID, to_bytes(i)) for i in encoded.instances), encoded.page)
