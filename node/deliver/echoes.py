"""Whether the destinations answer: a C-ECHO to each from time to time, so that the dashboard shows it before a delivery fails."""

from node.config.settings import Settings
from node.deliver.transport import verify
from node.errors import PeerError
from node.tracker import peers
from node.tracker.handle import Tracker

ECHO_EVERY_S = 300


def echo_destinations(tracker: Tracker, settings: Settings) -> None:
    """Ask each destination, one after the other, and keep what it answered."""
    for destination in settings.destinations:
        try:
            verify(destination, settings.scp.ae_title)
            peers.note_echo(tracker, destination.name, True, "answered")
        except PeerError as error:
            peers.note_echo(tracker, destination.name, False, str(error))
