"""The service and its queue at a glance, with what needs somebody's attention."""

from collections.abc import Mapping
from datetime import UTC, datetime

from node import __version__
from node.config.settings import Settings
from node.roles import Role, RunningRole
from node.tracker.blocked import BlockedJob, blocked
from node.tracker.database import Database
from node.tracker.states import Kind, State
from node.tracker.views import Totals, View, conflicts, job_counts, totals


class Listener(View):
    """Where the storage SCP listens."""

    ae_title: str
    host: str
    port: int


class Status(View):
    """The service and the queue at a glance."""

    running: bool
    version: str
    roles: dict[Role, RunningRole]
    """The roles that run on this host, each with what it says about itself."""
    scp: Listener
    destinations: tuple[str, ...]
    received: Totals
    jobs: dict[Kind, dict[State, int]]
    blocked: tuple[BlockedJob, ...]
    """Jobs that are due and that no worker takes."""
    conflicts: int
    """How often an instance was refused because it came again with other pixels under the same UID."""


def status(database: Database, settings: Settings, roles: Mapping[Role, RunningRole]) -> Status:
    """The service, by the roles that run on this host, and the queue."""
    return Status(
        running=bool(roles),
        version=__version__,
        roles=dict(roles),
        scp=Listener(ae_title=settings.scp.ae_title, host=settings.scp.host, port=settings.scp.port),
        destinations=tuple(destination.name for destination in settings.destinations),
        received=totals(database),
        jobs=job_counts(database),
        blocked=tuple(blocked_jobs(database, settings)),
        conflicts=conflicts(database),
    )


def blocked_jobs(database: Database, settings: Settings) -> list[BlockedJob]:
    """The jobs that are due and that no worker takes with this configuration."""
    return blocked(database, datetime.now(UTC), unserved_kinds(settings))


def unserved_kinds(settings: Settings) -> frozenset[Kind]:
    """The kinds of jobs that the configuration has no worker for."""
    return frozenset() if settings.fetch else frozenset({Kind.FETCH})
