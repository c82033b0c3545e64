"""SIGHUP: sources, destinations and rules count from now on; what is wrong or needs a restart is said, and changes nothing."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from node.config.changes import compare
from node.config.loading import load_settings
from node.config.settings import DestinationSettings
from node.deliver.scu import echo
from node.errors import PeerError
from node.roles import Role
from node.service import Service
from node.tracker import queue
from node.tracker.audit import Action
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import NewJob
from node.tracker.states import Kind, State
from node.tracker.views import job_counts
from tests.conftest import free_port
from tests.unit.node.tracker.jobs import audited
from tests.waiting import until


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Site:
    """A configuration file, and the service that reads it, in this thread."""

    def __init__(self, folder: Path) -> None:
        self.path, self.port = folder / "node.toml", free_port()
        self.write()

    def write(self, more: str = "") -> None:
        self.path.write_text(
            f'node.data_dir = "data"\nstorage.reserve_gb = 0\nscp = {{ host = "127.0.0.1", port = {self.port} }}\n{more}'
        )

    def run(self, visit: Callable[[list[Any]], None]) -> list[Any]:
        """Run the service, and `visit` it, with what it has logged so far, in another thread; all that it logs."""
        service = Service(load_settings(self.path), self.path, [Role.RECEIVE, Role.DELIVER])
        problems: list[BaseException] = []

        def watch() -> None:
            try:
                until(self.echoes, "the service listens")
                visit(logs)
            except BaseException as error:
                problems.append(error)
            finally:
                service.stop()

        watcher = threading.Thread(target=watch)
        with capture_logs() as logs:
            watcher.start()
            service.run()
            watcher.join()
        assert not problems, problems
        return logs

    def echoes(self, calling: str = "MR1") -> bool:
        """Whether a peer of that AE title may associate."""
        us = DestinationSettings(name="us", ae_title="DIFFMSR", host="127.0.0.1", port=self.port)
        try:
            echo(us, calling)
        except PeerError:
            return False
        return True


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


DESTINATION = '[[destinations]]\nname = "other"\nae_title = "OTHER"\nhost = "127.0.0.1"\nport = 1\nmax_attempts = 1\n'


def test_sources_and_destinations_count_without_a_restart(site: Site) -> None:
    site.write('sources = [{ name = "mr1", ae_title = "MR1" }]\n')

    def visit(logs: list[Any]) -> None:
        assert not site.echoes("MR2")
        site.write(
            f'sources = [{{ name = "mr1", ae_title = "MR1" }}, {{ name = "mr2", ae_title = "MR2" }}]\n{DESTINATION}'
        )
        hang_up()
        until(lambda: site.echoes("MR2"), "the new source may call")
        site.write(f'output.transfer_syntax = "rle"\n{DESTINATION}')
        hang_up()
        until(lambda: site.echoes("STRANGER"), "without sources everybody may")

    logs = site.run(visit)
    changed = [entry["change"] for entry in logs if entry["event"] == "reload.changed"]
    assert changed == [
        "sources mr2 is added", "destinations other is added", "sources mr1 is removed", "sources mr2 is removed",
    ]  # fmt: skip
    (needs_restart,) = [entry["sections"] for entry in logs if entry["event"] == "reload.needs_restart"]
    assert needs_restart == ["output"]
    database = Database(load_settings(site.path).node.url)
    for action, times in ((Action.CONFIGURED, 1), (Action.RELOADED, 2)):
        assert [row[2]["path"] for row in audited(Tracker(database), action)] == [str(site.path)] * times


def test_a_file_that_is_wrong_changes_nothing(site: Site) -> None:
    def visit(logs: list[Any]) -> None:
        site.write("scp.ae_title = [")
        hang_up()
        until(lambda: any(entry["event"] == "reload.refused" for entry in logs), "it is refused")
        assert site.echoes()

    logs = site.run(visit)
    (refused,) = [entry for entry in logs if entry["event"] == "reload.refused"]
    assert "not valid TOML" in refused["reason"]


def test_a_new_destination_has_a_worker_of_its_own(site: Site) -> None:
    database = Database(load_settings(site.path).node.url)

    def visit(logs: list[Any]) -> None:
        site.write(DESTINATION)
        hang_up()
        new = NewJob(Kind.DELIVER, "deliver:x", "1.2", {"destination": "other"}, 1, destination="other")
        queue.enqueue(Tracker(database), new, "test")
        until(lambda: job_counts(database)[Kind.DELIVER].get(State.READY, 0) == 0, "it is tried")

    site.run(visit)


def test_what_changed_is_said_key_by_key(tmp_path: Path) -> None:
    site = Site(tmp_path)
    before = load_settings(site.path)
    site.write("match.contrast.t1_max_te_ms = 40\nweb.enabled = false\n" + DESTINATION)
    found = compare(before, load_settings(site.path))
    assert found.changes == ("destinations other is added", "match contrast t1_max_te_ms is 40, was 35")
    assert found.needs_restart == ("web",)
    assert (found.settings.match.contrast.t1_max_te_ms, found.settings.web.enabled) == (40, True)
    assert compare(found.settings, found.settings).changes == ()
