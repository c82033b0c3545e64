"""How a match ends: the jobs that it requests for its study are created or confirmed, all others are superseded."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.payloads import PairRequest
from node.tracker import transitions
from node.tracker.delivered import delivered
from node.tracker.outcomes import Matched, NewJob, Refused
from node.tracker.states import FINISHED, LEASED, Kind, State
from node.tracker.tables import Job

SUPERSEDED = "superseded: the series it was made from changed, or match differently now"


def settle(
    session: Session, now: datetime, job: Job, actor: str, matched_revision: int, outcome: Matched | Refused
) -> None:
    """A match ends `done`, `waiting-pair` or `refused`; in `receiving` when more arrived since `matched_revision`."""
    outgrown = job.revision != matched_revision
    job.result = None if outcome.verdict is None else outcome.verdict.to_json()
    receiving = outgrown or (isinstance(outcome, Matched) and outcome.receiving)
    before = delivered(session, job.study_uid)  # while what is being sent still counts
    supersede(session, now, job.study_uid, outcome.wanted, receiving, actor)
    for new in _naming_replaced(before, outcome.wanted):
        transitions.want(session, now, new, job.id, actor)
    transitions.begin_anew(job)
    if outgrown:  # the arrival has set when to look again
        transitions.move(
            session, now, job, State.RECEIVING, actor, "more instances arrived while the study was matched"
        )  # fmt: skip
    elif isinstance(outcome, Refused):
        job.error = f"{outcome.code}: {outcome.sentence}"
        transitions.move(session, now, job, State.REFUSED, actor, job.error)
    else:
        if outcome.look_again_at is not None:
            transitions.make_due(session, job, outcome.look_again_at)
        if outcome.receiving:
            state = State.RECEIVING
        elif outcome.waiting:
            state = State.WAITING_PAIR
            job.error = outcome.sentence
        else:
            state = State.DONE
        transitions.move(session, now, job, state, actor, outcome.sentence)


def _naming_replaced(before: Sequence[Job], wanted: Sequence[NewJob]) -> Iterator[NewJob]:
    """The jobs, each infer job with the delivered result that its own will replace: the latest of the same target that is
    no longer wanted."""
    keys = {new.key for new in wanted}
    for new in wanted:
        old = next((job for job in reversed(before) if _replaces(new, job) and job.key not in keys), None)
        if old is None:
            yield new
        else:
            yield replace(new, payload=new.payload | {"replaces": old.key})


def _replaces(new: NewJob, old: Job) -> bool:
    """Whether both are results of the same target, though its slices may have changed, or been sent again as another
    series."""
    targets = {new.target_series_uid, *new.twins_of_target}
    if new.kind is not Kind.INFER or new.key == old.key or old.target_series_uid not in targets:
        return False
    return _contrast(new.payload) == _contrast(old.payload)


def _contrast(payload: dict[str, Any]) -> str:
    """Of the target of a pair: one series may have several targets, of different contrasts."""
    return PairRequest.model_validate(payload).target.contrast


def supersede(
    session: Session, now: datetime, study_uid: str, wanted: Iterable[NewJob], receiving: bool, actor: str
) -> None:
    """Cancel the study's unfinished jobs that the newest match no longer requests, confirm those that it still
    requests, and continue those that an earlier match had superseded."""
    revisions = {new.key: new.revision for new in wanted}
    infers = select(Job).where(Job.study_uid == study_uid, Job.kind == Kind.INFER)
    for infer in session.scalars(infers.with_for_update()).all():
        for job in [infer, *_descendants(session, infer)]:
            if infer.key in revisions:
                job.revision = revisions[infer.key]
                if job.state is State.CANCELLED and job.error == SUPERSEDED:
                    _take_up(session, now, job, actor)
            elif job.state not in FINISHED:
                _cancel(session, now, job, actor, SUPERSEDED)
    fetches = select(Job).where(Job.study_uid == study_uid, Job.kind == Kind.FETCH, Job.state.not_in(FINISHED))
    for job in session.scalars(fetches.with_for_update()):
        # A running fetch continues: what it brings belongs to this study, and leads to the next match.
        if not receiving and job.key not in revisions and job.state not in LEASED:
            _cancel(session, now, job, actor, "superseded: the study has changed since, or no longer waits")


def _descendants(session: Session, job: Job) -> list[Job]:
    """What was made of a job's result, step by step."""
    found: list[Job] = []
    parents = [job.id]
    while parents:
        rows = select(Job).where(Job.parent_id.in_(parents)).order_by(Job.id).with_for_update()
        children = list(session.scalars(rows))
        found += children
        parents = [child.id for child in children]
    return found


def _cancel(session: Session, now: datetime, job: Job, actor: str, sentence: str) -> None:
    job.next_attempt_at = None
    job.error = sentence
    transitions.move(session, now, job, State.CANCELLED, actor, sentence)


def _take_up(session: Session, now: datetime, job: Job, actor: str) -> None:
    held = job.prior_state is State.HELD
    transitions.begin_anew(job)
    job.error = None
    transitions.make_due(session, job, now)
    transitions.move(session, now, job, State.READY, actor, "the series match again as before")
    if held:
        job.error, job.next_attempt_at = "held, as it was before it was superseded", None
        transitions.move(session, now, job, State.HELD, actor, job.error)
