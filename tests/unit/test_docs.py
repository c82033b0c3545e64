"""What the documentation says is so: its commands run, the keys, codes, files and targets that it names exist, and it builds."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import typer
from click.testing import Result
from pydantic import BaseModel
from typer.testing import CliRunner

from diffmsr.cli import app as research_app
from node.archive.facade import Archive
from node.cli import init as cli_init
from node.cli import queue as cli_queue
from node.cli.app import app
from node.codes import CODES
from node.config.loading import load_settings
from node.config.settings import Settings
from node.errors import NodeError
from node.tracker.database import Database
from node.tracker.states import State
from node.tracker.studies import StudyState
from tests.conftest import free_port
from tests.web.content import Content

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "diffmsr" / "weights").rglob("*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    }
)
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
GENERATED_PAGES = ("codes.md", "conformance.md")

RUN_ELSEWHERE = ("start", "demo", "process", "db restore", "db rebuild")
"""Commands that take minutes or go on until they are stopped: tests/acceptance runs them; and those that exchange the tracker
under the others: tests/unit/node/tracker runs them. Here only their options are checked."""

EXPECTED = {"echo": 5, "status": 7, "doctor": 5, "replay": 4, "queue drop": 4, "queue report": 4}
"""Exit codes other than 0. On the machine of a test no service runs and no PACS answers, and of the studies there are only rows."""


def commands(page: Path) -> list[str]:
    """What follows `diffmsr-node` in code, block or inline, and what containers run with it."""
    text = page.read_text()
    code = re.findall(r"^(?:    |```.*?\n)(.*?)$|`(diffmsr-node [^`]+)`", text, re.MULTILINE)
    lines = [line for pair in code for line in pair if line]
    lines += [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    lines = [re.sub(r"^docker compose run --rm node ", "diffmsr-node ", line) for line in lines]
    lines = [line for line in lines if not re.match(r"(docker|helm) ", line)]
    found = {
        match[1] for line in lines for match in re.finditer(r"(?:(?<!-u)\s|/)diffmsr-node ([^#|;`&>]+)", f" {line}")
    }
    return sorted({re.split(r"\s{2,}", command.strip())[0] for command in found})


def resolve(command: str) -> tuple[Any, str, list[str]]:
    """The command of the program, its name, and the arguments that follow it."""
    found: Any = typer.main.get_command(app)
    words, name = command.split(), []
    while hasattr(found, "get_command") and words:
        found = found.get_command(None, words[0])
        assert found is not None, command
        name.append(words.pop(0))
    return found, " ".join(name), words


@EVERY_PAGE
def test_a_command_in_the_documentation_exists_with_its_options(page: Path) -> None:
    for line in commands(page):
        command, _, words = resolve(line)
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        asked = {word.rstrip(".,:)") for word in words if re.match(r"--?[a-z]", word)}
        assert asked <= known | {"--help"}, f"{page.name}: {line}"


def test_commands_are_found_at_all() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 80


class Node:
    """A node with a study of each kind, for the commands of the documentation."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "node.toml"
        self.config.write_text(
            f'[scp]\nport = {free_port()}\n[web]\nport = {free_port()}\nusers_file = "users.toml"\n'
            '[node]\ndata_dir = "data"\n[storage]\nreserve_gb = 0\n'
            '[[destinations]]\nname = "pacs"\nae_title = "P"\nhost = "127.0.0.1"\nport = 9\ntimeout_s = 1\n'
        )
        settings = load_settings(self.config)
        database = Database(settings.node.url)
        database.upgrade()
        content = Content(database, Archive.of(settings))
        delivered = content.study(patient="Doe^Jane", result=True)
        held, failed, ready = (
            content.study(state, delivery=delivery)
            for state, delivery in (
                (StudyState.HELD, State.HELD),
                (StudyState.FAILED, State.FAILED),
                (StudyState.DELIVERING, State.RETRY_WAIT),
            )
        )
        content.flush()
        self.study = delivered.study_uid
        self.backup = folder / "backup.sqlite3"
        database.backup(self.backup)
        self.jobs = {"queue release": held.deliver, "queue retry": failed.deliver, "queue cancel": ready.deliver}
        self.any_job = delivered.deliver

    def run(self, line: str) -> Result:
        _, name, words = resolve(line)
        replacements = {
            "STUDY_UID": self.study,
            "FOLDER": str(ROOT / "node" / "demo" / "sample" / "T2"),
            "NAME": "berta",
            "DAY": "2020-01-01",
            "FILE": str(self.backup),
            "3": str(self.jobs.get(name, self.any_job)),
            "/etc/diffmsr-node/node.toml": str(self.folder / "etc" / "node.toml"),
        }
        words = [replacements.get(word, word.replace("/backup/", f"{self.folder}/")) for word in words]
        if name == "init":
            words += ["--data-dir", str(self.folder / "new"), "--force"]
            words += [] if "--config" in words else ["--config", str(self.folder / "other.toml")]
        if name == "doctor":
            words = [*(word for word in words if word != "--send-test"), "--no-golden"]
        answers = "secret-secret\n" * 2 if name == "users set" else "y\n"
        return CliRunner().invoke(
            app, [*name.split(), *words], input=answers, env={"DIFFMSR_NODE_CONFIG": str(self.config)}
        )


