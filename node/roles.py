"""What a process of the service can do. `start` runs all roles in one service, `start --role` some of them on a host."""

from enum import StrEnum


class Role(StrEnum):
    RECEIVE = "receive"
    """The storage SCP, the reports of storage commitment that we owe, and what is fetched."""
    MATCH = "match"
    INFER = "infer"
    """A process of its own for each device of the model."""
    DELIVER = "deliver"
    """Derived instances are made, and sent to the destinations."""
    HOUSEKEEP = "housekeep"
    WEB = "web"
    """The page."""
