"""A tracker of the version before keys, brought up to date on either database."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import create_engine, select, text

from node.archive.layout import DerivedName, InstanceName, parse_key
from node.tracker import queue, schema
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.states import Kind
from node.tracker.tables import Audit, Delivery, Instance, Job, Series, Study

AT = "2026-01-01 12:00:0%d.000000"
RESULT = "infer:0123456789abcdef0123456789abcdef"
OLD = "/var/lib/diffmsr-node"


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database at the schema before this one, with rows as it left them."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'tracker.sqlite3'}"
    else:
        server = request.getfixturevalue("postgres")
        name = f"m{abs(hash(tmp_path))}"
        admin = create_engine(server % "postgres", isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        url = server % name
    database = Database(url)
    with database._connected(writer=True) as connection, connection.begin():
        schema.upgrade(connection, "0002")
        _fill(connection)
    yield database
    database.dispose()


def _fill(connection: sa.Connection) -> None:
    """Two studies; a PACS has copied series 1.2.1 into the second and kept its UID. One result, on its way to two places."""

    def add(table: str, **values: Any) -> None:
        columns = ", ".join(values)
        names = ", ".join(f":{name}" for name in values)
        connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({names})"), values)

    for number, (study, series) in enumerate([("1.2", "1.2.1"), ("1.2", "1.2.1"), ("1.2", "1.2.2"), ("1.3", "1.2.1")]):
        sop = f"{study}.{number}"
        add(
            "instance", sop_uid=sop, series_uid=series, study_uid=study, sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
            transfer_syntax_uid="1.2.840.10008.1.2.1", path=f"{OLD}/instances/{study}/{series}/{sop}.dcm",
            sha256=f"{number}" * 64, size=1000 + number, source="MR1", received_at=AT % number,
        )  # fmt: skip
    add("series", series_uid="1.2.1", study_uid="1.2", instances=3, expected=2, last_received_at=AT % 3)
    add("series", series_uid="1.2.2", study_uid="1.2", instances=1, expected=None, last_received_at=AT % 2)
    common = {
        "prior_state": None, "parent_id": None, "fence": 1, "attempts": 1, "max_attempts": 3, "next_attempt_at": None,
        "worker": None, "lease_expires_at": None, "progress": 0, "progress_total": 0, "error": None,
        "target_series_uid": None, "reference_series_uid": None, "created_at": AT % 1, "updated_at": AT % 1, "result": None,
    }  # fmt: skip
    order = {"study_uid": "1.2", "target": {"series_uid": "1.2.1"}, "reference": {"series_uid": "1.2.2"}}
    pair = {"target_series_uid": "1.2.1", "reference_series_uid": "1.2.2", "revision": 3, "study_uid": "1.2"}
    verdict = {"schema": 1, "outcome": "paired", "orders": [order], "stacks": []}
    add("job", **common | {
        "id": 1, "kind": "match", "key": "match:1.2", "state": "done", "study_uid": "1.2", "payload": "{}",
        "result": json.dumps(verdict), "revision": 3,
    })  # fmt: skip
    add("job", **common | pair | {
        "id": 2, "kind": "infer", "key": RESULT, "state": "done", "payload": json.dumps(order),
        "result": json.dumps({"slices": 2}),
    })  # fmt: skip
    for number, (name, state) in enumerate([("pacs", "done"), ("vault", "retry-wait")], start=3):
        payload = {"destination": name, "result": RESULT, "order": order}
        add("job", **common | pair | {
            "id": number, "kind": "deliver", "key": f"{RESULT}:{name}", "state": state, "parent_id": 2,
            "payload": json.dumps(payload),
        })  # fmt: skip
        for place, uid in enumerate(("2.25.9", "2.25.8")):
            add(
                "delivery", job_id=number, sop_uid=uid, path=f"{OLD}/derived/{RESULT}/{place:05d}-{uid}.dcm",
                accepted=name == "pacs", status=None, updated_at=AT % 4, committed=False,
            )  # fmt: skip
    add("job", **common | {
        "id": 5, "kind": "match", "key": "match:1.3", "state": "refused", "study_uid": "1.3", "payload": "{}",
        "result": json.dumps({"outcome": "refused"}), "revision": 1,
    })  # fmt: skip


def test_every_row_names_its_file_by_a_key(old: Database) -> None:
    old.upgrade()
    with old.read() as session:
        rows = session.scalars(select(Instance)).all()
        assert len(rows) == 4
        for row in rows:
            assert parse_key(row.key) == InstanceName(row.study_uid, row.series_uid, row.sop_uid, None)
            assert (row.version, row.replaced_at) == (1, None)
        assert [row.sha256 for row in rows] == [n * 64 for n in "0123"]
        deliveries = session.scalars(select(Delivery).order_by(Delivery.job_id, Delivery.key)).all()
        expected = [DerivedName(RESULT, 0, "2.25.9"), DerivedName(RESULT, 1, "2.25.8")] * 2
        assert [parse_key(row.key) for row in deliveries] == expected
        assert [row.accepted for row in deliveries] == [True, True, False, False]
        assert {row.sha256 for row in deliveries} == {None}, "not known"


def test_a_series_of_two_studies_becomes_two(old: Database) -> None:
    old.upgrade()
    with old.read() as session:
        rows = {(s.study_uid, s.series_uid): s for s in session.scalars(select(Series))}
        assert {key: s.instances for key, s in rows.items()} == {
            ("1.2", "1.2.1"): 2, ("1.2", "1.2.2"): 1, ("1.3", "1.2.1"): 1,
        }  # fmt: skip
        assert rows["1.2", "1.2.1"].expected == 2
        assert rows["1.2", "1.2.1"].last_received_at.second == 1
    tracker = Tracker(old)
    claim = queue.claim(tracker, Kind.DELIVER, "host/deliver/1")
    assert claim is not None, "it could not be claimed while the other study's instance counted"
    assert claim.job_id == 4


def test_every_study_has_a_row(old: Database) -> None:
    old.upgrade()
    with old.read() as session:
        one, other = session.scalars(select(Study).order_by(Study.study_uid))
    assert (one.study_uid, one.series, one.instances, one.size) == ("1.2", 2, 3, 3003)
    assert (one.first_received_at.second, one.last_received_at.second) == (0, 2)
    assert (one.state, other.state) == ("delivering", "refused")
    assert (one.labelled, one.patient_id, one.purged_at, one.purges, one.leftovers) == (False, None, None, 0, None)


def test_words_of_before_are_those_of_now(old: Database) -> None:
    old.upgrade()
    with old.read() as session:
        jobs = {job.id: job for job in session.scalars(select(Job))}
    assert jobs[1].result is not None
    assert "orders" not in jobs[1].result
    assert jobs[1].result["requests"][0]["study_uid"] == "1.2"
    for number in (3, 4):
        assert set(jobs[number].payload) == {"destination", "result", "request"}
    assert [jobs[number].destination for number in (3, 4)] == ["pacs", "vault"]
    assert jobs[5].result == {"outcome": "refused"}
    assert jobs[2].payload["target"] == {"series_uid": "1.2.1"}


def test_to_upgrade_again_changes_nothing(old: Database) -> None:
    old.upgrade()
    with old.read() as session:
        before = [(s.study_uid, s.state, s.instances) for s in session.scalars(select(Study))]
    old.upgrade()
    with old.read() as session:
        assert [(s.study_uid, s.state, s.instances) for s in session.scalars(select(Study))] == before
        assert session.scalars(select(Audit)).all() == []
