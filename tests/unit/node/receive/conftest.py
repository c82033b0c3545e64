"""The receive stage with an archive and a tracker of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.archive.facade import Archive
from node.receive.store import Store
from node.tracker.database import Database
from node.tracker.handle import Tracker


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.in_folder(tmp_path / "data")


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Tracker]:
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    yield Tracker(database)
    database.dispose()


@pytest.fixture
def store(archive: Archive, tracker: Tracker) -> Store:
    return Store(archive, tracker, series_quiet_s=10)
