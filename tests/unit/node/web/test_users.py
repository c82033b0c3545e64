"""The users file, and the commands that write it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.cli.app import app
from node.errors import ConfigError, NodeError
from node.web.users import Users, read_users


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text('node.data_dir = "data"\nweb.users_file = "users.toml"\n')
    return path


def run(config: Path, *arguments: str, typed: str = "") -> str:
    result = CliRunner().invoke(app, ["users", *arguments, "--config", str(config)], input=typed)
    if isinstance(result.exception, NodeError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_user_is_added_changed_and_removed(config: Path) -> None:
    file = config.parent / "users.toml"
    users = Users(file)
    run(config, "set", "anna", "--role", "operate", typed="correct horse\n")
    assert file.stat().st_mode & 0o077 == 0
    assert "correct horse" not in file.read_text()
    found = users.log_in("anna", "correct horse")
    assert found is not None
    assert found.roles == {"view", "operate"}
    assert users.log_in("anna", "wrong horse") is None
    assert users.log_in("otto", "correct horse") is None
    run(config, "set", "otto", "--no-password")
    assert users.log_in("otto", "") is None
    assert "otto  view  (through" in run(config, "list")
    run(config, "set", "anna", typed="another horse\n")
    assert users.log_in("anna", "correct horse") is None
    assert users.log_in("anna", "another horse") is not None
    run(config, "remove", "anna", "--yes")
    assert users.log_in("anna", "another horse") is None
    assert set(read_users(file)) == {"otto"}


def test_what_cannot_be_is_refused(config: Path) -> None:
    with pytest.raises(ConfigError, match="not a user name"):
        run(config, "set", "../anna", typed="correct horse\n")
    assert CliRunner().invoke(app, ["users", "set", "anna", "--config", str(config)], input="short\n").exit_code == 2
    assert CliRunner().invoke(
        app, ["users", "set", "anna", "--role", "king", "--config", str(config)], input="correct horse\n"
    ).exit_code == 2  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[anna]\npassword = "secret"', "must be an argon2 hash"),
        ('[anna]\nroles = ["king"]', "anna.roles"),
        ("[anna]\nname = 1", "anna.name"),
        ("anna", "not valid TOML"),
        ('["a b"]\nroles = []', "not a user name"),
    ],
)
def test_a_file_that_cannot_be_used_says_why_and_quotes_no_password(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "users.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=what) as error:
        read_users(file)
    assert "secret" not in str(error.value)
