"""What an administrator has paused: inference, or deliveries to one destination. It is a row, so it survives a restart and
holds for every process that works on the tracker."""

from sqlalchemy import ColumnElement, case, exists, literal, select
from sqlalchemy.orm import Session

from node.tracker import transitions
from node.tracker.audit import Action, audit
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import Kind
from node.tracker.tables import Job, Pause
from node.tracker.views import Moment, View

INFERENCE = "inference"
_DELIVERIES = "deliveries to "


class PauseRow(View):
    """Something that is paused."""

    what: str
    since: Moment
    actor: str


def deliveries_to(destination: str) -> str:
    """What pauses one destination."""
    return f"{_DELIVERIES}{destination}"


def pause(tracker: Tracker, what: str, actor: str) -> None:
    """Begin no more jobs of that kind; work in progress is finished. Pausing what is paused changes nothing."""
    with tracker.write() as session:
        if session.get(Pause, what) is None:
            session.add(Pause(what=what, since=tracker.clock(), actor=actor))
            audit(tracker, Action.ADMINISTERED, actor, details={"paused": what}, session=session)


def resume(tracker: Tracker, what: str, actor: str) -> None:
    """Go on with it, at once. Resuming what is not paused changes nothing."""
    with tracker.write() as session:
        found = session.get(Pause, what)
        if found is not None:
            session.delete(found)
            transitions.wake(session, Kind.INFER if what == INFERENCE else Kind.DELIVER)
            audit(tracker, Action.ADMINISTERED, actor, details={"resumed": what}, session=session)


def paused(database: Database) -> dict[str, PauseRow]:
    """Everything that is paused, by its name."""
    with database.read() as session:
        rows = session.scalars(select(Pause).order_by(Pause.what))
        return {row.what: PauseRow(what=row.what, since=row.since, actor=row.actor) for row in rows}


def all_paused(session: Session, kind: Kind, destination: str | None) -> bool:
    """Whether no job of a kind may be begun now, of deliveries those to that destination."""
    what = pausing(kind, destination)
    return what is not None and session.get(Pause, what) is not None


def pausing(kind: Kind, destination: str | None) -> str | None:
    """What is paused where no job of a kind may be begun, of deliveries those to that destination. None where nothing pauses
    all of them at once."""
    if kind is Kind.INFER:
        return INFERENCE
    return deliveries_to(destination) if kind is Kind.DELIVER and destination is not None else None


def is_paused() -> ColumnElement[bool]:
    """Whether a job must not be begun now, as a condition of a query on jobs."""
    what = case(
        (Job.kind == Kind.INFER, literal(INFERENCE)),
        (Job.kind == Kind.DELIVER, literal(_DELIVERIES).concat(Job.destination)),
    )
    return exists().where(Pause.what == what)
