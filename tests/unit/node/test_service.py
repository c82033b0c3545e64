"""The service with the roles that need no model: how it starts, recovers and stops. The whole of it is driven by the
acceptance tests."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from node.archive.digest import Digest, data_set_starts, sha256
from node.archive.facade import Archive
from node.config.audit import AuditSettings
from node.config.settings import DestinationSettings, NodeSettings, SCPSettings, Settings, StorageSettings
from node.dicom.transfer_syntax import to_bytes
from node.errors import ConfigError, NodeError
from node.identity import worker_name
from node.locks import only_one, running_roles
from node.payloads import PairRequest, StackRequest
from node.receive.store import Status, Store
from node.roles import Role
from node.service import Service
from node.tracker import queue, steps, views
from node.tracker.audit import Action
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import NewJob
from node.tracker.states import Kind, State
from tests.conftest import free_port
from tests.dicom import mr_series
from tests.unit.node.audit.collector import Collector, judged
from tests.unit.node.receive.storing import sent
from tests.unit.node.tracker.jobs import audited
from tests.waiting import until

ROLES = [Role.MATCH, Role.DELIVER, Role.HOUSEKEEP]


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def settings_in(folder: Path, **changes: Any) -> Settings:
    return Settings(
        node=NodeSettings(data_dir=folder / "data"), storage=StorageSettings(reserve_gb=0), **changes
    )  # fmt: skip


def run_until(settings: Settings, condition: Any, roles: list[Role] = ROLES, by_signal: bool = False) -> None:
    """Run the service in this thread, as `start` does, until a condition holds."""
    service = Service(settings, Path("node.toml"), roles)
    problems: list[BaseException] = []

    def watch() -> None:
        try:
            until(condition, "the service has done it")
        except BaseException as error:
            problems.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM) if by_signal else service.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    service.run()
    watcher.join()
    assert not problems, problems


def tracker_of(settings: Settings) -> Tracker:
    settings.node.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.node.url)
    database.upgrade()
    return Tracker(database)


@pytest.mark.parametrize("by_signal", [False, True])
def test_its_roles_run_and_then_do_not(tmp_path: Path, by_signal: bool) -> None:
    settings = settings_in(tmp_path)
    run_until(settings, lambda: set(running_roles(settings.node.data_dir)) == set(ROLES), by_signal=by_signal)
    assert running_roles(settings.node.data_dir) == {}
    ((actor, _, details),) = audited(tracker_of(settings), Action.CONFIGURED)
    assert (actor, details["roles"]) == ("start", ["match", "deliver", "housekeep"])


def test_every_stop_is_heard(tmp_path: Path) -> None:
    """A signal comes while threads start and work; `make soak` stops 200 services."""
    settings = settings_in(tmp_path)
    for _ in range(int(os.environ.get("STOPS", "3"))):
        run_until(settings, lambda: len(running_roles(settings.node.data_dir)) == len(ROLES), by_signal=True)
        assert running_roles(settings.node.data_dir) == {}


def test_a_second_one_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.node.data_dir.mkdir()
    with only_one(settings.node.data_dir, [Role.MATCH]), pytest.raises(NodeError, match="match is already running"):
        Service(settings, Path("node.toml"), ROLES).run()


def test_what_it_cannot_work_without_is_said_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(ConfigError, match="data_dir"):
        Service(settings_in(tmp_path), Path("node.toml"), ROLES).run()


def test_jobs_of_its_own_dead_workers_are_freed_and_nobody_elses(tmp_path: Path) -> None:
    """Another service of the same host name, with a data folder of its own, shares the database."""
    settings = settings_in(tmp_path)
    tracker = replace(tracker_of(settings), lease=timedelta(days=1))
    for number, folder in enumerate(("data", "elsewhere")):
        queue.enqueue(tracker, NewJob(Kind.COMMIT, f"commit:{number}", "1.2", {}, 3), "test")
        assert queue.claim(tracker, Kind.COMMIT, worker_name(tmp_path / folder, Role.MATCH, 1)) is not None

    def states() -> list[str]:
        return [row.state for row in views.jobs(tracker.database)]

    run_until(settings, lambda: states()[0] == State.READY)
    assert states() == [State.READY, State.RUNNING]


def test_a_destination_that_hangs_delays_no_other(tmp_path: Path) -> None:
    """The first destination takes the connection and says nothing; the second does not listen, so its delivery is over
    at once."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        hangs, refuses = (
            DestinationSettings(
                name=name, ae_title=name, host="127.0.0.1", port=port, timeout_s=3600, initial_delay_s=3600
            )
            for name, port in (("HANGS", hanging.getsockname()[1]), ("REFUSES", free_port()))
        )
        settings = settings_in(tmp_path, destinations=[hangs, refuses])
        tracker = tracker_of(settings)
        instances = mr_series(1)
        files = [(str(ds.SOPInstanceUID), to_bytes(ds)) for ds in instances]
        Archive.of(settings).put_derived("infer:1", files, "page")
        stack = StackRequest(series_uid="1.2.1", contrast="T2", sop_uids=("1.2.1.1",))
        request = PairRequest(study_uid="1.2", target=stack, reference=stack)
        for name in ("HANGS", "REFUSES", "GONE"):
            queue.enqueue(tracker, steps.deliver_job("infer:1", request, name, 5), "test")
        connected: list[socket.socket] = []
        threading.Thread(target=lambda: connected.append(hanging.accept()[0]), daemon=True).start()

        def states() -> list[str]:
            return [row.state for row in views.jobs(tracker.database)]

        def over() -> bool:
            if not connected or states() != [State.SENDING, State.RETRY_WAIT, State.FAILED]:
                return False
            connected[0].close()  # so that the stop need not wait for it
            return True

        run_until(settings, over, [Role.DELIVER])


