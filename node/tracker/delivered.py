"""Which results of a study people may have seen: those that were delivered, whole or in part."""

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from node.payloads import PairRequest
from node.tracker.handle import Tracker
from node.tracker.states import Kind, State
from node.tracker.steps import result_of
from node.tracker.tables import Delivery, Job


def delivered(session: Session, study_uid: str) -> list[Job]:
    """The infer jobs of a study whose results, or a part of them, a destination has or may have, oldest first. Where a result
    is delivered to nobody, it counts as delivered once it is derived."""
    jobs = session.scalars(select(Job).where(Job.study_uid == study_uid).order_by(Job.id)).all()
    sent = [job.id for job in jobs if job.kind is Kind.DELIVER]
    rows = select(Delivery.job_id).where(
        Delivery.job_id.in_(sent), or_(Delivery.accepted, Delivery.status.is_not(None))
    )
    begun = set(session.scalars(rows.distinct()))
    begun |= {job.id for job in jobs if job.kind is Kind.DELIVER and job.state in {State.SENDING, State.DONE}}
    seen = {result_of(job)[0] for job in jobs if job.id in begun}
    awaited = {result_of(job)[0] for job in jobs if job.kind is Kind.DELIVER}
    derived = {result_of(job)[0] for job in jobs if job.kind is Kind.DERIVE and job.state is State.DONE}
    return [job for job in jobs if job.kind is Kind.INFER and job.key in seen | (derived - awaited)]


def delivered_pairs(tracker: Tracker, study_uid: str) -> dict[str, PairRequest]:
    """The pairs of a study whose results were delivered, by the key of their infer job, oldest first."""
    with tracker.read() as session:
        return {job.key: PairRequest.model_validate(job.payload) for job in delivered(session, study_uid)}
