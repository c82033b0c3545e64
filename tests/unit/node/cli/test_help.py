"""What --help shows is what was written, and what is said of a mistake."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from node.cli.app import app
from node.errors import NotFoundError


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its words."""
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    for name in command.list_commands(None):
        yield from commands(command.get_command(None, name), (*path, name))


EVERY = dict(commands(get_command(app)))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_a_name_in_brackets_is_shown(path: tuple[str, ...]) -> None:
    """A section of the configuration in a text is no markup."""
    command = EVERY[path]
    texts = [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]
    written = {name for text in texts for name in re.findall(r"\[+[a-z_.]+\]+", text)}
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"}).output
    assert "Example" in shown
    assert {name for name in written if name not in shown} == set()


def test_a_folder_that_is_not_there_is_no_study() -> None:
    done = CliRunner().invoke(app, ["explain", "/no/such/folder"])
    assert isinstance(done.exception, NotFoundError) and str(done.exception) == "/no/such/folder is not a folder"
