"""Jobs of a small study, and how far they are."""

from dataclasses import replace
from typing import Any

from sqlalchemy import select

from node.payloads import PairRequest, StackRequest
from node.tracker import arrivals, queue, steps, views
from node.tracker.audit import Action
from node.tracker.handle import Tracker
from node.tracker.outcomes import Matched, NewJob
from node.tracker.queue import Claim
from node.tracker.states import Kind
from node.tracker.tables import Audit

from .conftest import Clock, arrival

QUIET_S = 10


def claimed(tracker: Tracker, kind: Kind, worker: str = "host/role/1") -> Claim:
    claim = queue.claim(tracker, kind, worker)
    assert claim is not None
    return claim


def infer_job(
    name: str = "a", revision: int = 2, target: str = "1.2.1", reference: str = "1.2.2", attempts: int = 3
) -> NewJob:
    return replace(steps.infer_job(f"infer:{name}", pair(target, reference), attempts), revision=revision)


def derive_job(parent: str = "a", revision: int = 2) -> NewJob:
    return replace(steps.derive_job(f"infer:{parent}", pair()), revision=revision)


def deliver_job(parent: str = "a", revision: int = 2) -> NewJob:
    return replace(steps.deliver_job(f"infer:{parent}", pair(), "pacs", 3), revision=revision)


def pair(target: str = "1.2.1", reference: str = "1.2.2") -> PairRequest:
    return PairRequest(
        study_uid="1.2",
        target=StackRequest(series_uid=target, contrast="T2", sop_uids=(f"{target}.1",)),
        reference=StackRequest(series_uid=reference, contrast="T1", sop_uids=(f"{reference}.1",)),
    )


def matched(tracker: Tracker, clock: Clock, *wanted: NewJob) -> None:
    """A study with one instance in each of two series, matched."""
    for series in ("1.2.1", "1.2.2"):
        arrivals.record(tracker, arrival(1, series), QUIET_S)
    clock.forward(QUIET_S)
    queue.settle(tracker, claimed(tracker, Kind.MATCH), Matched("paired", None, wanted))


def audited(tracker: Tracker, action: Action) -> list[tuple[str, str | None, dict[str, Any]]]:
    """(actor, study, details) of the rows of the audit trail with that action."""
    with tracker.read() as session:
        rows = session.scalars(select(Audit).where(Audit.action == action).order_by(Audit.id)).all()
    return [(row.actor, row.study_uid, row.details) for row in rows]


def states(tracker: Tracker, kind: Kind) -> list[str]:
    return [str(row.state) for row in views.jobs(tracker.database, kind=kind)]
