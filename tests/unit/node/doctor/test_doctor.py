"""The doctor finds what is planted, says where it is and what to do."""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy import text
from typer.testing import CliRunner

from node import checks
from node.checks import Level
from node.cli.app import app
from node.config.base import TLSSettings
from node.config.loading import load_settings
from node.config.settings import Settings
from node.dimse.associations import Peer, associate
from node.doctor import host
from node.doctor.examine import examine
from node.errors import PeerError
from node.tracker.database import Database
from tests.conftest import free_port, require
from tests.waiting import until


@pytest.fixture(autouse=True)
def synchronised_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the kernel's clock is kept right differs from machine to machine, and no test may change it."""
    monkeypatch.setattr(host, "_kernel_clock_state", lambda: 0)


@pytest.fixture
def storescp() -> Iterator[Callable[..., int]]:
    """Start dcmtk's storescp with options; its port."""
    running = []

    def start(*options: str) -> int:
        port = free_port()
        running.append(subprocess.Popen([require("storescp"), *options, str(port)], stderr=subprocess.DEVNULL))
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "storescp listens")
        return port

    yield start
    for process in running:
        process.terminate()
        process.wait()


class Site:
    """A configuration that is sound, to plant faults in."""

    def __init__(self, folder: Path, pacs_port: int) -> None:
        self.folder, self.pacs_port = folder, pacs_port
        self.path = folder / "node.toml"
        self.scp_port, self.web_port = free_port(), free_port()
        self.write()

    def write(self, more: str = "", host: str = "127.0.0.1") -> None:
        self.path.write_text(
            f"""
            node.data_dir = "data"
            scp = {{ host = "127.0.0.1", port = {self.scp_port} }}
            storage.reserve_gb = 0
            web = {{ port = {self.web_port} }}
            {more}
            [[destinations]]
            name = "pacs"
            ae_title = "PACS"
            host = "{host}"
            port = {self.pacs_port}
            """
        )

    @property
    def settings(self) -> Settings:
        return load_settings(self.path)

    def doctor(self, *options: str) -> tuple[int, dict[str, dict[str, str]]]:
        """The command: its exit code, and what it found that is not well, by name."""
        done = CliRunner().invoke(app, ["doctor", "--no-golden", "--json", "--config", str(self.path), *options])
        found = json.loads(done.stdout)
        assert found["healthy"] == (done.exit_code == 0)
        return done.exit_code, {c["name"]: c for c in found["checks"] if c["level"] != "ok"}


@pytest.fixture
def site(tmp_path: Path, storescp: Callable[..., int]) -> Site:
    return Site(tmp_path, storescp())


