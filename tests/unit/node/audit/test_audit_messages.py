"""Audit messages reach a real collector, in the form of the standard, each of them, and again after trouble."""

import base64
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import checks
from node.audit.forwarder import BATCH, Forwarder
from node.config.audit import AuditSettings, AuditTLS
from node.config.settings import NodeSettings, Settings
from node.errors import ConfigError
from node.tracker import duties, spool
from node.tracker.audit import Action, audit, expire
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.tables import Study
from tests.hostile.conftest import Certificates
from tests.unit.node.tracker.conftest import Clock

from .collector import Collector, judged

STUDY = "1.2.826.5"
ROWS = [
    (Action.CONFIGURED, "start", None, {"path": "node.toml", "roles": ["receive"]}),
    (Action.ASSOCIATION, "SCANNER", None, {"host": "10.0.0.7", "stored": 3, "refused": 0}),
    (Action.ASSOCIATION, "STRANGER", None, {"host": "10.0.0.8", "rejected": "calling AE title not recognized"}),
    (Action.STORED, "SCANNER", STUDY, {"series": "1.2.826.5.1", "sop_class": "1.2.840.10008.5.1.4.1.1.4"}),
    (Action.REFUSED, "SCANNER", STUDY, {"status": "0xC111"}),
    (Action.REPAIRED, "SCANNER", STUDY, {"sop_instance": "1.2.826.5.1.1"}),
    (Action.CORRECTED, "SCANNER", STUDY, {}),
    (Action.DROPPED, "anna", STUDY, {"instances": 3}),
    (Action.SENT, "host/deliver/1", STUDY, {"destination": "pacs", "instances": 4, "job": 7}),
    (Action.VIEWED, "anna", STUDY, {"what": "images"}),
    (Action.VIEWED, "anna", None, {"what": "search, by DICOMweb", "answers": 3}),
    (Action.PURGED, "retention", STUDY, {"series": 2}),
    (Action.ADMINISTERED, "anna <root> & Söhne", STUDY, {"job": 7, "act": "retried"}),
    (Action.LOGGED_IN, "web", None, {"accepted": False, "address": "::1"}),
    (Action.LOGGED_IN, "anna", None, {"accepted": True, "address": "10.0.0.9"}),
    (Action.LOGGED_OUT, "anna", None, {}),
    (Action.RELOADED, "start", None, {}),
    (Action.EXPIRED, "anna", None, {"rows": 3}),
    (Action.STOPPED, "stop", None, {}),
]


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Tracker]:
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    yield Tracker(database, node="node-1")
    database.dispose()


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def protected(signed: Certificates, name: str = "node") -> ssl.SSLContext:
    """The collector's side: it shows a certificate, and wants one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=signed.folder / "ours.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(signed.folder / f"{name}.crt", signed.folder / f"{name}.key")
    return context


def by_tls(signed: Certificates, port: int, name: str = "scanner") -> AuditSettings:
    folder = signed.folder
    tls = AuditTLS(ca_file=folder / "ours.crt", cert_file=folder / f"{name}.crt", key_file=folder / f"{name}.key")
    return AuditSettings(host="localhost", port=port, tls=tls, enterprise_site="Hospital")


def write(tracker: Tracker, count: int = len(ROWS)) -> None:
    for n in range(count):
        action, actor, study_uid, details = ROWS[n % len(ROWS)]
        audit(tracker, action, actor, study_uid, details)


def test_every_action_is_a_message_of_the_standard(tracker: Tracker, signed: Certificates) -> None:
    assert {action for action, *_ in ROWS} == set(Action)
    with tracker.write() as session:
        now = tracker.clock()
        session.add(
            Study(study_uid=STUDY, first_received_at=now, last_received_at=now, state="", patient_id="P-17",
                  patient_name="Doe^Jane")
        )  # fmt: skip
    write(tracker)
    with Collector(protected(signed)) as collector:
        assert Forwarder(tracker, by_tls(signed, collector.port), "DIFFMSR").look() == len(ROWS)
    messages = [judged(message) for message in collector.messages]
    codes = [message.find("EventIdentification/EventID").attrib["csd-code"] for message in messages]  # type: ignore[union-attr]
    assert codes == [
        "110100", "association", "110113", "110104", "110104", "110104", "110104", "110103", "110104", "110103", "110112",
        "110105", "administered", "110114", "110114", "110114", "110113", "expired", "110100",
    ]  # fmt: skip
    failed = [n for n, message in enumerate(collector.messages) if message.startswith(b"<84>")]
    assert failed == [2, 4, 13], "rejected, refused, and a failed login"
    text = b"".join(collector.messages)
    assert b"Doe" not in text
    assert b"P-17" not in text
    assert b"anna &lt;root&gt; &amp; S\xc3\xb6hne" in text
    details = messages[8].findall("ParticipantObjectIdentification/ParticipantObjectDetail")
    assert {d.attrib["type"]: base64.b64decode(d.attrib["value"]) for d in details} == {
        "destination": b"pacs", "instances": b"4", "job": b"7",
    }  # fmt: skip


def test_the_patient_id_where_the_site_wants_it(tracker: Tracker) -> None:
    with tracker.write() as session:
        now = tracker.clock()
        session.add(Study(study_uid=STUDY, first_received_at=now, last_received_at=now, state="", patient_id="P-17"))
    write(tracker)
    with Collector() as collector:
        settings = AuditSettings(host="localhost", port=collector.port, transport="tcp", patient_id=True)
        Forwarder(tracker, settings, "DIFFMSR").look()
    of_study = [judged(m) for m, (_, _, study, _) in zip(collector.messages, ROWS, strict=True) if study]
    for message in of_study:
        persons = [
            o for o in message.iter("ParticipantObjectIdentification") if o.get("ParticipantObjectTypeCode") == "1"
        ]
        assert [person.get("ParticipantObjectID") for person in persons] == ["P-17"]


def test_what_waits_follows_in_order(tracker: Tracker) -> None:
    """While the collector is away, and when it dies in the middle: then what it may have lost comes again."""
    seconds = 0.0
    with Collector() as collector:
        pass
    settings = AuditSettings(host="localhost", port=collector.port, transport="tcp")
    forwarder = Forwarder(tracker, settings, "DIFFMSR", seconds=lambda: seconds)
    write(tracker, BATCH + 5)
    assert forwarder.look() == 0
    assert spool.backlog(tracker.database).rows == BATCH + 5
    with Collector() as collector:
        forwarder = Forwarder(tracker, settings.model_copy(update={"port": collector.port}), "DIFFMSR", lambda: seconds)
        collector.dies_after = 100
        assert forwarder.look() == 0
        assert forwarder.look() == 0, "it pauses"
        seconds += 10
        assert forwarder.look() == BATCH + 5
        assert spool.backlog(tracker.database).rows == 0
        write(tracker, 1)
        assert forwarder.look() == 1
    assert len(collector.messages) == BATCH + 6


def test_a_stranger_is_told_nothing(tracker: Tracker, signed: Certificates) -> None:
    write(tracker, 1)
    with Collector(protected(signed, "stranger")) as collector:
        assert Forwarder(tracker, by_tls(signed, collector.port), "DIFFMSR").look() == 0
    with Collector(protected(signed)) as collector:  # which knows nobody called stranger
        assert Forwarder(tracker, by_tls(signed, collector.port, "stranger"), "DIFFMSR").look() == 0
    assert not collector.messages
    assert spool.backlog(tracker.database).rows == 1
    with pytest.raises(ConfigError, match=r"\[audit.tls\]"):
        Forwarder(tracker, by_tls(signed, 1, "nobody"), "DIFFMSR")


def test_datagrams(tracker: Tracker) -> None:
    write(tracker, 3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        settings = AuditSettings(host="127.0.0.1", port=collector.getsockname()[1], transport="udp")
        assert Forwarder(tracker, settings, "DIFFMSR").look() == 3
        for _ in range(3):
            judged(collector.recv(65536))


def test_one_of_several_nodes_sends(tracker: Tracker) -> None:
    clock = Clock()
    first, second = (Tracker(tracker.database, clock=clock, node=name) for name in ("a", "b"))
    write(tracker, 2)
    with Collector() as collector:
        settings = AuditSettings(host="localhost", port=collector.port, transport="tcp")
        one, other = (Forwarder(node, settings, "DIFFMSR") for node in (first, second))
        assert (one.look(), other.look()) == (2, 0)
        write(tracker, 1)
        assert other.look() == 0, "the first one holds the duty"
        clock.forward(duties.HELD_FOR.total_seconds() + 1)
        assert (other.look(), one.look()) == (1, 0)
        duties.try_release(second)
        write(tracker, 1)
        assert one.look() == 1


def test_what_was_not_sent_is_not_expired(tracker: Tracker) -> None:
    write(tracker, 3)
    with Collector() as collector:
        settings = AuditSettings(host="localhost", port=collector.port, transport="tcp")
        Forwarder(tracker, settings, "DIFFMSR").look()
    write(tracker, 2)
    sent = duties.position(tracker, duties.Name.AUDIT_MESSAGES)
    assert expire(tracker, tracker.clock(), "anna", sent) == 3
    assert spool.backlog(tracker.database).rows == 3, "and the row that says so"


def test_a_backlog_is_said(tmp_path: Path) -> None:
    settings = Settings(
        node=NodeSettings(data_dir=tmp_path), audit=AuditSettings(host="collector.example", transport="tcp")
    )
    database = Database(settings.node.url)
    database.upgrade()
    write(Tracker(database), 1)
    assert checks.audit_messages(settings).says == "1 wait for [audit] collector.example:6514, tcp"
    clock = Clock()  # long ago
    write(Tracker(database, clock=clock), 1)
    said = checks.audit_messages(settings)
    assert said.level is checks.Level.WARN
    assert said.sentence == "2 audit messages wait for [audit] collector.example:6514, tcp, since 2026-01-01 12:00 UTC"
    database.dispose()
