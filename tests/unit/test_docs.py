"""The documentation is a site that builds without a warning, and the commands in it are commands that there are."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from node.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted({*(ROOT / "docs").glob("*.md"), ROOT / "README.md"})


def commands(page: Path) -> list[str]:
    """What follows `diffmsr-node` in code, block or inline."""
    text = page.read_text()
    code = re.findall(r"^(?:    |```.*?\n)(.*?)$|`(diffmsr-node [^`]+)`", text, re.MULTILINE)
    lines = [line for pair in code for line in pair if line]
    lines += [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    found = {match[1] for line in lines for match in re.finditer(r"(?:(?<!-u)\s|/)diffmsr-node ([^#|;`]+)", f" {line}")}
    return sorted(command.strip() for command in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_in_the_documentation_exists_with_its_options(page: Path) -> None:
    for line in commands(page):
        command: Any = typer.main.get_command(app)
        words = re.split(r"\s{2,}", line)[0].split()
        while hasattr(command, "commands") and words:
            assert words[0] in command.commands, f"{page.name}: {line}"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        asked = {word.rstrip(".,:)") for word in words if re.match(r"--?[a-z]", word)}
        assert asked <= known | {"--help"}, f"{page.name}: {line}"


def test_commands_are_found_at_all() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "install" / "index.html").exists()
    remote = re.findall(r'(?:src|href)="(https?://[^"]+)"', (tmp_path / "site" / "index.html").read_text())
    assert [url for url in remote if url.endswith((".js", ".css", ".woff2"))] == []
