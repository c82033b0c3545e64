"""The service of today on what an earlier version left, and the questions that it has to answer."""

import hashlib
import json
import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import Dataset

from tests.conftest import free_port
from tests.migration.peers import Archive, Scanner
from tests.program import PROGRAM, run_program

FIXTURE = Path(__file__).parent / "data" / "main-2026-11.tar.xz"
WEIGHTS = FIXTURE.with_name("diffmsr-small-192000")
"""Those that were shipped then."""
MANIFEST: dict[str, Any] = json.loads(FIXTURE.with_name("main-2026-11.json").read_text())
STUDIES: dict[str, str] = MANIFEST["studies"]
JOBS: dict[int, dict[str, Any]] = {job["id"]: job for job in MANIFEST["jobs"]}

MOVING = {"ready", "running", "receiving"}
"""States that a started service takes jobs out of. So it does with the commit job, whose retry is due."""
ENDED_BADLY = {"failed", "refused", "cancelled"}
CODE = re.compile(r"\b[EW]_[A-Z0-9_]+\b")


class Site:
    """The node on what was left, its peers on new ports, and the fixture once more as it was, to compare with."""

    def __init__(self, folder: Path) -> None:
        for name in ("site", "before"):
            with tarfile.open(FIXTURE) as tar:
                tar.extractall(folder / name, filter="data")
        self.folder, self.before = folder / "site", folder / "before"
        self.data, self.config = self.folder / "data", self.folder / "node.toml"
        self.ports = {name: free_port() for name in MANIFEST["ports"]}
        text = self.config.read_text()
        for name, old in MANIFEST["ports"].items():
            text = text.replace(f"port = {old}", f"port = {self.ports[name]}")
        self.config.write_text(text)
        self.scanner = Scanner(self.ports["scanner"]).listen()
        self.pacs = Archive("PACS", self.ports["pacs"]).start()
        self.vault = Archive("VAULT", self.ports["vault"]).start()
        self.backup = Archive("BACKUP", self.ports["backup"])
        """Down, as it was."""
        self._log = (folder / "node.log").open("wb")
        self._environment = {"DIFFMSR_NODE_CONFIG": str(self.config), "DIFFMSR_NODE_WEB__PORT": str(free_port())}
        self.process = subprocess.Popen([PROGRAM, "start"], stderr=self._log, env=os.environ | self._environment)
        self.until(lambda: self.scanner.echo(self.ports["node"]), "the node answers C-ECHO")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition as long as the service lives; what it returned. The clock that ends what never comes
        about is pytest's."""
        while not (found := condition()):
            assert self.process.poll() is None, f"the service ended before this: {what}"
            time.sleep(0.2)
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait()
        for peer in (self.scanner, self.pacs, self.vault, self.backup):
            peer.stop()
        self._log.close()
        return code

    def node(self, *arguments: str, expect: int = 0) -> str:
        done = run_program(arguments, self._environment)
        assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def jobs(self, study: str | None = None) -> dict[int, dict[str, Any]]:
        """By their ids, oldest first."""
        of = ("--study", STUDIES[study]) if study else ()
        return {job["id"]: job for job in json.loads(self.node("queue", "list", "--json", *of))["jobs"]}

    def job(self, job_id: int) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.node("queue", "show", str(job_id), "--json"))["job"]
        return facts

    def done(self, job_id: int) -> dict[str, Any]:
        """Wait until a job is done; the job."""

        def ended() -> dict[str, Any] | None:
            job = self.jobs()[job_id]
            assert job["state"] not in ENDED_BADLY, job
            return job if job["state"] == "done" else None

        job: dict[str, Any] = self.until(ended, f"job {job_id} is done")
        return job

    def delivered(self, study: str) -> None:
        """Wait until the PACS has all of a study's result."""

        def ended() -> dict[str, Any] | None:
            jobs = self.jobs(study)
            bad = [j for n, j in jobs.items() if j["state"] in ENDED_BADLY and n not in JOBS]
            assert not bad, bad
            found = [
                j for j in jobs.values() if (j["kind"], j["destination"], j["state"]) == ("deliver", "pacs", "done")
            ]
            return found[0] if found else None

        job = self.until(ended, f"the result of {study} is with the PACS")
        assert_taken(self.pacs, self.job(job["id"]))


def the_job(study: str, kind: str, state: str) -> int:
    """The one job of the fixture that is of this kind and in this state; its id."""
    (job_id,) = (n for n, j in JOBS.items() if (j["study_uid"], j["kind"], j["state"]) == (STUDIES[study], kind, state))
    return job_id


def deliveries(job_id: int) -> list[dict[str, Any]]:
    return [row for row in MANIFEST["deliveries"] if row["job_id"] == job_id]


def assert_taken(archive: Archive, job: dict[str, Any]) -> None:
    """That a job tells of instances, all accepted, and that the archive has each of them."""
    assert job["instances"]
    assert all(row["accepted"] for row in job["instances"])
    assert {row["sop_uid"] for row in job["instances"]} <= archive.received.keys()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def codes(text: str) -> list[str]:
    return sorted(CODE.findall(text))


def received(archive: Archive) -> list[bytes]:
    return list(archive.received.values())


def without_meta(data_set: Dataset) -> dict[str, Any]:
    return {str(element.tag): element.value for element in data_set}