def test_every_command_in_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "units").mkdir()
    monkeypatch.setattr(cli_init, "UNITS", tmp_path / "units")
    monkeypatch.setattr(cli_queue, "time", SimpleNamespace(sleep=_stop))  # somebody presses Ctrl-C at once
    node = Node(tmp_path)
    lines = {line for page in PAGES for line in commands(page)}
    assert set(RUN_ELSEWHERE) <= {resolve(line)[1] for line in lines}, (
        "what is not in the documentation needs no exception"
    )
    wrong = []
    for line in sorted(lines, key=_order):
        command, name, words = resolve(line)
        named_only = not words and any(parameter.required for parameter in command.params)
        if name in RUN_ELSEWHERE or named_only:
            continue
        done = node.run(line)
        error = done.exception
        code = error.exit_code if isinstance(error, NodeError) else done.exit_code
        if code != EXPECTED.get(name, 0):
            wrong.append(f"{line}: exit code {code}: {error} {done.output[-300:]}")
    assert not wrong, "\n".join(wrong)


def _order(line: str) -> tuple[bool, bool, str]:
    """Users first, because the page needs them. Last what puts another tracker in the place of this one."""
    return line.startswith(("db restore", "db rebuild")), not line.startswith("users set"), line


def _stop(_: float) -> None:
    raise KeyboardInterrupt


@EVERY_PAGE
def test_a_key_in_the_documentation_exists(page: Path) -> None:
    for section, keys in re.findall(
        r"\[\[?([a-z][a-z_.]+)\]\]? ((?:`?, `|`?,? and `|[a-z_ ])*[a-z_]+)", page.read_text()
    ):
        table = table_of(section)
        key = keys.split()[0].strip("`,")
        if table is not None and "_" in key:
            assert key in table.model_fields, f"{page.name}: [{section}] {key}"


def table_of(section: str) -> type[BaseModel] | None:
    """The section of the configuration of that name; None where there is none, such as [Service] of systemd."""
    table: type[BaseModel] = Settings
    for part in section.split("."):
        if part not in table.model_fields:
            return None
        found = _model(table.model_fields[part].annotation)
        if found is None:
            return None
        table = found
    return table


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model(part))), None)


@EVERY_PAGE
def test_a_piece_of_configuration_in_the_documentation_is_valid(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        load_settings(path)


@EVERY_PAGE
def test_what_the_documentation_names_is_there(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"\b[EW]_[A-Z]+(?:_[A-Z]+)*\b", text)) <= set(CODES)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)) <= targets
    if page.name not in GENERATED_PAGES:
        for path in re.findall(r"`((?:node|diffmsr|config|deploy|docs|tests)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
    for module in re.findall(r"python -m (tests[\w.]*)", text):
        assert importlib.util.find_spec(module), f"{page.name}: {module}"
    for line in re.findall(r"(?:`|^    )diffmsr ([a-z][^`#]*?)(?:`|#|$)", text, re.MULTILINE):
        name, *words = line.split()
        assert name in research_commands(), f"{page.name}: diffmsr {line}"
        known = {option for parameter in research_commands()[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, f"{page.name}: diffmsr {line}"


def research_commands() -> dict[str, Any]:
    command: Any = typer.main.get_command(research_app)
    return dict(command.commands)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_source_resolve(name: str) -> None:
    text = (ROOT / name).read_text()
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_every_page_of_the_site_is_in_its_navigation() -> None:
    navigation = re.findall(r"([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= set(navigation)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    # Not --quiet: mkdocs then counts no warnings.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("install", "troubleshooting", "model-card"):
        assert (tmp_path / "site" / page / "index.html").exists()
    remote = re.findall(r'(?:src|href)="(https?://[^"]+)"', (tmp_path / "site" / "index.html").read_text())
    assert [url for url in remote if url.endswith((".js", ".css", ".woff2"))] == []


def test_the_further_parts_that_can_be_installed_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"'\.\[(\w+)\]'", (ROOT / "docs" / "install.md").read_text()))
    assert named <= set(project["optional-dependencies"])
