"""The deliver stage: encode a result once, send what a destination has not accepted yet."""

from pathlib import Path

from node.archive import Archive
from node.config import Settings
from node.deliver.scu import send
from node.tracker.consume import Lease, Work
from node.tracker.orders import PairOrder
from node.tracker.outcomes import Outcome
from node.tracker.queue import Queue


def deliverer(queue: Queue, archive: Archive, settings: Settings) -> Work:
    """The deliver stage as a function of a lease."""

    def work(lease: Lease) -> Outcome:
        claim = lease.claim
        destination = settings.destination(claim.payload["destination"])
        order = PairOrder.model_validate(claim.payload["order"])
        pending = _pending(queue.database, claim.job_id)
        if pending is None:
            files = encode(queue.database, archive, claim.payload["result"], order, settings.output)
            pending = _enter(queue, claim.job_id, files)
        total = len(pending)
        for done, sent in enumerate(send([Path(p) for p in pending.values()], destination, settings.scp.ae_title), 1):
            _note(queue, claim.job_id, sent.sop_uid, sent.accepted, sent.words)
            lease.progress(done, total)
        return _judge(
            queue.database, claim.job_id, claim.attempts, destination.initial_delay_s, destination.max_delay_s
        )

    return work
