"""What the fixture of the migration tests is made of: studies, a service that is started and stopped, and its tracker as it is
seen from outside."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID, JPEGLSLossless

import tests.dicom
from tests.acceptance.conftest import Orthanc
from tests.conftest import free_port
from tests.dicom import T1, T2, enhanced, mr_series, write
from tests.migration.peers import Archive, Scanner
from tests.program import PROGRAM

ROOT = Path("/tmp/diffmsr-before-migration")
"""Where the service stood: the paths in the rows begin with it."""
ROWS, COLUMNS = 16, 20
YEARS_S = 315_360_000
"""Ten years: what waits is still waiting when a test looks, and goes on when it is told to."""
ALL = ("receive", "match", "infer", "deliver", "housekeep")


class Studies:
    """Synthetic studies, each with pixels and UIDs of its own, the same in every run."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._random = folder, random.Random(20261125)
        tests.dicom.generate_uid = self.uid  # type: ignore[assignment]
        self.uids: dict[str, str] = {}

    def uid(self, *_: object, **__: object) -> UID:
        return UID(f"2.25.{self._random.getrandbits(112)}")

    def pair(
        self, name: str, slices: int = 3, prefix: str | None = None, **attributes: Any
    ) -> tuple[list[Dataset], list[Dataset]]:
        """(T2, T1) of a new study; `attributes` go over those of the T2, UIDs begin with `prefix`."""
        seed = len(self.uids)
        study_uid, frame_uid = self.uid(), self.uid()
        common = {"study_uid": study_uid, "frame_uid": frame_uid, "seed": seed}
        t2 = mr_series(slices, ROWS, COLUMNS, 8.0, 5.0, series_number=2, **common, **(T2 | attributes))
        t1 = mr_series(slices, 4 * ROWS, 4 * COLUMNS, 2.0, 5.0, series_number=1, **common, **T1)
        for coarse, fine in zip(t2, t1, strict=True):
            x, y, z = (float(v) for v in coarse.ImagePositionPatient)
            fine.ImagePositionPatient = [x - 3, y - 3, z]
        for image in (*t2, *t1):
            image.PatientName, image.PatientID = f"Migration^{name.title()}", f"M{seed:02d}"
            image.AcquisitionMatrix, image.InPlanePhaseEncodingDirection = [0, image.Columns, image.Rows, 0], "COL"
            pixels = (image.pixel_array * (1 - 0.03 * seed)).astype(np.uint16)
            image.PixelData = pixels.tobytes()
            if prefix is not None:
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                    setattr(image, keyword, UID(str(image[keyword].value).replace("2.25.", prefix, 1)))
                image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        self.uids[name] = str(t2[0].StudyInstanceUID)
        return t2, t1

    def files(self, name: str, t2: Sequence[Dataset], t1: Sequence[Dataset] = ()) -> list[Path]:
        """As they lie on the scanner, T1 first."""
        return [*write(t1, self._folder / name / "t1"), *write(t2, self._folder / name / "t2")]


def destination(name: str, port: int, **settings: object) -> str:
    lines = {"name": name, "ae_title": name.upper(), "host": "127.0.0.1", "port": port} | settings
    return "[[destinations]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items()) + "\n"


