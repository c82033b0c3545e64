"""A tracker after an accident: emptied, exchanged, damaged. It is never taken for a new one, and is made again."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from node import checks
from node.archive.facade import Archive
from node.checks import Level
from node.cli.app import app
from node.config.loading import load_settings
from node.config.settings import Settings
from node.errors import ConfigError, NodeError
from node.locks import only_one
from node.receive.store import Status, Store
from node.roles import Role
from node.tracker import identity, queue, views
from node.tracker.audit import Action, audit
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.instances import of_study
from node.tracker.outcomes import Done, NewJob
from node.tracker.states import Kind, State
from node.tracker.tables import Audit
from tests.dicom import mr_series
from tests.unit.node.receive.storing import sent


class Site:
    """A data folder with three instances of a study, and a delivery that is done."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "node.toml"
        self.config.write_text('node.data_dir = "data"\nstorage.reserve_gb = 0\n')
        self.settings: Settings = load_settings(self.config)
        self.data = self.settings.node.data_dir
        self.path = self.data / "tracker.sqlite3"
        self.archive = Archive.of(self.settings)
        self.series = mr_series(3)
        self.study = str(self.series[0].StudyInstanceUID)
        database = Database(self.settings.node.url)
        database.upgrade()
        identity.confirm(database, self.data)
        tracker = Tracker(database)
        for ds in self.series:
            assert Store(self.archive, tracker, 10).put(sent(ds)) is Status.SUCCESS
        queue.enqueue(tracker, NewJob(Kind.DELIVER, "infer:1:pacs", self.study, {}, 3, destination="pacs"), "test")
        claim = queue.claim(tracker, Kind.DELIVER, "host/deliver/1")
        assert claim is not None
        queue.settle(tracker, claim, Done("accepted"))
        audit(tracker, Action.SENT, "host/deliver/1", self.study, {"destination": "pacs", "instances": 3})
        database.dispose()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def run(self, *arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--config", str(self.config)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    def whole(self) -> checks.Check:
        return checks.tracker_whole(self.settings)

    def tracker(self) -> Tracker:
        return Tracker(Database(self.settings.node.url))

    def instances(self) -> int:
        return sum(stored.is_intact() for stored in of_study(self.tracker(), self.archive, self.study).values())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def exchange(path: Path) -> None:
    path.unlink()
    other = Database(f"sqlite:///{path}")
    other.upgrade()
    other.dispose()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    page = 4096
    for at in range(8 * page, len(content) - page, 3 * page):
        content[at : at + page] = b"\xff" * page
    path.write_bytes(content)


def another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 252006674")
        connection.execute("CREATE TABLE other (x)")


def another_program_without_a_name(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE job (x)")


@pytest.mark.parametrize(
    ("accident", "says"),
    [
        (empty, "is empty: this data folder has worked with tracker"),
        (Path.unlink, "is empty: this data folder has worked with tracker"),
        (exchange, "is another one: this data folder has worked with tracker"),
        (damage, "is damaged"),
        (another_program, "another program made it"),
        (another_program_without_a_name, "another program made it (it has a table job)"),
        (lambda path: path.write_bytes(b"no database at all" * 1000), "file is not a database"),
    ],
    ids=[
        "emptied",
        "removed",
        "exchanged",
        "damaged",
        "another program's",
        "another program's without a name",
        "overwritten",
    ],
)
def test_it_is_not_taken_for_a_new_one_and_is_made_again(site: Site, accident: object, says: str) -> None:
    assert site.whole().level is Level.OK
    accident(site.path)  # type: ignore[operator]
    answer = site.whole()
    assert answer.level is Level.FAIL and says in answer.sentence, answer
    assert "db restore" in answer.says and "db rebuild" in answer.says
    site.run("db", "rebuild", "--yes")
    assert site.whole().level is Level.OK
    assert site.instances() == 3
    assert views.jobs(site.tracker().database, kind=Kind.MATCH), "the study is matched"
    assert list(site.data.glob("tracker.sqlite3.set-aside-*")) or accident is Path.unlink, "nothing is overwritten"


def test_what_can_be_read_of_a_damaged_one_is_kept(site: Site) -> None:
    """The file is sound except for the pages of the instances' index."""
    with closing(sqlite3.connect(site.path)) as connection:
        connection.execute("DELETE FROM instance WHERE rowid = (SELECT max(rowid) FROM instance)")
        connection.commit()
    output = site.run("db", "rebuild", "--yes")
    assert "2 instance" in output and "1 instances are entered" in output
    tracker = site.tracker()
    assert site.instances() == 3
    (delivery,) = views.jobs(tracker.database, kind=Kind.DELIVER)
    assert delivery.state is State.DONE, "it is not made again"
    with tracker.read() as session:
        assert session.scalars(select(Audit).where(Audit.action == Action.SENT)).one().details["destination"] == "pacs"


def test_a_backup_takes_its_place_and_what_came_since_is_entered(site: Site, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    site.run("db", "backup", str(backup))
    (late,) = mr_series(1, study_uid="1.2.826.99")
    tracker = site.tracker()
    assert Store(site.archive, tracker, 10).put(sent(late)) is Status.SUCCESS
    damage(site.path)
    output = site.run("db", "restore", str(backup), "--yes")
    assert "set-aside" in output
    assert site.whole().level is Level.OK
    assert site.instances() == 3
    assert (site.data / "receiving").exists(), "the next start looks for instances without rows"


def test_only_a_stopped_service_lets_its_tracker_go(site: Site, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    with only_one(site.data, [Role.MATCH]):
        site.run("db", "backup", str(backup))
        for command in (("restore", str(backup)), ("rebuild",)):
            with pytest.raises(NodeError, match=r"the service is running \(match\)"):
                site.run("db", *command, "--yes")


def test_a_backup_that_is_none_changes_nothing(site: Site, tmp_path: Path) -> None:
    for name, content in (("missing", None), ("empty", b""), ("garbage", b"x" * 9000)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=f"{name} (is missing|cannot be used)"):
            site.run("db", "restore", str(tmp_path / name), "--yes")
    assert site.whole().level is Level.OK
    assert {path.name for path in site.data.glob("tracker*")} <= {"tracker.sqlite3", "tracker-id", "tracker.sqlite3-wal", "tracker.sqlite3-shm"}  # fmt: skip


def test_a_backup_says_how_far_it_is_and_leaves_no_half(tmp_path: Path) -> None:
    site, backup = Site(tmp_path), tmp_path / "backup.sqlite3"
    heard: list[tuple[int, int]] = []
    database = Database(site.settings.node.url)
    database.backup(backup, lambda done, total: heard.append((done, total)))
    assert heard[-1] == (backup.stat().st_size, site.path.stat().st_size)
    backup.unlink()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database.backup(backup, interrupt)
    assert not backup.exists()
    nothing = Database(f"sqlite:///{tmp_path}/none.sqlite3")
    with pytest.raises(ConfigError, match="there is no tracker at"):
        nothing.backup(backup)
    assert not backup.exists() and not (tmp_path / "none.sqlite3").exists(), "looking makes none"
