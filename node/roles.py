"""The roles of a service. `start` runs all of them in one service, `start --role` some of them on one host."""

from enum import StrEnum


class Role(StrEnum):
    RECEIVE = "receive"
    """The storage SCP, the reports on storage commitment that the node owes, and fetching."""
    MATCH = "match"
    INFER = "infer"
    """A process of its own for each device of the model."""
    DELIVER = "deliver"
    """Encode derived instances and send them to the destinations."""
    HOUSEKEEP = "housekeep"
    WEB = "web"
    """The page."""
