"""Every kind of sender that can be installed here, with and without TLS, on both data paths: what arrives is what was sent."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE

from node.archive.facade import Archive
from node.config.settings import SCPSettings, TLSSettings
from node.receive.commitment_scp import Commitments
from node.receive.server import Receiver
from node.receive.store import Store
from node.tracker.handle import Tracker
from tests.conftest import free_port, require
from tests.dicom import mr_series, write
from tests.hostile.conftest import Certificates
from tests.unit.node.receive.storing import store_that_keeps, stored
from tests.waiting import until

Send = Callable[[int, list[Path], bool], None]
"""To that port, these files, with TLS."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[str]:
    """The address of the REST interface of an Orthanc that presents the scanner's certificate."""
    folder, web, own = tmp_path_factory.mktemp("orthanc"), free_port(), certificates.folder
    (folder / "orthanc.json").write_text(json.dumps({
        "DicomServerEnabled": False, "HttpPort": web, "StorageDirectory": str(folder), "IndexDirectory": str(folder),
        "Plugins": [], "AuthenticationEnabled": False, "RemoteAccessAllowed": False,
        "DicomTlsCertificate": f"{own}/scanner.crt", "DicomTlsPrivateKey": f"{own}/scanner.key",
        "DicomTlsTrustedCertificates": f"{own}/ours.crt",
    }))  # fmt: skip
    command = [require("Orthanc"), str(folder / "orthanc.json")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"TCP_NODELAY": "1"})
    address = f"http://127.0.0.1:{web}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            return bool(rest(address, "GET", "/system"))
        except OSError:
            return False

    until(answers, "Orthanc answers")
    yield address
    process.terminate()
    process.wait()


def rest(address: str, method: str, path: str, content: bytes | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(f"{address}{path}", content, method=method)) as answer:
        got: bytes = answer.read()
        return got


@pytest.fixture
def send(request: pytest.FixtureRequest, certificates: Certificates) -> Send:
    own = certificates.folder

    def dcmtk(port: int, paths: list[Path], tls: bool) -> None:
        secured = ["+tls", own / "scanner.key", own / "scanner.crt", "-pw", "+cf", own / "ours.crt"] if tls else []
        command = [require(request.param), *secured, "127.0.0.1", port, *paths]
        subprocess.run(list(map(str, command)), check=True, env=os.environ | {"TCP_NODELAY": "1"}, capture_output=True)

    def by_orthanc(port: int, paths: list[Path], tls: bool) -> None:
        address = request.getfixturevalue("orthanc")
        node = {"AET": "DIFFMSR", "Host": "127.0.0.1", "Port": port, "UseDicomTls": tls}
        rest(address, "PUT", "/modalities/node", json.dumps(node).encode())
        uploaded = [json.loads(rest(address, "POST", "/instances", path.read_bytes()))["ID"] for path in paths]
        rest(address, "POST", "/modalities/node/store", json.dumps(uploaded).encode())

    def by_pynetdicom(port: int, paths: list[Path], tls: bool) -> None:
        ae = AE("SCANNER")
        ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        association = ae.associate(
            "127.0.0.1", port, tls_args=(certificates.client("scanner"), "localhost") if tls else None
        )
        assert association.is_established
        assert {association.send_c_store(dcmread(path)).Status for path in paths} == {0}
        association.release()

    others = {"Orthanc": by_orthanc, "pynetdicom": by_pynetdicom}
    return others.get(request.param, dcmtk)


@pytest.fixture
def store(archive: Archive, tracker: Tracker) -> Iterator[Store]:
    with store_that_keeps("in groups", archive, tracker) as made:
        yield made


@pytest.mark.parametrize(
    ("send", "tls"),
    [
        ("storescu", False),
        ("storescu", True),
        ("dcmsend", False),  # it has no TLS
        ("Orthanc", False),
        ("Orthanc", True),
        ("pynetdicom", False),
        ("pynetdicom", True),
    ],
    indirect=["send"],
)
def test_what_arrives_is_what_was_sent(
    send: Send,
    tls: bool,
    settings: SCPSettings,
    certificates: Certificates,
    store: Store,
    commitments: Commitments,
    archive: Archive,
    tmp_path: Path,
) -> None:
    own = certificates.folder
    secured = TLSSettings(cert_file=own / "node.crt", key_file=own / "node.key", ca_file=own / "ours.crt")
    receiver = Receiver(settings.model_copy(update={"tls": secured if tls else None}), [], store, commitments)
    receiver.start()
    try:
        paths = write(mr_series(3), tmp_path / "sent")
        send(receiver.port, paths, tls)
    finally:
        receiver.stop(1)

    def by_uid(files: list[Path]) -> dict[str, Dataset]:
        return {ds.SOPInstanceUID: ds for ds in map(dcmread, files)}

    assert by_uid(stored(archive)) == by_uid(paths)
