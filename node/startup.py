"""What a start does before any role works."""

import hashlib
from collections.abc import Collection
from pathlib import Path

import structlog

from node import __version__
from node.archive.facade import Archive
from node.config.settings import Settings
from node.identity import workers_of
from node.roles import Role
from node.tracker import associations, queue
from node.tracker.audit import Action, Detail, audit
from node.tracker.handle import Tracker

log = structlog.get_logger()


def record_configuration(
    tracker: Tracker, action: Action, settings: Settings, path: Path, roles: Collection[Role]
) -> None:
    """Leave in the audit trail what this process works with. The digest tells whether it is what it was before."""
    digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
    details: dict[str, Detail] = {"path": str(path), "sha256": digest, "version": __version__}
    details["roles"] = [role.value for role in roles]
    audit(tracker, action, "start", details=details)


def clean_up(tracker: Tracker, archive: Archive, settings: Settings, roles: Collection[Role]) -> None:
    """What a crash left: half-written files of instances never acknowledged, and jobs whose workers are gone. The caller holds
    the lock of `only_one`, so every worker of these roles of this node is dead."""
    mine = tuple(workers_of(settings.node.data_dir, role) for role in roles)
    rescued = queue.rescue(tracker, dead=lambda worker: worker.startswith(mine), actor="start")
    if Role.RECEIVE in roles:
        associations.forget(tracker)
    discarded = archive.discard_incoming() if Role.RECEIVE in roles else 0
    if rescued or discarded:
        log.warning("service.recovered", jobs=rescued, unfinished_files=discarded)