def test_it_sends_its_audit_trail(tmp_path: Path) -> None:
    with Collector() as collector:
        there = AuditSettings(host="localhost", port=collector.port, transport="tcp")
        run_until(settings_in(tmp_path, audit=there), lambda: collector.messages)
    assert [
        judged(message).find("EventIdentification/EventTypeCode").get("originalText") for message in collector.messages
    ] == [  # type: ignore[union-attr]
        "Application Start"
    ]


def test_systemd_hears_that_it_is_ready_and_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def well() -> bool:
            with suppress(BlockingIOError):
                heard.append(notify.recv(1000).decode())
            return "WATCHDOG=1" in heard

        run_until(settings_in(tmp_path), well)
        while True:
            try:
                heard.append(notify.recv(1000).decode())
            except BlockingIOError:
                break
    assert heard[0] == "READY=1"
    assert heard[-1] == "STOPPING=1"


def test_after_a_crash_files_without_a_row_are_entered(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, scp=SCPSettings(host="127.0.0.1", port=free_port()))
    tracker, archive = tracker_of(settings), Archive.of(settings)
    (ds,) = mr_series(1)
    content = to_bytes(ds)
    digest = Digest(sha256(content[data_set_starts(content) :]), str(ds.file_meta.TransferSyntaxUID))
    archive.put_instance(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, content, digest)
    marker = settings.node.data_dir / "receiving"

    def received() -> int:
        return views.totals(tracker.database).instances

    run_until(settings, lambda: running_roles(settings.node.data_dir) and marker.exists(), [Role.RECEIVE])
    assert received() == 0 and not marker.exists(), "a service that ended in order leaves none"
    marker.touch()  # as a crash leaves it
    run_until(settings, lambda: received() == 1, [Role.RECEIVE])


def test_hosts_that_see_different_archives_are_told_apart(tmp_path: Path) -> None:
    """A folder that is not mounted is empty, and another mount is another tracker's."""
    shared, other = tmp_path / "shared", tmp_path / "other"
    for folder in (shared, other):
        folder.mkdir()
    url = f"sqlite:///{tmp_path / 'tracker.sqlite3'}"

    def host(name: str, place: Path, database_url: str = url) -> Settings:
        return Settings(
            node=NodeSettings(data_dir=tmp_path / name, database_url=database_url),
            storage=StorageSettings(reserve_gb=0, archive=str(place)),
        )

    def start(settings: Settings) -> None:
        run_until(settings, lambda: len(running_roles(settings.node.data_dir)) == len(ROLES))

    start(host("first", shared))
    start(host("second", shared))
    with pytest.raises(ConfigError, match="belongs to tracker"):
        start(host("stranger", shared, f"sqlite:///{tmp_path / 'another.sqlite3'}"))
    keep_one(host("first", shared))
    with pytest.raises(ConfigError, match="is empty, and the tracker knows instances"):
        start(host("third", other))
    assert not (other / "tracker-id").exists()


def keep_one(settings: Settings) -> None:
    """Receive an instance."""
    (dataset,) = mr_series(1)
    store = Store(Archive.of(settings), tracker_of(settings), 10)
    assert store.put(sent(dataset)) is Status.SUCCESS
