"""Three services share PostgreSQL and a bucket, each with roles of its own. Of what can go wrong, the bucket does here: it is
away, or answers with faults. `python -m tests.hosts` has the rest."""

import logging
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer

from tests.acceptance.conftest import Orthanc, echo, run_node
from tests.chaos import reader
from tests.chaos.scanner import SentStudy
from tests.conftest import free_port, require
from tests.faulty_store import FAULTS, FaultyStore
from tests.program import Service
from tests.waiting import until

pytestmark = pytest.mark.acceptance

ROLES = {"a": ("receive", "match"), "b": ("infer", "housekeep"), "c": ("deliver", "housekeep")}
BUCKET, PREFIX = "hospital", "archive"


@pytest.fixture
def object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "site")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def faulty(object_store: str) -> Iterator[FaultyStore]:
    store = FaultyStore(object_store)
    yield store
    store.close()


def test_three_services_do_the_work_of_one(
    tmp_path: Path, postgres: str, object_store: str, faulty: FaultyStore
) -> None:
    client = boto3.client("s3", endpoint_url=object_store, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    plain = (postgres % "postgres").replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute("CREATE DATABASE hosts")

    database = psycopg.connect(plain.replace("/postgres?", "/hosts?"), autocommit=True)

    def ask(query: str) -> list[tuple[Any, ...]]:
        return database.execute(query.encode()).fetchall()

    pacs = Orthanc(tmp_path / "pacs")
    pacs.start()
    port = free_port()
    configs = {name: configured(tmp_path / name, postgres % "hosts", faulty.url, port, pacs.port) for name in ROLES}
    services = {}
    try:
        for name, roles in ROLES.items():
            given = [part for role in roles for part in ("--role", role)]
            services[name] = Service(["start", *given, "--config", configs[name]], tmp_path / name / "log")
            until(lambda name=name: "service.ready" in log(tmp_path / name), f"host {name} is ready")  # type: ignore[misc]
        assert echo(port, "DIFFMSR")
        study = SentStudy(tmp_path / "scanner", 4)
        study.send(port)
        until(
            lambda: reader.is_done(ask, study.study_uid), "the study is done", lambda: ask("SELECT count(*) FROM event")
        )
        holders = ask("SELECT holder FROM duty WHERE name = 'housekeeping'")
        nodes = {name: (tmp_path / name / "data" / "node-id").read_text().strip() for name in ROLES}
        assert [holder for (holder,) in holders] in ([nodes["b"]], [nodes["c"]])
        workers = dict(ask("SELECT kind, actor FROM job JOIN event ON event.job_id = job.id WHERE to_state = 'done'"))
        assert {kind: workers[kind].split(".")[-1][:8] for kind in reader.JOBS} == {
            "match": nodes["a"][:8], "infer": nodes["b"][:8], "derive": nodes["c"][:8], "deliver": nodes["c"][:8],
        }  # fmt: skip
        second = SentStudy(tmp_path / "scanner-2", 4)
        faulty.fault = lambda: "silent"
        assert refusals(port, second.paths[0]) == ["0xa700"], "while the bucket is away"
        faulty.hurry.set()
        draw = Random(3)
        faulty.fault = lambda: draw.choice(FAULTS) if draw.random() < 0.2 else None
        second.send(port)
        until(
            lambda: reader.is_done(ask, second.study_uid), "the study is done, with faults",
            lambda: ask("SELECT count(*) FROM event"),
        )  # fmt: skip
        assert ask("SELECT max(attempts) FROM job") == [(1,)], "what the bucket does is no attempt of a job"
        faulty.fault = lambda: None
        for service in services.values():
            service.send_signal(signal.SIGTERM)
            assert service.wait() == 0
        assert not any("Traceback" in log(tmp_path / name) for name in ROLES)
        run_node(
            "process", str(tmp_path / "scanner-2"), "-o", str(tmp_path / "expected" / "2"), "-c", str(configs["a"])
        )
        run_node("process", str(tmp_path / "scanner"), "-o", str(tmp_path / "expected" / "1"), "-c", str(configs["a"]))
        kept = client.list_objects_v2(Bucket=BUCKET)["Contents"]
        for entry in kept:
            place = tmp_path / "kept" / entry["Key"]
            place.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(BUCKET, entry["Key"], str(place))
        wrong = reader.judge(tmp_path / "kept" / PREFIX, ask, pacs, [study, second], tmp_path / "expected")
        assert not wrong, "\n".join(wrong)
    finally:
        for service in services.values():
            if service.poll() is None:
                service.kill()
        pacs.stop()
        database.close()


def refusals(port: int, path: Path) -> list[str]:
    """The status of each answer to an instance that is not kept."""
    command = [
        require("storescu"),
        "-d",
        "-td",
        "60",
        "-aet",
        "SCANNER",
        "-aec",
        "DIFFMSR",
        "127.0.0.1",
        str(port),
        path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return re.findall(r"DIMSE Status\s+: (0x[0-9a-f]+)", done.stdout + done.stderr)


def configured(folder: Path, database_url: str, object_store: str, port: int, pacs_port: int) -> Path:
    folder.mkdir()
    path = folder / "node.toml"
    path.write_text(f"""
        node = {{ data_dir = "data", database_url = "{database_url}" }}
        scp = {{ host = "127.0.0.1", port = {port} }}
        completion.series_quiet_s = 2
        storage = {{ archive = "s3://{BUCKET}/{PREFIX}", endpoint_url = "{object_store}" }}
        web.enabled = false
        [[destinations]]
        name = "pacs"
        ae_title = "PACS"
        host = "127.0.0.1"
        port = {pacs_port}
    """)
    return path


def log(folder: Path) -> str:
    path = folder / "log"
    return path.read_text() if path.exists() else ""
