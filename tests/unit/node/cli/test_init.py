"""Setting up: the configuration with what was asked for, a unit that systemd accepts, and the database kept safe."""

import os
import pty
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import text
from typer.testing import CliRunner

from node.cli import init as cli_init
from node.cli.app import app
from node.config.loading import load_settings
from node.tracker import schema
from node.tracker.database import Database
from tests.conftest import require

UNIT = Path(__file__).parents[4] / "deploy" / "diffmsr-node.service"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not the units of this machine."""
    folder = tmp_path / "units"
    folder.mkdir()
    monkeypatch.setattr(cli_init, "UNITS", folder)
    return folder


def test_three_settings_make_a_configuration(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    done = run(
        "init", "--config", config, "--data-dir", tmp_path / "data", "--ae-title", "SR1", "--pacs", "PACS@10.0.0.10:104"
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "next: diffmsr-node doctor; diffmsr-node start"
    settings = load_settings(config)
    (pacs,) = settings.destinations
    assert (settings.scp.ae_title, settings.node.data_dir) == ("SR1", tmp_path / "data")
    assert (pacs.name, pacs.ae_title, pacs.host, pacs.port) == ("pacs", "PACS", "10.0.0.10", 104)
    assert run("init", "--config", tmp_path / "other.toml", "--pacs", "PACS").exit_code == 2


def test_a_setting_that_cannot_be_leaves_the_configuration_as_it_was(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    done = run("init", "--config", config, "--data-dir", tmp_path / "data", "--ae-title", "AN_AE_TITLE_TOO_LONG")
    assert "an AE title is 1 to 16" in str(done.exception)
    assert not config.exists()
    config.write_text("[scp]\n")
    run("init", "--force", "--config", config, "--data-dir", tmp_path / "data", "--pacs", "PACS@10.0.0.10:99999")
    assert config.read_text() == "[scp]\n"
    assert not (tmp_path / "node.toml.bak").exists()


def test_on_a_terminal_it_asks_for_the_three_settings(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    child, terminal = pty.fork()
    if child == 0:
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
        try:
            app(["init", "--config", str(config)], standalone_mode=False)
        finally:
            os._exit(0)
    os.write(terminal, f"{tmp_path / 'data'}\nSR1\nPACS@10.0.0.10:104\n".encode())
    said = b""
    with suppress(OSError):  # the end of a terminal
        while part := os.read(terminal, 1024):
            said += part
    os.waitpid(child, 0)
    settings = load_settings(config)
    assert (settings.node.data_dir, settings.scp.ae_title) == (tmp_path / "data", "SR1")
    assert [(d.ae_title, d.host, d.port) for d in settings.destinations] == [("PACS", "10.0.0.10", 104)]
    assert b"AE title of this node [DIFFMSR]" in said


def test_what_is_replaced_is_kept(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("# mine\n")
    assert "exists already" in str(run("init", "--config", config, "--data-dir", tmp_path / "data").exception)
    assert run("init", "--config", config, "--data-dir", tmp_path / "data", "--force").exit_code == 0
    assert (tmp_path / "node.toml.bak").read_text() == "# mine\n"


def test_the_unit_has_the_paths_of_the_installation(tmp_path: Path, units: Path) -> None:
    config = tmp_path / "node.toml"
    done = run("init", "--config", config, "--data-dir", tmp_path / "data", "--systemd")
    unit = (units / "diffmsr-node.service").read_text()
    assert f"diffmsr-node start --config {config}\n" in unit
    assert f"ReadWritePaths={tmp_path / 'data'}\n" in unit
    assert "/opt/" not in unit
    assert "StateDirectory" not in unit
    for step in ("useradd --system", f"chown -R diffmsr: {tmp_path / 'data'}", "systemctl enable --now diffmsr-node"):
        assert step in done.stdout


def test_systemd_finds_the_unit_well_shut_in() -> None:
    command = [require("systemd-analyze"), "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"SYSTEMD_COLORS": "0"})
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < 3


def test_the_tracker_is_copied_before_it_is_upgraded(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    with database.engine.connect() as connection:
        schema.upgrade(connection, "0004")
        connection.commit()
    database.upgrade()
    (copy,) = tmp_path.glob("tracker.sqlite3.before-*")
    with closing(sqlite3.connect(copy)) as old:
        assert old.execute("SELECT version_num FROM alembic_version").fetchall() == [("0004",)]


def test_a_backup_is_whole_and_replaces_nothing(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    run("init", "--config", config, "--data-dir", tmp_path / "data")
    assert "this version expects" in run("db", "current", "--config", config).stdout
    copy = tmp_path / "copy.sqlite3"
    assert run("db", "backup", copy, "--config", config).exit_code == 0
    with closing(sqlite3.connect(copy)) as copied:
        assert copied.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert "exists already" in str(run("db", "backup", copy, "--config", config).exception)


def test_an_older_program_refuses_a_newer_tracker(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    run("init", "--config", config, "--data-dir", tmp_path / "data")
    with Database(load_settings(config).node.url).write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    refused = run("db", "upgrade", "--config", config)
    assert "at schema 9999, and this version knows schemas up to" in str(refused.exception)
