"""Associations that are open and have brought instances of a study: more of it may come, however long the pause."""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, delete, exists, select

from node.tracker import transitions
from node.tracker.audit import Action, Detail, audit
from node.tracker.handle import Tracker
from node.tracker.states import Kind, State
from node.tracker.tables import Job, OpenAssociation


def opened(tracker: Tracker, association: str, study_uid: str) -> None:
    """An association, named by a UUID, is about to bring the first instance of a study. A loss of power ends it, and may
    take its row."""
    with tracker.write(durable=False) as session:
        if session.get(OpenAssociation, (association, study_uid)) is None:
            now = tracker.clock()
            session.add(
                OpenAssociation(association=association, study_uid=study_uid, node=tracker.node, opened_at=now)
            )  # fmt: skip


def closed(tracker: Tracker, association: str, peer: str, brought: Mapping[str, Detail] | None = None) -> None:
    """An association has ended: the studies that it brought are looked at now. The match says when to look again. The audit trail
    has what was `brought`, in the same transaction. Without that a loss of power may undo it: a start forgets the association,
    and the studies are looked at when they are due."""
    now = tracker.clock()
    of_this = OpenAssociation.association == association
    with tracker.write(durable=brought is not None) as session:
        if brought is not None:
            audit(tracker, Action.ASSOCIATION, peer, details=brought, session=session)
        keys = [
            f"match:{uid}"
            for uid in session.scalars(
                select(OpenAssociation.study_uid).where(of_this).order_by(OpenAssociation.study_uid)
            )
        ]
        waiting = select(Job).where(Job.key.in_(keys), Job.kind == Kind.MATCH, Job.state == State.RECEIVING)
        for job in session.scalars(waiting.order_by(Job.id).with_for_update()).all():
            transitions.make_due(session, job, min(now, job.next_attempt_at or now))
        session.execute(delete(OpenAssociation).where(of_this))


def forget(tracker: Tracker) -> None:
    """Call this at the start of a node: the associations that it had before are gone."""
    with tracker.write() as session:
        session.execute(delete(OpenAssociation).where(OpenAssociation.node == tracker.node))


def is_open(study_uid: str) -> ColumnElement[bool]:
    """Whether an association that has brought instances of the study is open, as a condition of a query."""
    return exists().where(OpenAssociation.study_uid == study_uid)
