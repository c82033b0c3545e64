"""A node as it is started by systemd, observed from outside, and a scanner that behaves."""

import json
import signal
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from node.archive.digest import Digest
from node.archive.facade import Archive
from tests.conftest import free_port, require
from tests.hostile.wire import Wire, data_set
from tests.program import Service
from tests.waiting import STUCK_S, until

PATIENCE_S, MESSAGE_S = 3.0, 1.5
"""How long the node waits for a peer that says nothing, and for one within an association request or a message."""


class Node:
    """The service with the role `receive`. Its time limits are short, so that tests of them are."""

    def __init__(self, folder: Path, scp: str = "", more: str = "", limit_files: int | None = None) -> None:
        """`scp` are further lines of [scp], `more` is further configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        limits = "\n".join(
            f"{key}_timeout_s = {MESSAGE_S}" for key in ("acse", "dimse") if f"{key}_timeout_s" not in scp
        )
        (folder / "node.toml").write_text(
            f'node.data_dir = "data"\nstorage.reserve_gb = 0.01\n[scp]\nhost = "127.0.0.1"\nport = {self.port}\n'
            f"network_timeout_s = {PATIENCE_S}\n{limits}\n{scp}\n{more}"
        )
        self._limit_files = limit_files
        self.start()

    def start(self) -> None:
        (self.folder / "log").write_bytes(b"")
        command = ["start", "--config", self.folder / "node.toml", "--role", "receive"]
        self.process = Service(command, self.folder / "log", self._limit_files)
        until(lambda: self.lines("service.ready"), "the node is ready", self.raw_log)

    def raw_log(self) -> bytes:
        assert self.process.poll() is None or self.process.returncode == 0, (self.folder / "log").read_text()[-3000:]
        return (self.folder / "log").read_bytes()

    def lines(self, event: str, **fields: str) -> list[dict[str, Any]]:
        """Lines of the log with that event, and fields that contain these texts."""
        found = [
            json.loads(line) for line in self.raw_log().splitlines() if line.startswith(b"{") and line.endswith(b"}")
        ]
        return [
            line
            for line in found
            if line["event"] == event and all(text in str(line.get(key)) for key, text in fields.items())
        ]

    def says(self, event: str, **fields: str) -> dict[str, Any]:
        """The one line of the log that says so, once it is there."""
        lines: list[dict[str, Any]] = until(lambda: self.lines(event, **fields), f"{event} {fields} in the log")
        return lines[-1]

    def status(self, key: str) -> int:
        """A figure of /proc/PID/status: VmRSS and VmHWM in kB, Threads."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
        raise KeyError(key)

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def stored(self, acknowledged: Collection[str] = ()) -> dict[str, bytes]:
        """SOP instance UID: what the archive has of it, for each instance that the tracker knows, as soon as it knows all these."""

        def rows() -> list[tuple[str, str, str, str]]:
            with closing(sqlite3.connect(self.folder / "data" / "tracker.sqlite3")) as tracker:
                return tracker.execute("SELECT sop_uid, key, sha256, transfer_syntax_uid FROM instance").fetchall()

        archive = Archive.in_folder(self.folder / "data")
        until(lambda: set(acknowledged) <= {uid for uid, *_ in rows()}, "what was acknowledged has rows")
        return {uid: archive.instance(key, Digest(sha256, syntax)).content() for uid, key, sha256, syntax in rows()}

    def counted(self) -> int:
        """How many instances its studies have, as the tracker counts them."""
        with closing(sqlite3.connect(self.folder / "data" / "tracker.sqlite3")) as tracker:
            ((studies, series),) = tracker.execute(
                "SELECT (SELECT sum(instances) FROM study), (SELECT sum(instances) FROM series)"
            ).fetchall()
        assert studies == series
        return int(studies)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code once it has ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