def certificate(folder: Path, name: str, days: int) -> TLSSettings:
    """A certificate that is valid for that many days, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    begins = now + timedelta(days=min(days, 0) - 1)
    built = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(begins).not_valid_after(now + timedelta(days=days, minutes=5))
    signed = built.sign(key, hashes.SHA256())
    cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    cert_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_file.write_bytes(private)
    return TLSSettings(cert_file=cert_file, key_file=key_file)


def test_a_sound_node_has_no_fault(site: Site) -> None:
    assert site.doctor() == (0, {})
    Database(site.settings.node.url).upgrade()
    names = [answer.name for answer in examine(site.settings)]
    assert names == [
        "data folder", "archive", "tracker's place", "tracker", "model", "destinations", "disk space",
        "blocked work", "audit messages", "tracker's content", "archive's tracker", "disk speed", "clock", "receiver", "page", "destination pacs",
    ]  # fmt: skip


def test_an_unknown_key(site: Site) -> None:
    site.write('node.data_dri = "/x"')
    code, found = site.doctor()
    assert code == 3
    assert "[node] data_dri: unknown key" in found["configuration"]["sentence"]


def test_no_configuration_at_all(site: Site) -> None:
    site.path.unlink()
    code, found = site.doctor()
    assert code == 3
    assert "diffmsr-node init" in found["configuration"]["sentence"]


@pytest.mark.parametrize(
    ("more", "name", "sentence", "fix"),
    [
        ('node.data_dir = "file/data"', "data folder", "cannot make or write", "name a folder"),
        ('storage.archive = "file/archive"', "archive", "file", "correct [storage] archive"),
        ('model.path = "nowhere"', "model", "nowhere", "correct [model] path"),
        ("storage.reserve_gb = 1e6", "disk space", "below [storage] reserve_gb", "free some space"),
    ],
)
def test_a_place_that_cannot_be_used(site: Site, more: str, name: str, sentence: str, fix: str) -> None:
    (site.folder / "file").touch()
    key = more.partition(" =")[0]
    sound = [line for line in site.path.read_text().splitlines() if not line.strip().startswith(key)]
    site.path.write_text("\n".join([more, *sound]))
    code, found = site.doctor()
    assert sentence in found[name]["sentence"]
    assert fix in found[name]["fix"]
    assert code == (0 if found[name]["level"] == "warn" else 3)


def test_a_tracker_of_a_later_version(site: Site) -> None:
    database = Database(site.settings.node.url)
    database.upgrade()
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    code, found = site.doctor()
    assert code == 3
    assert "a later one" in found["tracker"]["fix"]


def test_sqlite_on_a_network_file_system(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_mount_of", lambda folder: ("/mnt/share", "nfs4"))
    code, found = site.doctor()
    assert code == 3
    assert "PostgreSQL" in found["tracker's place"]["fix"]


def test_a_clock_that_nothing_keeps_right(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_kernel_clock_state", lambda: 5)
    code, found = site.doctor()
    assert code == 0
    assert "chrony" in found["clock"]["fix"]


def test_nowhere_to_send_results_to(site: Site) -> None:
    site.path.write_text(site.path.read_text().partition("[[destinations]]")[0])
    code, found = site.doctor()
    assert code == 0
    assert "[[destinations]]" in found["destinations"]["fix"]


def test_a_port_that_another_program_has(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.scp_port)):
        code, found = site.doctor()
    assert code == 3
    assert f"port {site.scp_port}: address already in use" in found["receiver"]["sentence"]


def test_a_host_that_does_not_resolve(site: Site) -> None:
    site.write(host="pacs.invalid")
    code, found = site.doctor()
    assert code == 5
    assert "cannot find the host" in found["destination pacs"]["sentence"]
    assert "name server" in found["destination pacs"]["fix"]


def test_a_peer_that_is_down_and_one_that_refuses(site: Site, storescp: Callable[..., int]) -> None:
    site.pacs_port = storescp("--refuse")
    site.write(f'sources = [{{ name = "mr1", ae_title = "MR1", host = "127.0.0.1", port = {free_port()} }}]')
    code, found = site.doctor()
    assert code == 5
    assert "association rejected" in found["destination pacs"]["sentence"]
    assert "AE titles" in found["destination pacs"]["fix"]
    assert "connection refused" in found["source mr1"]["sentence"]


def test_a_rejection_is_said_however_fast_it_comes(storescp: Callable[..., int]) -> None:
    """It was taken for silence when the peer had closed the connection before pynetdicom looked: once in six times."""
    peer = Peer("destination pacs", "PACS", "127.0.0.1", storescp("--refuse"), 10.0, "DIFFMSR")
    for _ in range(30):
        with (
            pytest.raises(PeerError, match="association rejected"),
            associate(peer, [(Verification, ImplicitVRLittleEndian)]),
        ):
            pass


@pytest.mark.parametrize(
    ("days", "level", "sentence"), [(-3, Level.FAIL, "expired"), (3, Level.WARN, "expires in 3 days")]
)
def test_a_certificate_that_expires(site: Site, days: int, level: Level, sentence: str) -> None:
    tls = certificate(site.folder, "node", days)
    settings = site.settings.model_copy(update={"scp": site.settings.scp.model_copy(update={"tls": tls})})
    (found,) = [answer for answer in examine(settings) if answer.name == "certificate"]
    assert (found.level, found.fix) == (level, "renew it")
    assert f"[scp.tls] cert_file: {tls.cert_file} {sentence}" in found.sentence


def test_a_key_of_another_certificate(site: Site) -> None:
    one, other = certificate(site.folder, "one", 300), certificate(site.folder, "other", 300)
    tls = TLSSettings(cert_file=one.cert_file, key_file=other.key_file)
    settings = site.settings.model_copy(update={"scp": site.settings.scp.model_copy(update={"tls": tls})})
    (found,) = [answer for answer in examine(settings) if answer.name == "certificate"]
    assert found.level is Level.FAIL
    assert "the key is not that of the certificate" in found.sentence


def test_attempts_that_are_used_up_before_the_time_is(site: Site) -> None:
    site.path.write_text(site.path.read_text() + "max_attempts = 10")
    done = CliRunner().invoke(app, ["config", "check", "--config", str(site.path)])
    said = " ".join(done.stdout.split())
    assert "pacs: 10 attempts (max_attempts) are used up after about 0.6 h, before give_up_h = 72; raise" in said


def test_a_users_file_with_a_password_in_it(site: Site) -> None:
    (site.folder / "users.toml").write_text('[anna]\npassword = "secret"\n')
    site.path.write_text(site.path.read_text().replace("web = {", 'web = { users_file = "users.toml",'))
    code, found = site.doctor()
    assert code == 3
    assert "must be an argon2 hash" in found["users"]["sentence"]
    assert "secret" not in json.dumps(found)


def test_a_check_of_the_configuration_names_open_keys_and_certificates_that_do_not_hold(site: Site) -> None:
    good, old = certificate(site.folder, "good", 300), certificate(site.folder, "old", -3)

    def check(cert_file: Path, key_file: Path) -> tuple[str, str]:
        tls = f'{{ cert_file = "{cert_file}", key_file = "{key_file}" }}'
        site.write(f'fetch = {{ ae_title = "PACS", host = "127.0.0.1", tls = {tls} }}')
        done = CliRunner().invoke(app, ["config", "check", "--config", str(site.path)])
        return done.output, str(done.exception or "")

    good.key_file.chmod(0o604)
    output, error = check(good.cert_file, good.key_file)
    assert not error
    assert f"every account of this host may read or write {good.key_file} (mode 0604)" in output
    good.key_file.chmod(0o640)
    assert "warning" not in "".join(check(good.cert_file, good.key_file))
    assert "expired on" in check(old.cert_file, old.key_file)[1]
    assert "the key is not that of the certificate" in check(good.cert_file, old.key_file)[1]
