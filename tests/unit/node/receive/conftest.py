"""The receive stage with an archive and a tracker of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.archive.facade import Archive
from node.config.settings import SCPSettings
from node.receive.commitment_scp import Commitments
from node.receive.server import Receiver
from node.receive.store import Store
from node.tracker.database import Database
from node.tracker.handle import Tracker
from tests.conftest import free_port


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


@pytest.fixture
def commitments(tracker: Tracker, archive: Archive) -> Commitments:
    return Commitments(tracker, archive, [], "DIFFMSR")


@pytest.fixture(params=["fast", "stock"])
def settings(request: pytest.FixtureRequest) -> SCPSettings:
    return SCPSettings(host="127.0.0.1", port=free_port(), data_path=request.param)


@pytest.fixture
def receiver(settings: SCPSettings, store: Store, commitments: Commitments) -> Iterator[Receiver]:
    receiver = Receiver(settings, [], store, commitments)
    receiver.start()
    yield receiver
    receiver.stop(1)
