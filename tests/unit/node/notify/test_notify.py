"""Messages arrive by e-mail and webhook, together, once per day until mended, and without a word about patients."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from structlog.testing import capture_logs

from node.checks import Level
from node.config.loading import load_settings
from node.config.notify import NotifySettings
from node.config.settings import Settings
from node.doctor.messages import messages
from node.errors import ConfigError
from node.notify.channels import Channels
from node.notify.notifier import Notifier
from node.notify.troubles import Trouble, summary
from node.tracker import peers
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import State
from node.tracker.studies import StudyState
from tests.conftest import free_port
from tests.unit.node.doctor.test_doctor import certificate
from tests.web.conftest import make_site
from tests.web.content import Content


class Mailbox:
    """What an SMTP server got."""

    def __init__(self) -> None:
        self.mails: list[Message] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content))
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    """An SMTP server, and its address as apprise has it."""
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    yield box, f"mailto://127.0.0.1:{server.port}?from=node@example.org&to=admin@example.org&mode=insecure"
    server.stop()


@pytest.fixture
def webhook() -> Iterator[tuple[list[dict[str, Any]], str]]:
    """What a webhook got, and its address."""
    got: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if "token" in self.path else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield got, f"json://127.0.0.1:{server.server_port}/token-SECRET"
    server.shutdown()
    server.server_close()


class Node:
    """A node in trouble, and what time it is."""

    def __init__(self, folder: Path, addresses: list[str]) -> None:
        (folder / "notify.urls").write_text("# who gets it\n" + "\n".join(addresses))
        site = make_site(folder)
        self.tracker: Tracker = site.tracker
        self.database: Database = site.tracker.database
        notify = NotifySettings(urls_file=folder / "notify.urls", disk_gb=0)
        storage = site.settings.storage.model_copy(update={"reserve_gb": 0})
        self.settings: Settings = site.settings.model_copy(update={"notify": notify, "storage": storage})
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.content = Content(self.database, site.archive)
        self.restart()

    def restart(self) -> None:
        assert self.settings.notify is not None
        channels = Channels(self.settings.notify)
        self.notifier = Notifier(lambda: self.settings, self.database, channels, lambda: self.now)

    def fail(self) -> None:
        self.content.study(StudyState.FAILED, delivery=State.FAILED, patient="Doe^Jane", error="0xA700 for Doe^Jane")
        self.content.flush()

    def later(self, **time: int) -> None:
        self.now += timedelta(**time)
        self.notifier.look()


def test_all_troubles_arrive_in_one_message_by_every_way(
    tmp_path: Path, mailbox: tuple[Mailbox, str], webhook: tuple[list[dict[str, Any]], str]
) -> None:
    (box, mail_address), (posts, hook_address) = mailbox, webhook
    node = Node(tmp_path, [mail_address, hook_address])
    node.notifier.look()
    assert (box.mails, posts) == ([], [])
    node.fail()
    node.fail()
    peers.note_echo(node.tracker, "pacs", False, "cannot connect")
    tls = certificate(tmp_path, "node", 3)
    scp = node.settings.scp.model_copy(update={"tls": tls})
    notify = node.settings.notify.model_copy(update={"disk_gb": 1e6})  # type: ignore[union-attr]
    node.settings = node.settings.model_copy(update={"scp": scp, "notify": notify})
    with capture_logs() as logs:
        node.notifier.look()
    (post,), (mail,) = posts, box.mails
    assert "5 things need you" in post["title"]
    for part in (
        "deliver job 4 to pacs failed",
        "deliver job 8",
        "destination pacs (PACS at 127.0.0.1:104)",
        "GB left",
        "renew it",
    ):
        assert part in post["message"]
    assert mail["to"] == "admin@example.org"
    assert "5 things need you" in str(mail["subject"])
    everything = json.dumps(posts) + mail.as_string() + str(logs)
    for secret in ("Doe", "Jane", "0xA700", "1.2.826"):
        assert secret not in everything
    assert "SECRET" not in str(logs)


def test_what_lasts_is_repeated_daily_and_what_is_new_waits_for_its_turn(
    tmp_path: Path, webhook: tuple[list[dict[str, Any]], str]
) -> None:
    posts, address = webhook
    node = Node(tmp_path, [address])
    node.fail()
    node.notifier.look()
    node.later(minutes=5)
    node.restart()
    node.later(minutes=1)
    assert len(posts) == 1, "said once, also after a restart"
    peers.note_echo(node.tracker, "pacs", False, "no")
    node.later(minutes=1)
    assert len(posts) == 1, "not more often than every 15 minutes"
    node.later(minutes=10)
    assert len(posts) == 2
    assert "destination pacs" in posts[1]["message"]
    assert "job" not in posts[1]["message"]
    peers.note_echo(node.tracker, "pacs", True, "answered")
    node.later(hours=23, minutes=59)
    assert len(posts) == 3
    assert "deliver job 4" in posts[2]["message"]
    assert "Mended since: destination pacs" in posts[2]["message"]
    node.later(hours=1)
    assert len(posts) == 3


def test_what_did_not_leave_is_tried_again(tmp_path: Path, webhook: tuple[list[dict[str, Any]], str]) -> None:
    posts, address = webhook
    node = Node(tmp_path, [address.replace("token", "wrong")])
    node.fail()
    with capture_logs() as logs:
        node.notifier.look()
        node.later(minutes=1)
    assert len(posts) == 2
    assert [entry["event"] for entry in logs] == ["notify.failed"] * 2
    assert "SECRET" not in str(logs)


def test_the_doctor_tries_the_addresses(tmp_path: Path, webhook: tuple[list[dict[str, Any]], str]) -> None:
    posts, address = webhook
    node = Node(tmp_path, [address])
    assert messages(node.settings, send_test=False).level is Level.OK
    assert posts == []
    assert messages(node.settings, send_test=True).level is Level.OK
    assert "a test" in posts[0]["title"]
    (tmp_path / "notify.urls").write_text(address.replace("token", "wrong"))
    assert messages(node.settings, send_test=True).level is Level.FAIL
    (tmp_path / "notify.urls").write_text("")
    assert "no address" in messages(node.settings, send_test=False).sentence


def test_many_failed_jobs_are_counted() -> None:
    lines = summary([Trouble("failed", f"job {n}", f"job {n} failed") for n in range(25)])
    assert len(lines) == 11
    assert lines[-1] == "and 15 more failed jobs: diffmsr-node queue list --state failed"


def test_addresses_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "node.toml"
    config.write_text('notify.urls = "json://u:SECRET@h/"')
    with pytest.raises(ConfigError, match="addresses hold passwords") as refused:
        load_settings(config)
    assert "SECRET" not in str(refused.value)
    config.write_text("[notify]\n")
    with pytest.raises(ConfigError, match="set urls_file"):
        load_settings(config)
    monkeypatch.setenv("DIFFMSR_NODE_NOTIFY__URLS", "json://u:SECRET@h/ json://i/")
    settings = load_settings(config)
    assert settings.notify is not None
    assert len(settings.notify.addresses) == 2
    assert "SECRET" not in str(settings.model_dump_json())
    monkeypatch.delenv("DIFFMSR_NODE_NOTIFY__URLS")
    config.write_text('notify.urls_file = "none"')
    with pytest.raises(ConfigError, match=r"\[notify\] urls_file: cannot read"):
        _ = load_settings(config).notify.addresses  # type: ignore[union-attr]
    (tmp_path / "odd").write_text("nonsense://SECRET\n")
    with pytest.raises(ConfigError, match="does not understand address 1") as odd:
        Channels(NotifySettings(urls_file=tmp_path / "odd"))
    assert "SECRET" not in str(odd.value)
