"""The deliver stage: encode a result as a derived series, send each destination what it has not accepted yet."""

from pathlib import Path

import structlog

from node.archive import Archive, read_header
from node.config import OutputSettings, Settings
from node.deliver.encode import encode
from node.deliver.identifiers import series_number
from node.deliver.scu import Sent, send
from node.deliver.transfer_syntax import to_bytes
from node.dimse.status import Verdict
from node.errors import PeerError
from node.tracker import deliveries, views
from node.tracker.consume import Lease, Work
from node.tracker.database import Database
from node.tracker.orders import PairOrder
from node.tracker.outcomes import Done, Failed, Outcome, Retry
from node.tracker.queue import Queue, backoff_s

log = structlog.get_logger()

PATIENCE_WITH_REFUSALS = 3
"""A PACS in trouble may refuse what it takes a minute later, so a refusal is believed when it has been repeated."""


def deliverer(queue: Queue, archive: Archive, settings: Settings) -> Work:
    """The deliver stage as a function of a lease."""

    def work(lease: Lease) -> Outcome:
        claim = lease.claim
        destination = settings.destination(claim.payload["destination"])
        if not deliveries.entered(queue, claim):
            order = PairOrder.model_validate(claim.payload["order"])
            files = derive(queue.database, archive, claim.payload["result"], order, settings.output)
            deliveries.enter(queue, claim, files)
        rows = deliveries.entered(queue, claim)
        waiting = [Path(row.path) for row in rows if not row.accepted]
        answers: list[Sent] = []
        delay_s = backoff_s(claim.attempts, destination.initial_delay_s, destination.max_delay_s)
        try:
            for sent in send(waiting, destination, settings.scp.ae_title):
                deliveries.note(queue, claim, sent.sop_uid, sent.accepted, sent.words)
                answers.append(sent)
                lease.progress(len(rows) - len(waiting) + len(answers), len(rows))
        except PeerError as error:
            return Retry(str(error), delay_s)
        return _outcome(answers, len(rows), claim.attempts, destination.name, delay_s)

    return work


def _outcome(answers: list[Sent], total: int, attempts: int, destination: str, delay_s: float) -> Outcome:
    """Done only when every instance was accepted."""
    open_ = [sent for sent in answers if not sent.accepted]
    if not open_:
        return Done(f"{destination} has accepted all {total} instances", {"instances": total})
    error = f"{destination} did not accept {len(open_)} of {total} instances: {open_[0].words}"
    if attempts >= PATIENCE_WITH_REFUSALS and all(sent.verdict is Verdict.REFUSED for sent in open_):
        return Failed(f"{error}; it will not take them as they are, see its log; then: diffmsr-node queue retry")
    return Retry(error, delay_s)


def derive(
    database: Database, archive: Archive, key: str, order: PairOrder, settings: OutputSettings
) -> dict[str, Path]:
    """Encode the result `key` into the archive, once for all destinations; SOP instance UID to file, in the order to
    be sent."""
    if made := archive.derived(key):
        return made
    paths = views.instance_paths(database, order.study_uid)
    sources = [paths[uid] for uid in dict.fromkeys((*order.target.sop_uids, *order.reference.sop_uids))]
    number = series_number(
        order,
        views.orders(database, order.study_uid),
        (read_header(Path(path)) for path in views.one_instance_a_series(database, order.study_uid)),
        settings.series_number_offset,
    )
    encoded = encode(archive.open_result(key), [read_header(Path(path)) for path in sources], settings, number)
    for mend in encoded.mends:
        log.warning("derived.mended", study=order.study_uid, what=mend)
    return archive.put_derived(key, ((i.SOPInstanceUID, to_bytes(i)) for i in encoded.instances))
