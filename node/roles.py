"""The roles of a service. `start` runs all of them in one service, `start --role` some of them on one host."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


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


class RunningRole(BaseModel):
    """A role that runs on this host. Both are unknown while its process is starting."""

    model_config = ConfigDict(frozen=True)

    pid: int | None = None
    since: str | None = None
    """ISO 8601, in UTC."""
