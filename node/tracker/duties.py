"""What only one host may do at a time, although several could: housekeeping, and sending audit messages. A node holds a duty for
a while and renews it while it lives; when it falls silent, another one takes the duty over."""

from datetime import timedelta
from enum import StrEnum

import structlog
from sqlalchemy import select, update

from node.errors import LeaseLostError, NodeError
from node.tracker.handle import Tracker
from node.tracker.tables import Duty

log = structlog.get_logger()

HELD_FOR = timedelta(seconds=60)


class Name(StrEnum):
    HOUSEKEEPING = "housekeeping"
    AUDIT_MESSAGES = "audit messages"


def take(tracker: Tracker, name: Name) -> bool:
    """Take a duty, or keep it; False while another node holds it."""
    now = tracker.clock()
    with tracker.read() as session:  # most often nothing has to be written
        duty = session.get(Duty, name)
        if duty is not None and duty.until > now:
            if duty.holder != tracker.node:
                return False
            if duty.until - now > HELD_FOR / 2:
                return True
    with tracker.write() as session:
        duty = session.get(Duty, name, with_for_update=True)
        if duty is None:
            session.add(Duty(name=name, holder=tracker.node, until=now + HELD_FOR, position=0))
            return True
        if duty.holder != tracker.node and duty.until > now:
            return False
        duty.holder, duty.until = tracker.node, now + HELD_FOR
    return True


def try_release(tracker: Tracker) -> None:
    """Let another node take over at once what this node holds. If the tracker does not answer, it waits a little longer."""
    now = tracker.clock()
    try:
        with tracker.write() as session:
            session.execute(update(Duty).where(Duty.holder == tracker.node, Duty.until > now).values(until=now))
    except NodeError as error:
        log.warning("duties.not_released", reason=str(error))


def position(tracker: Tracker, name: Name) -> int:
    """How far the duty is; 0 when nobody has begun it."""
    with tracker.read() as session:
        return session.scalar(select(Duty.position).where(Duty.name == name)) or 0


def advance(tracker: Tracker, name: Name, position: int) -> None:
    """Remember how far it is. LeaseLostError when another node has taken over: that one goes on from its own position."""
    with tracker.write() as session:
        done = update(Duty).where(Duty.name == name, Duty.holder == tracker.node).values(position=position)
        if session.connection().execute(done).rowcount == 0:
            raise LeaseLostError(f"another node has taken over {name}")