class Maker:
    def __init__(self) -> None:
        self.config, self.data = ROOT / "node.toml", ROOT / "data"
        self.scanner_files = Path(f"{ROOT}-scanner")
        names = ("node", "scanner", "backup", "vault")
        self.ports = {name: free_port() for name in names}
        self.scanner = Scanner(self.ports["scanner"])
        self.studies = Studies(self.scanner_files)
        self.asked: dict[str, Any] = {}
        """The storage commitment that the scanner has asked for and was not told of."""

    # ------------------------------------------------------------------ the service

    def write_config(self, *sections: str) -> None:
        common = f"""
            node.data_dir = "data"
            scp = {{ host = "127.0.0.1", port = {self.ports["node"]} }}
            completion = {{ series_quiet_s = 1, study_max_wait_s = {YEARS_S} }}
            storage.reserve_gb = 0.01
            [[sources]]
            name = "scanner"
            ae_title = "SCANNER"
            host = "127.0.0.1"
            port = {self.ports["scanner"]}
            """
        text = "\n".join(line.strip() for line in common.strip().splitlines()) + "\n"
        self.config.write_text("\n".join([text, *sections]))

    @contextmanager
    def service(self, *roles: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The service with these roles; stopped at the end, unless it was killed."""
        command = [PROGRAM, "start", "--config", self.config, *(a for role in roles for a in ("--role", role))]
        log = Path(f"{ROOT}.log")
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as stderr:
            process = subprocess.Popen(command, stderr=stderr, stdout=stderr, start_new_session=True)
        try:

            def ready() -> bool:
                assert process.poll() is None, log.read_text()[-3000:]
                return b"service.ready" in log.read_bytes()[before:]

            _until(ready)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
        sys.stderr.write(f"phase over: {self.counts()}\n")

    def node(self, *arguments: str) -> str:
        environment = os.environ | {"DIFFMSR_NODE_CONFIG": str(self.config)}
        command = [PROGRAM, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    def send(self, name: str, t2: Sequence[Dataset], t1: Sequence[Dataset] = ()) -> None:
        assert set(self.scanner.send(self.ports["node"], self.studies.files(name, t2, t1))) == {0}

    # ------------------------------------------------------------------ the tracker, read from outside

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.data / "tracker.sqlite3")) as tracker:
            tracker.row_factory = sqlite3.Row
            return [dict(row) for row in tracker.execute(query, parameters)]

    def counts(self) -> dict[str, int]:
        rows = self.rows("SELECT kind || ' ' || state AS what, count(*) AS n FROM job GROUP BY kind, state")
        return {row["what"]: row["n"] for row in rows}

    def states(self, study: str, kind: str) -> list[str]:
        query = "SELECT state FROM job WHERE study_uid = ? AND kind = ? ORDER BY id"
        return [row["state"] for row in self.rows(query, self.studies.uids[study], kind)]

    def wait(self, study: str, kind: str, *states: str) -> None:
        sys.stderr.write(f"{study}: {kind} {', '.join(states)}\n")
        _until(lambda: self.states(study, kind) == list(states))

    def job(self, study: str, kind: str) -> str:
        query = "SELECT id FROM job WHERE study_uid = ? AND kind = ? ORDER BY id DESC"
        return str(self.rows(query, self.studies.uids[study], kind)[0]["id"])

    # ------------------------------------------------------------------ what is made

    def make(self) -> None:
        pacs = Orthanc(Path(f"{ROOT}-pacs"))
        self.ports["pacs"] = pacs.port
        pacs.start()
        try:
            self._make(destination("pacs", pacs.port))
        finally:
            pacs.stop()

    def _make(self, pacs: str) -> None:
        pair, send, wait = self.studies.pair, self.send, self.wait
        later = {"initial_delay_s": YEARS_S, "max_delay_s": YEARS_S}
        backup = destination("backup", self.ports["backup"], **later)
        vault = destination(
            "vault", self.ports["vault"], commitment=True, commitment_timeout_s=YEARS_S, timeout_s=20, **later
        )

        self.write_config(pacs)
        with self.service(*ALL):
            t2, t1 = pair("delivered")
            for image in t1:
                image.compress(JPEGLSLossless, generate_instance_uid=False)
            send("delivered", t2, t1)
            t2, t1 = pair("enhanced")
            send("enhanced", [enhanced(t2)], [enhanced(t1)])
            send("refused", pair("refused", BurnedInAnnotation="YES")[0])
            send("negative", *pair("negative", RescaleSlope=1, RescaleIntercept=-2000))
            send("waiting", (waiting := pair("waiting"))[0])
            for name in ("delivered", "enhanced"):
                wait(name, "deliver", "done")
            wait("refused", "match", "refused")
            wait("negative", "infer", "refused")
            wait("waiting", "match", "waiting-pair")

        self.write_config(pacs, backup)
        with self.service(*ALL):
            for name in ("retried", "cancelled"):
                send(name, *pair(name))
                wait(name, "deliver", "done", "retry-wait")
            query = "SELECT id FROM job WHERE study_uid = ? AND state = 'retry-wait'"
            (row,) = self.rows(query, self.studies.uids["cancelled"])
            self.node("queue", "cancel", str(row["id"]), "--yes")

        self.write_config(backup)
        with self._archive("backup", takes=2), self.service(*ALL):
            send("partly", *pair("partly"))
            wait("partly", "deliver", "retry-wait")

        self.write_config(destination("backup", self.ports["backup"], max_attempts=1))
        with self.service(*ALL):
            send("failed", *pair("failed"))
            wait("failed", "deliver", "failed")

        self.write_config("[report]\nhold = true\nmax_inconsistency = 0.0001\n", pacs)
        with self.service(*ALL):
            send("held", *pair("held"))
            wait("held", "deliver", "held")

        self.write_config(vault)
        with self._archive("vault", reports=True), self.service(*ALL):
            send("committed", *pair("committed"))
            wait("committed", "deliver", "done")
        with self._archive("vault", reports=False), self.service(*ALL):
            send("committing", *pair("committing"))
            wait("committing", "deliver", "committing")

        self.write_config(
            f"[fetch]\nae_title = 'BACKUP'\nhost = '127.0.0.1'\nport = {self.ports['backup']}\n"
            f"initial_delay_s = {YEARS_S}\nmax_delay_s = {YEARS_S}\n"
        )
        with self.service(*ALL):
            # Zeros before a component are not allowed, and are sent all the same.
            send("kept", *pair("kept", prefix="1.2.826.0.1.3680043.010.042."))
            send("fetching", pair("fetching")[0])
            wait("kept", "infer", "done")
            wait("fetching", "fetch", "retry-wait")

        self.write_config(pacs)
        with self.service("receive", "match", "infer", "housekeep"):
            send("undelivered", *pair("undelivered"))
            wait("undelivered", "deliver", "ready")
        with self.service("receive", "match", "infer") as service:
            send("killed", *pair("killed"))
            _until(lambda: self.states("killed", "infer") == ["running"], pause_s=0)
            os.killpg(service.pid, signal.SIGKILL)
            service.wait()
        assert self.states("killed", "infer") == ["running"]

        self.write_config(pacs, backup, vault)
        with self.service("receive", "match"):
            send("unbegun", *pair("unbegun"))
            send("kept back", *pair("kept back"))
            t2, t1 = pair("superseded", 4)
            send("superseded", t2[:3], t1[:3])
            for name in ("unbegun", "kept back", "superseded"):
                wait(name, "infer", "ready")
            self.node("queue", "hold", self.job("kept back", "infer"))
            assert set(self.scanner.send(self.ports["node"], write([t2[3], t1[3]], self.scanner_files / "late"))) == {0}
            wait("superseded", "infer", "cancelled", "ready")
        with self.service("receive"):
            send("receiving", *pair("receiving"))
            wait("receiving", "match", "receiving")
            query = "SELECT sop_class_uid, sop_uid FROM instance WHERE study_uid = ? ORDER BY sop_uid"
            asked = [(r["sop_class_uid"], r["sop_uid"]) for r in self.rows(query, self.studies.uids["delivered"])]
            self.asked = {"transaction_uid": str(self.studies.uid()), "sop_uids": [uid for _, uid in asked]}
            assert self.scanner.ask_commitment(self.ports["node"], self.asked["transaction_uid"], asked) == 0
            wait("delivered", "commit", "retry-wait")

        part = self.data / "incoming" / ".part-k3v9x0qz"
        half = self.studies.files("waiting", *waiting)[0].read_bytes()
        part.write_bytes(half[: len(half) // 2])

    @contextmanager
    def _archive(self, name: str, **settings: Any) -> Iterator[Archive]:
        archive = Archive(name.upper(), self.ports[name], **settings).start()
        try:
            yield archive
        finally:
            archive.stop()


def _until(condition: Callable[[], bool], pause_s: float = 0.1) -> None:
    """Wait as long as it takes; whoever runs this sees what it waits for. Without a pause for what is soon over."""
    while not condition():
        time.sleep(pause_s)
