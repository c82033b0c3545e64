"""Names that a person typed into the configuration: brackets are not markup, and malformed addresses are one sentence."""

import importlib
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.cli.app import app
from node.config.loading import load_settings
from node.errors import ConfigError, NodeError
from node.tracker.database import Database
from tests.conftest import free_port

NAMES = ["[/red]", "[bold]x", "back\\\\", "[link=file:///etc/passwd]y[/link]"]


def written(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(f'node.data_dir = "data"\nstorage.reserve_gb = 0\n{text}')
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is(tmp_path: Path, name: str) -> None:
    title = name.replace("\\", "")[:16]
    path = written(
        tmp_path,
        f'[scp]\nae_title = "{title}"\n[[destinations]]\nname = "{name}"\nae_title = "{title}"\nhost = "127.0.0.1"\n'
        f"port = {free_port()}",
    )
    settings = load_settings(path)
    Database(settings.node.url).upgrade()
    configured = settings.destinations[0].name

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments], env={"DIFFMSR_NODE_CONFIG": str(path)})
        assert done.exception is None or isinstance(done.exception, SystemExit | NodeError), done.exception
        return done.output + str(done.exception)

    assert title in run("status")
    assert f"{configured} is paused" in run("queue", "pause", configured)
    assert f"{configured} goes on" in run("queue", "resume", configured)
    assert configured in run("echo", configured)  # nobody listens
    run("config", "check")
    assert title in run("config", "show")


@pytest.mark.parametrize(
    "text",
    [
        '[[destinations]]\nname = "p"\nurl = "http://[::1/x"',
        '[[destinations]]\nname = "p"\nurl = "http://127.0.0.1:99999/x"',
        '[[destinations]]\nname = "p"\nurl = "http://127.0.0.1:abc/x"',
        '[[destinations]]\nname = "p"\nurl = "http:///x"',
        '[[destinations]]\nname = "p"\nurl = "https://user:secret@pacs.example/x"',
        '[[destinations]]\nname = "p"\nae_title = "P"\nhost = "a..b"',
        f'[[destinations]]\nname = "p"\nae_title = "P"\nhost = "{"a" * 64}"',
        '[[destinations]]\nname = "p"\nae_title = "P"\nhost = "pacs example"',
        '[[destinations]]\nname = "p"\nae_title = "P"\nhost = "pacs"\nport = 65536',
        '[scp]\nhost = "\\u0000"',
        '[web]\nhost = "a..b"\nusers_file = "users.toml"',
        '[storage]\narchive = "s3://b"\nendpoint_url = "nonsense"',
        '[node]\ndatabase_url = "postgresql+psycopg://u:secret@host:port/d"',
        '[node]\ndatabase_url = "postgresql+psycopg://[::1/d"',
        '[node]\ndatabase_url = "secret"',
    ],
)
def test_an_address_that_cannot_be_one_is_said_when_the_configuration_is_checked(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    done = CliRunner().invoke(app, ["config", "check", "--config", str(path)])
    assert isinstance(done.exception, ConfigError), done.output
    assert len(str(done.exception).splitlines()) == 1
    assert "secret" not in str(done.exception)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
@pytest.mark.parametrize("mode", [0o700, 0o755], ids=["closed", "read-only"])
def test_a_data_folder_of_another_account_is_one_sentence(tmp_path: Path, mode: int) -> None:
    importlib.import_module("node.service")  # the other account may not be able to read the installation
    path = written(tmp_path, "")
    data = tmp_path / "data"
    data.mkdir()
    Database(f"sqlite:///{data}/tracker.sqlite3").upgrade()
    data.chmod(mode)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)

    def ask(said: Connection) -> None:
        os.setresuid(65534, 65534, 65534)
        for command in (["status"], ["queue", "list"], ["start"]):
            done = CliRunner().invoke(app, [*command, "--config", str(path)])
            said.send((type(done.exception).__name__, getattr(done.exception, "exit_code", None), str(done.exception)))

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=ask, args=(theirs,))
    process.start()
    for _ in range(3):
        assert ours.poll(300)
        kind, code, sentence = ours.recv()
        assert (kind, code) == ("ConfigError", 3), sentence
        assert "data_dir" in sentence and len(sentence.splitlines()) == 1
    process.join()
