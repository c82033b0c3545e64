"""Whether the destinations answer: the last C-ECHO to each, asked from time to time by the service."""

from sqlalchemy import select

from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.tables import Echo
from node.tracker.views import Moment, View


class EchoRow(View):
    """The last C-ECHO to a destination."""

    at: Moment
    answered: bool
    sentence: str


def note_echo(tracker: Tracker, destination: str, answered: bool, sentence: str) -> None:
    """Keep what a destination answered, in place of its earlier answer."""
    with tracker.write() as session:
        row = session.get(Echo, destination) or Echo(destination=destination)
        row.at, row.answered, row.sentence = tracker.clock(), answered, sentence
        session.add(row)


def echoes(database: Database) -> dict[str, EchoRow]:
    """The last C-ECHO by the name of the destination."""
    with database.read() as session:
        rows = session.scalars(select(Echo))
        return {row.destination: EchoRow(at=row.at, answered=row.answered, sentence=row.sentence) for row in rows}
