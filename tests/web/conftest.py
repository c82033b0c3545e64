"""A node's pages, with and without a browser."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from node.archive.facade import Archive
from node.config.settings import Settings
from node.dicom.read import Readable
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import State
from node.tracker.studies import StudyState
from node.web.app import create_app
from node.web.server import WebServer
from node.web.site import Explained, Site
from node.web.users import HASHER
from tests.conftest import free_port
from tests.web.content import SCRIPT, Content, Filled

PASSWORD = "correct horse battery"
ROLES = {"vera": ["view"], "otto": ["view", "operate"], "anna": ["view", "operate", "phi"]}


def nothing_explained(readables: Iterable[Readable]) -> Explained:
    return [], [(readable, "not a DICOM file") for readable in readables]


@dataclass
class House:
    """A site with content, and what it was filled with."""

    site: Site
    shown: Filled
    """A study with a result to look at."""
    held: Filled
    failed: Filled
    waiting: Filled
    hostile: Filled
    """Its patient's name and description are markup."""


@cache
def _hashed() -> str:
    return HASHER.hash(PASSWORD)


@cache
def _empty_tracker() -> Path:
    """A tracker without rows, made once, since the migrations take a second."""
    path = Path(tempfile.mkdtemp()) / "tracker.sqlite3"
    database = Database(f"sqlite:///{path}")
    database.upgrade()
    database.dispose()
    return path


def make_site(
    folder: Path,
    web: dict[str, Any] | None = None,
    explain: Callable[[Iterable[Readable]], Explained] = nothing_explained,
    users: bool = True,
) -> Site:
    """A site on an empty tracker; with users vera (view), otto (operate) and anna (phi)."""
    users_file = folder / "users.toml"
    hashed = _hashed()
    users_file.write_text(
        "".join(
            f'[{name}]\npassword = "{hashed}"\nroles = {roles}\n'.replace("'", '"') for name, roles in ROLES.items()
        )
    )
    settings = Settings(
        node={"data_dir": folder / "data"},  # type: ignore[arg-type]
        destinations=[{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1"}],  # type: ignore[list-item]
        web={"port": free_port(), **({"users_file": users_file} if users else {}), **(web or {})},  # type: ignore[arg-type]
    )
    settings.node.data_dir.mkdir()
    shutil.copy(_empty_tracker(), settings.node.data_dir / "tracker.sqlite3")
    database = Database(settings.node.url)
    archive = Archive.of(settings)
    return Site(settings, Tracker(database), archive, "test 1", explain, lambda: [])


def fill(site: Site) -> House:
    """One study of every kind that a page shows differently."""
    content = Content(site.tracker.database, site.archive)
    house = House(
        site=site,
        shown=content.study(result=True, patient="Doe^Jane", patient_id="P1"),
        held=content.study(
            StudyState.HELD, delivery=State.HELD, patient="Roe^Richard", patient_id="P2", error="not usable"
        ),
        failed=content.study(
            StudyState.FAILED,
            delivery=State.FAILED,
            patient="Poe^Pat",
            patient_id="P3",
            error="0xA700: out of resources",
        ),
        waiting=content.study(StudyState.WAITING, patient="Moe^Max", patient_id="P4"),
        hostile=content.study(patient=SCRIPT, patient_id=SCRIPT[:64], description=SCRIPT, result=True),
    )
    content.flush()
    return house


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """For tests that change nothing."""
    return fill(make_site(tmp_path_factory.mktemp("house")))


@pytest.fixture
def fresh(tmp_path: Path) -> House:
    """For tests that do."""
    return fill(make_site(tmp_path))


class Person:
    """Somebody at a browser without JavaScript."""

    def __init__(self, site: Site, name: str | None = None, base: str = "http://node.example") -> None:
        self.client = TestClient(create_app(site), base_url=base, follow_redirects=False)
        self.client.headers["Accept"] = "text/html"
        if name is not None:
            answer = self.client.post("/login", data={"name": name, "password": PASSWORD})
            assert answer.status_code == 303, answer.text

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.client.get(path, headers=headers)

    def token(self) -> str:
        found = re.search(r'"X-CSRF-Token": "([0-9a-f]+)"', self.get("/").text)
        assert found is not None
        return found[1]

    def post(self, path: str, **fields: str) -> httpx2.Response:
        """A form of the page, with its token unless another is given."""
        return self.client.post(path, data={"csrf_token": self.token()} | fields)


@pytest.fixture(scope="session")
def served(house: House) -> Iterator[House]:
    """The same, behind a real server."""
    server = WebServer(house.site)
    server.start()
    yield house
    server.stop()
