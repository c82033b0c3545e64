"""Which job is next. Each state is looked up for itself, because an index that begins with kind and state gives its jobs in the
order in which they are due: a backlog of any length costs the same. The statements are made once, since SQLAlchemy takes
longer to make one than the database to execute it."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, or_, select, union_all

from node.tracker import pauses
from node.tracker.states import CLAIMABLE, Kind, State
from node.tracker.tables import Job, Pause, Series, UTCDateTime

_AT_A_TIME = 8
"""Of each state. Workers of several hosts pass over what another one is just taking."""

_MEMBERS = (
    select(func.coalesce(func.sum(Series.instances + Series.changes), 0))
    .where(
        Series.study_uid == Job.study_uid,
        or_(Series.series_uid == Job.target_series_uid, Series.series_uid == Job.reference_series_uid),
    )
    .correlate(Job)
    .scalar_subquery()
)
"""What `Job.revision` is for a job's target and reference series now, see `Series.revision`."""

GROWN = and_(Job.kind != Kind.MATCH, Job.revision != _MEMBERS)
"""Whether the series of a job have changed since they were matched: a claim passes the job over until the next match decides."""


@dataclass(frozen=True)
class Destinations:
    """Some of the destinations that deliveries have: those named, or all but those."""

    names: frozenset[str]
    others: bool = False

    @property
    def one(self) -> str | None:
        """The destination, when it is a single one."""
        return next(iter(self.names)) if len(self.names) == 1 and not self.others else None


@cache
def first(kind: Kind, destinations: Destinations | None) -> Select[Job]:
    """The job that has been due longest at the parameter `now`, locked; none while all of them are paused."""
    now = bindparam("now", type_=UTCDateTime())
    parts: list[Any] = []
    for state in sorted(CLAIMABLE):
        waits = _waits(kind, state, destinations)
        if kind is not Kind.MATCH:
            waits = and_(waits, ~GROWN)
        for is_due in (Job.next_attempt_at.is_(None), Job.next_attempt_at <= now):
            part = (
                select(Job.id).where(waits, is_due).order_by(Job.next_attempt_at, Job.id).limit(_AT_A_TIME).subquery()
            )
            parts.append(select(part.c.id))
    waiting = union_all(*parts).subquery()
    # The state once more: PostgreSQL looks at it again when another worker has changed the row just before it is locked. The
    # kind of a job never changes; to name it here would have SQLite read all jobs of that kind.
    found = select(Job).join(waiting, Job.id == waiting.c.id).where(Job.state.in_(CLAIMABLE))
    what = pauses.pausing(kind, None if destinations is None else destinations.one)
    if what is not None:
        found = found.where(~exists().where(Pause.what == what))
    return found.order_by(Job.next_attempt_at, Job.id).limit(1).with_for_update(skip_locked=True, of=Job)


@cache
def earliest(kind: Kind, destinations: Destinations | None) -> Select[Any]:
    """When the first job of each state is due; None for a state that none is in."""
    columns: list[Any] = []
    for state in sorted(CLAIMABLE):
        waits = _waits(kind, state, destinations)
        columns.append(select(func.min(Job.next_attempt_at)).where(waits).scalar_subquery())
        columns.append(select(func.min(Job.created_at)).where(waits, Job.next_attempt_at.is_(None)).scalar_subquery())
    return select(*columns)


def _waits(kind: Kind, state: State, destinations: Destinations | None) -> ColumnElement[bool]:
    """The jobs of a kind and of some destinations that wait for a worker in that state, due or not."""
    waits: list[ColumnElement[bool]] = [Job.kind == kind, Job.state == state]
    if destinations is not None and destinations.one is not None:
        waits.append(Job.destination == destinations.one)
    elif destinations is not None:
        named = Job.destination.in_(destinations.names)
        waits.append(or_(Job.destination.is_(None), ~named) if destinations.others else named)
    if kind is Kind.DELIVER and (destinations is None or destinations.one is None):
        waits.append(~pauses.is_paused())  # some of them may be; a single one is asked about as a whole
    return and_(*waits)
