"""What has to be so before the node can work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text

from node import checks
from node.checks import Level
from node.config.settings import DestinationSettings, ModelSettings, NodeSettings, Settings, StorageSettings
from node.errors import ConfigError
from node.tracker.database import Database, DatabaseError

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        node=NodeSettings(data_dir=tmp_path / "data"), destinations=[PACS], storage=StorageSettings(reserve_gb=0)
    )


def changed(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update=changes)


def test_a_good_configuration_passes_every_check_before_and_after_its_first_start(settings: Settings) -> None:
    for _ in range(2):
        answers = checks.run(settings)
        assert [(a.name, a.level, a.fix) for a in answers if a.level is not Level.OK] == []
        assert len(answers) == len(checks.PRECONDITIONS)
        checks.require(answers)
        Database(settings.node.url).upgrade()


def test_nothing_is_left_behind_by_looking(settings: Settings) -> None:
    checks.run(settings)
    left = {path.name for path in settings.node.data_dir.rglob("*") if path.is_file()}
    assert left <= {"tracker.sqlite3"}, "folders are made, and a database file where none was"


def test_a_data_folder_that_cannot_be_written(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (answer,) = checks.run(changed(settings, node=NodeSettings(data_dir=tmp_path / "file" / "data")))
    assert answer.level is Level.FAIL
    with pytest.raises(ConfigError, match=r"\[node\] data_dir: cannot make or write .*; name a folder"):
        checks.require([answer])


FOREIGN = """
import sys
from pathlib import Path
from node import checks
from node.config.settings import NodeSettings, Settings
folder = Path(sys.argv[1])
print(checks.data_folder(Settings(node=NodeSettings(data_dir=folder))).says)
for name in ("instances", "derived", "tracker.sqlite3", "service-receive-vm.lock"):
    path = folder / name
    path.mkdir() if "." not in name else path.touch()
    path.chmod(0)
    print(checks.data_folder(Settings(node=NodeSettings(data_dir=folder))).says)
    path.chmod(0o700)
"""


def test_a_data_folder_with_files_of_another_account(tmp_path: Path) -> None:
    without_power = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    said = subprocess.run(
        [*without_power, sys.executable, "-c", FOREIGN, tmp_path], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said.pop(0) == f"{tmp_path} can be written"
    for name, sentence in zip(
        ("instances", "derived", "tracker.sqlite3", "service-receive-vm.lock"), said, strict=True
    ):
        assert f"this account may not read and write {tmp_path / name}; use the account of the service" in sentence


def test_sqlite_on_a_network_file_system(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_mount_of", lambda folder: ("/mnt/share", "nfs4"))
    answer = checks.tracker_place(settings)
    assert answer.level is Level.FAIL
    assert "/mnt/share (nfs4)" in answer.says
    server = changed(settings, node=NodeSettings(data_dir=settings.node.data_dir, database_url="postgresql://x/y"))
    assert checks.tracker_place(server).level is Level.OK


def test_a_database_that_does_not_answer(settings: Settings, tmp_path: Path) -> None:
    node = NodeSettings(data_dir=tmp_path, database_url="postgresql+psycopg://nobody@127.0.0.1:1/none")
    answer = checks.tracker(changed(settings, node=node))
    assert answer.level is Level.FAIL
    with pytest.raises(DatabaseError, match="does not answer"):
        checks.require([answer])


def test_a_tracker_of_a_later_version(settings: Settings) -> None:
    database = Database(settings.node.url)
    database.upgrade()
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    answer = checks.tracker(settings)
    assert answer.level is Level.FAIL
    assert "schema 9999" in answer.sentence


def test_weights_that_are_not_there(settings: Settings, tmp_path: Path) -> None:
    answer = checks.model(changed(settings, model=ModelSettings(path=tmp_path / "nowhere")))
    assert answer.level is Level.FAIL
    assert "nowhere" in answer.sentence


def test_what_somebody_should_know_is_logged_and_stops_nothing(settings: Settings) -> None:
    answers = [
        checks.destinations(changed(settings, destinations=[])),
        checks.disk_space(changed(settings, storage=StorageSettings(reserve_gb=1e9))),
    ]
    assert [a.level for a in answers] == [Level.WARN, Level.WARN]
    with structlog.testing.capture_logs() as logs:
        checks.require(answers)
    assert [(entry["event"], entry["check"]) for entry in logs] == [
        ("check.warned", "destinations"), ("check.warned", "disk space"),
    ]  # fmt: skip
