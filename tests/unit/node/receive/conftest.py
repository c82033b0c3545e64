"""The receive room with an archive and a tracker of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.archive.facade import Archive
from node.receive.store import Store
from node.tracker.database import Database
from node.tracker.queue import Queue


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "data")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    yield Queue(database)
    database.dispose()


@pytest.fixture
def store(archive: Archive, queue: Queue) -> Store:
    return Store(archive, queue, series_quiet_s=10)