class Scanner:
    """Behaves: again and again it associates, sends an instance, and releases. In a thread of its own."""

    def __init__(
        self, node: Node, tls: ssl.SSLContext | None = None, root: str = "1.2.826.1", pause_s: float = 0.02
    ) -> None:
        self._node, self._tls, self._root = node, tls, root
        self._pause_s = pause_s
        self.acknowledged: dict[str, bytes] = {}
        self.failure: BaseException | None = None
        self.slowest_s = 0.0
        """The longest time from a connection to its association."""
        self._rounds = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Scanner":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(STUCK_S)

    def gets_through(self, rounds: int = 2) -> None:
        """Wait until it has done so many whole rounds from now on."""
        aim = self._rounds + rounds + 1  # the one that is under way may have begun before
        until(lambda: self.failure or self._rounds >= aim, "the scanner gets through", lambda: self._rounds)
        assert self.failure is None, f"the scanner was not served: {self.failure!r}"

    def lost_nothing(self) -> None:
        assert self.failure is None, f"the scanner was not served: {self.failure!r}"
        stored = self._node.stored(self.acknowledged)
        for sop_uid, content in self.acknowledged.items():
            assert stored[sop_uid].endswith(content), sop_uid

    def _run(self) -> None:
        """Rounds, until it is told to end. On a machine that stands still for as long as the node waits for a peer, the node
        is right to close the association: such a round counts for nothing."""
        while not self._done.is_set() and self.failure is None:
            began = time.monotonic()
            try:
                self._associate_and_store(began)
            except BaseException as error:
                if time.monotonic() - began < MESSAGE_S:
                    self.failure = error

    def _associate_and_store(self, began: float) -> None:
        with Wire(self._node.port, self._tls) as wire:
            wire.associate(calling=b"SCANNER")
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            sop_uid = f"{self._root}.{self._rounds + 1}"
            content = data_set(sop_uid, f"{self._root}.0", f"{self._root}.0.1", bytes(8 * 1000))
            answer = wire.store(sop_uid, content)
            assert answer.status == 0x0000, answer
            self.acknowledged[sop_uid] = content
            wire.release()
        self._rounds += 1
        self._done.wait(self._pause_s)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("hostile") / "plain")
    yield node
    assert node.stop() == 0


class Certificates:
    """Two authorities, of which the node knows the first, and what they sign."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for authority in ("ours", "foreign"):
            self._openssl("req", "-x509", *self._new(authority), "-days", "30", "-subj", f"/CN={authority}")
        self.sign("node", "ours", "-days", "30")
        self.sign("scanner", "ours", "-days", "30")
        self.sign("stranger", "foreign", "-days", "30")
        self.sign("expired", "ours", "-days", "-1")

    def sign(self, name: str, authority: str, *validity: str) -> None:
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost\n")
        self._openssl("req", *self._new(name), "-subj", f"/CN={name}", out=f"{name}.csr")
        self._openssl(
            "x509", "-req", "-in", self.folder / f"{name}.csr", "-CA", self.folder / f"{authority}.crt", "-CAkey",
            self.folder / f"{authority}.key", *validity, "-extfile", extensions, out=f"{name}.crt",
        )  # fmt: skip

    def toml(self, authority: bool = True) -> str:
        """[scp.tls] of the node."""
        said = f'[scp.tls]\ncert_file = "{self.folder}/node.crt"\nkey_file = "{self.folder}/node.key"\n'
        return said + (f'ca_file = "{self.folder}/ours.crt"\n' if authority else "")

    def client(self, name: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.folder / "ours.crt")
        if name is not None:
            context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return context

    def _new(self, name: str) -> list[str]:
        return [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            str(self.folder / f"{name}.key"),
        ]

    def _openssl(self, *arguments: object, out: str | None = None) -> None:
        name = out or f"{str(arguments[-1]).removeprefix('/CN=')}.crt"
        command = [require("openssl"), *map(str, arguments), "-out", str(self.folder / name)]
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def tls_node(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("hostile") / "tls", more=certificates.toml())
    yield node
    assert node.stop() == 0
