"""Make the fixture of the migration tests: a data folder and tracker as a service of an earlier version left them.

    .venv/bin/python -m tests.migration.make_fixture tests/migration/data/main-2026-11

Run it in a checkout of the version that is to be kept. `main-2026-11` was made from the commit named in its JSON file,
the last one that held absolute paths in its rows. To make a fixture of another version, check that version out, and
give another name; an existing one is never made again, because it stands for what is installed somewhere.

Nothing is made up: the service runs as an administrator runs it, a scanner sends over DICOM on loopback, Orthanc is the
PACS. One study for each state a job can be in when the service is stopped; see `Maker.make`. Only the half-written file
in `incoming/` is put there by hand.

It writes NAME.tar.xz (node.toml, data/, scanner/, explain/) and NAME.json, which says what the tracker has to show.
"""

import hashlib
import json
import lzma
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
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

    # ------------------------------------------------------------------ what is kept of it

    def manifest(self) -> dict[str, Any]:
        jobs = [self._job(row["id"]) for row in self.rows("SELECT id FROM job ORDER BY id")]
        instances = self.rows(
            "SELECT sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, path, sha256, size, source, received_at "
            "FROM instance ORDER BY sop_uid"
        )
        for row in instances:
            row["file_sha256"] = _sha256(Path(row["path"]).read_bytes())
            row["path"] = str(Path(row["path"]).relative_to(self.data))
        deliveries = self.rows(
            "SELECT job_id, sop_uid, path, accepted, status, committed FROM delivery ORDER BY job_id, path"
        )
        for row in deliveries:
            row["file_sha256"] = _sha256(Path(row["path"]).read_bytes())
            row["path"] = str(Path(row["path"]).relative_to(self.data))
            row |= {name: bool(row[name]) for name in ("accepted", "committed")}
        return {
            "commit": _git("rev-parse", "HEAD"),
            "version": self.node("version").split()[1],
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "data_dir": str(self.data),
            "host": os.uname().nodename,
            "ports": self.ports,
            "studies": self.studies.uids,
            "schema": self.rows("SELECT version_num FROM alembic_version")[0]["version_num"],
            "totals": self._totals(),
            "events": self.rows("SELECT count(*) AS n FROM event")[0]["n"],
            "series": self.rows("SELECT series_uid, study_uid, instances, expected FROM series ORDER BY series_uid"),
            "instances": instances,
            "jobs": jobs,
            "deliveries": deliveries,
            "commitments": self.rows(
                "SELECT transaction_uid, job_id, answered_at IS NOT NULL AS answered FROM commitment ORDER BY asked_at"
            ),
            "results": {path.stem: _result(path) for path in sorted((self.data / "results").iterdir())},
            "derived": {
                str(path.relative_to(self.data)): _sha256(path.read_bytes())
                for path in sorted((self.data / "derived").rglob("*"))
                if path.is_file()
            },
            "asked_commitment": self.asked,
            "half_written": [path.name for path in (self.data / "incoming").iterdir()],
        }

    def _job(self, job_id: int) -> dict[str, Any]:
        """A job as the command line shows it, with what only its row says; without what it was asked, and its verdict,
        whose shape is the version's own."""
        facts: dict[str, Any] = json.loads(self.node("queue", "show", str(job_id), "--json"))["job"]
        (row,) = self.rows("SELECT revision, fence FROM job WHERE id = ?", job_id)
        facts["destination"] = facts["payload"].get("destination")
        return {k: v for k, v in facts.items() if k not in ("payload", "result")} | row

    def _totals(self) -> dict[str, int]:
        command = [PROGRAM, "status", "--json", "--config", self.config]
        said = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        totals: dict[str, int] = said["received"]
        return totals

    def explanations(self) -> dict[str, str]:
        matched = self.rows("SELECT study_uid FROM job WHERE kind = 'match' AND result IS NOT NULL")
        return {row["study_uid"]: self.node("explain", row["study_uid"], "--json") for row in matched}


def _until(condition: Callable[[], bool], pause_s: float = 0.1) -> None:
    """Wait as long as it takes; whoever runs this sees what it waits for. Without a pause for what is soon over."""
    while not condition():
        time.sleep(pause_s)


def _result(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        pixels, facts = file["pixels"], json.loads(str(file["facts"]))
    return {
        "path": f"results/{path.name}",
        "sha256": _sha256(path.read_bytes()),
        "pixels_sha256": _sha256(np.ascontiguousarray(pixels, "<f4").tobytes()),
        "shape": list(pixels.shape),
        "source_uids": facts["source_uids"],
        "weights_sha256": facts["weights_sha256"],
        "usable": facts["quality"]["usable"],
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def _pack(archive: Path, maker: Maker, explanations: dict[str, str]) -> None:
    for name in ("scanner", "explain"):
        (ROOT / name).mkdir()
    for path in sorted((maker.scanner_files / "waiting").rglob("*.dcm")):  # the T1 that has not come yet, too
        kept = ROOT / "scanner" / path.relative_to(maker.scanner_files)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
    for study_uid, text in explanations.items():
        (ROOT / "explain" / f"{study_uid}.json").write_text(text)
    # Most of it is float32: literals in the context of their place among four bytes are 3 % smaller.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 2, "lp": 2, "pb": 2}]
    with lzma.open(archive, "w", filters=filters) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(ROOT, arcname=".")


def main() -> None:
    name = Path(sys.argv[1])
    archive, manifest = name.with_name(f"{name.name}.tar.xz"), name.with_name(f"{name.name}.json")
    for path in (archive, manifest, ROOT):
        if path.exists():
            sys.exit(f"{path} is there already")
    ROOT.mkdir()
    maker = Maker()
    maker.make()
    manifest.write_text(json.dumps(maker.manifest(), indent=1) + "\n")
    _pack(archive, maker, maker.explanations())
    for folder in (ROOT, maker.scanner_files, Path(f"{ROOT}-pacs")):
        shutil.rmtree(folder)
    Path(f"{ROOT}.log").unlink()


if __name__ == "__main__":
    main()
