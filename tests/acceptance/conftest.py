"""A site: the node as an administrator runs it, a PACS beside it, a scanner that sends. All driven from outside."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from tests.conftest import free_port, require
from tests.dicom import study, write
from tests.program import Service, run_program
from tests.waiting import until


class Orthanc:
    """The PACS."""

    def __init__(self, folder: Path, node_port: int | None = None) -> None:
        """With `node_port` it knows the node, for what it sends there: C-MOVE, reports of storage commitment."""
        self.folder, self.port, self.http_port = folder, free_port(), free_port()
        folder.mkdir()
        settings = {
            "DicomAet": "PACS", "DicomPort": self.port, "HttpPort": self.http_port, "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowEcho": True, "Plugins": [],
            "StorageDirectory": str(folder), "IndexDirectory": str(folder), "OverwriteInstances": False,
            "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True,
            "DicomModalities": {"node": ["DIFFMSR", "127.0.0.1", node_port]} if node_port else {},
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(settings))

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([require("Orthanc"), self.folder / "orthanc.json"], stdout=log, stderr=log)
        until(self._answers, "Orthanc answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
        return echo(self.port, "PACS")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def instances(self, study_uid: str, modality: str = "MR") -> list[Dataset]:
        """What it has of a study: images, or with SR reports."""
        found = [dcmread(BytesIO(self.get(f"/instances/{i}/file"))) for i in json.loads(self.get("/instances"))]
        return [d for d in found if (d.StudyInstanceUID, d.Modality) == (study_uid, modality)]

    def post(self, path: str, content: bytes) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", content)
        with urllib.request.urlopen(request) as answer:
            answered: bytes = answer.read()
            return answered

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}") as answer:
            content: bytes = answer.read()
            return content


class Site:
    """The node with its configuration; `node(...)` is its command line."""

    def __init__(self, folder: Path, pacs_port: int, port: int | None = None, **overrides: str) -> None:
        self.folder, self.port, self.web_port = folder, port or free_port(), free_port()
        self.config = folder / "node.toml"
        text = f"""
            node.data_dir = "data"
            scp = {{ host = "127.0.0.1", port = {self.port} }}
            completion.series_quiet_s = 2
            storage.reserve_gb = 0.01
            web.port = {self.web_port}
            [[destinations]]
            name = "pacs"
            ae_title = "PACS"
            host = "127.0.0.1"
            port = {pacs_port}
            initial_delay_s = 0.5
            max_delay_s = 2
        """
        for old, new in overrides.items():
            assert old in text
            text = text.replace(old, new)
        self.config.write_text(text)
        self.process: Service | None = None

    def launch(self) -> None:
        """Start it, without waiting until it is ready."""
        self.process = Service(["start", "--config", self.config], self.folder / "node.log")

    def start(self) -> None:
        log = self.folder / "node.log"

        def ready() -> int:
            return log.read_text().count('"service.ready"') if log.exists() else 0

        before = ready()
        self.launch()
        self.until(lambda: ready() > before, "the service is ready")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until a condition holds, as long as the service runs and gets on; what it returned."""

        def holds() -> Any:
            assert self.process is not None
            assert self.process.poll() is None, self.log()[-3000:]
            return condition()

        return until(holds, what, self._progress)

    def _progress(self) -> object:
        """What changes while the node gets on: what it has kept, which jobs there are and how far. To try the same again and
        again is not progress."""
        kept = sum(1 for _ in (self.folder / "data").rglob("*"))
        try:
            with closing(sqlite3.connect(self.folder / "data" / "tracker.sqlite3")) as tracker:
                jobs = tracker.execute("SELECT count(*), sum(progress), sum(state = 'done') FROM job").fetchall()
        except sqlite3.Error:  # not there yet, or another database is the tracker
            jobs = []
        return kept, jobs

    def stop(self) -> int:
        """SIGTERM, as systemd does; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()

    def kill(self) -> None:
        """Power off."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return (self.folder / "node.log").read_text()

    def node(self, *arguments: str, expect: int = 0) -> str:
        """Run a command; its stdout."""
        done = run_node(*arguments, environment={"DIFFMSR_NODE_CONFIG": str(self.config)})
        assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def jobs(self, study_uid: str | None = None, kind: str | None = None) -> list[dict[str, Any]]:
        arguments = ["--study", study_uid] if study_uid else []
        arguments += ["--kind", kind] if kind else []
        listing = json.loads(self.node("queue", "list", "--json", *arguments))
        assert listing["schema"] == 1
        jobs: list[dict[str, Any]] = listing["jobs"]
        return jobs

    def seen(self, kind: str, state: str) -> bool:
        """Whether a job of that kind is in that state this moment; a look at the tracker itself, since what passes
        quickly is over before the command line has started."""
        with closing(sqlite3.connect(self.folder / "data" / "tracker.sqlite3")) as tracker:
            return bool(tracker.execute("SELECT 1 FROM job WHERE kind = ? AND state = ?", (kind, state)).fetchall())

    def finished(self, study_uid: str, count: int = 4) -> list[dict[str, Any]]:
        """Wait until the study's match, infer, derive and deliver jobs are done; those jobs."""

        def done() -> list[dict[str, Any]]:
            jobs = self.jobs(study_uid)
            bad = [j for j in jobs if j["state"] in ("failed", "refused")]
            assert not bad, bad
            return jobs if len(jobs) == count and all(j["state"] == "done" for j in jobs) else []

        finished: list[dict[str, Any]] = self.until(done, f"study {study_uid} is delivered")
        return finished


def run_node(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return run_program(arguments, environment)


def echo(port: int, ae_title: str, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection(
            (host, port), 5
        ).close()  # to start a program for each look would cost more than what it waits for
    except OSError:
        return False
    command = [require("echoscu"), "-to", "5", "-aec", ae_title, host, str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def dcmsend(port: int, *paths: Path) -> "subprocess.Popen[bytes]":
    """dcmtk's sender, as a scanner; not waited for."""
    command = [require("dcmsend"), "-aet", "SCANNER", "-aec", "DIFFMSR", "127.0.0.1", str(port), *paths]
    return subprocess.Popen(
        command, env=os.environ | {"TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def send(port: int, *paths: Path) -> None:
    assert dcmsend(port, *paths).wait() == 0


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Orthanc]:
    orthanc = Orthanc(tmp_path / "pacs")
    orthanc.start()
    yield orthanc
    orthanc.stop()


@pytest.fixture
def site(tmp_path: Path, pacs: Orthanc) -> Iterator[Site]:
    site = Site(tmp_path, pacs.port)
    site.start()
    yield site
    assert site.process is not None
    if site.process.poll() is None:
        assert site.stop() == 0, site.log()[-3000:]


class Files:
    """A study on the scanner's disk."""

    def __init__(self, folder: Path, slices: int = 4) -> None:
        t2, t1 = study(slices)
        self.study_uid = str(t2[0].StudyInstanceUID)
        self.t2, self.t1 = write(t2, folder / "t2"), write(t1, folder / "t1")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "scanner")
