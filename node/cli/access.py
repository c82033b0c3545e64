"""The settings and the tracker that commands open."""

import os
from pathlib import Path

from node.config.loading import load_settings
from node.config.place import find_config
from node.config.settings import Settings
from node.errors import ConfigError, NodeError, ServiceNotRunningError
from node.identity import node_id
from node.tracker.database import Database
from node.tracker.handle import Tracker


def open_tracker(settings: Settings) -> Database:
    """The tracker, which must exist and be of this version."""
    folder = settings.node.data_dir
    sqlite = folder / "tracker.sqlite3"
    embedded = settings.node.url == f"sqlite:///{sqlite}"
    hidden = not os.access(folder.parent, os.X_OK)
    if embedded and (hidden or folder.exists()) and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        # SQLite writes beside its file even for a process that only reads.
        raise ConfigError(
            f"[node] data_dir: this account may not read and write in {folder}; use the account of the service"
        )
    if embedded and not sqlite.exists():
        raise ServiceNotRunningError(f"there is no tracker at {sqlite} yet; start the service with: diffmsr-node start")
    database = Database(settings.node.url)
    current, expected = database.revision()
    if current is None:
        raise NodeError("the tracker is empty: diffmsr-node start makes its tables, or says what was there before")
    if current != expected:
        raise NodeError(
            f"the tracker has schema {current}, but this version expects {expected}; diffmsr-node start upgrades it"
        )
    return database


def acting(settings: Settings) -> Tracker:
    """The tracker, for a command that changes something: its audit rows name this node."""
    return Tracker(open_tracker(settings), node=node_id(settings.node.data_dir))


def settings_or_defaults(config: Path | None) -> Settings:
    """For commands on a folder, which need no configuration: the one that is named or found, else the defaults."""
    try:
        path = find_config(config)
    except ConfigError:
        if config is not None:
            raise
        return Settings()
    return load_settings(path)
