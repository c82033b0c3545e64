"""STOW-RS to a real DICOMweb server, and to servers that misbehave."""

import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from node.config.settings import DestinationSettings
from node.deliver.transport import send, verify
from node.demo.figures import SAMPLE
from node.dicom.read import InstanceFile
from node.errors import PeerError
from tests.conftest import free_port, require
from tests.waiting import until

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
FILES = [InstanceFile(path) for path in sorted((SAMPLE / "T2").glob("*.dcm"))[:2]]


def destination(url: str, **more: Any) -> DestinationSettings:
    return DestinationSettings(name="web", url=url, timeout_s=30, **more)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Orthanc with its DICOMweb plugin, which wants a user and a password; its address."""
    program = require("Orthanc")
    if not PLUGIN.exists():
        require(PLUGIN.name)
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    configuration = {
        "HttpPort": port, "DicomServerEnabled": False, "StorageDirectory": str(folder), "IndexDirectory": str(folder),
        "Plugins": [str(PLUGIN)], "AuthenticationEnabled": True, "RegisteredUsers": {"node": "secret"},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    process = subprocess.Popen([program, str(folder / "orthanc.json")], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, "Orthanc has ended"
        try:
            urllib.request.urlopen(f"{url}/system", timeout=10)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    until(answers, "Orthanc answers")
    yield url
    process.terminate()
    process.wait()


@pytest.fixture
def password(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("secret\n")
    return tmp_path / "password"


def test_what_a_server_references_is_accepted(orthanc: str, password: Path) -> None:
    web = destination(f"{orthanc}/dicom-web", user="node", password_file=password)
    verify(web, "DIFFMSR")
    sent = list(send(FILES, web, "DIFFMSR"))
    assert [(each.accepted, each.status) for each in sent] == [(True, 0), (True, 0)]
    assert [each.sop_uid for each in sent] == [str(f.read_header().SOPInstanceUID) for f in FILES]
    opener = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    opener.add_password(None, orthanc, "node", "secret")
    get = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(opener))
    stored = json.loads(get.open(f"{orthanc}/instances").read())
    assert len(stored) == 2
    again = {get.open(f"{orthanc}/instances/{uid}/file").read()[-1000:] for uid in stored}
    assert again == {Path(str(file)).read_bytes()[-1000:] for file in FILES}


def test_a_wrong_password_and_a_wrong_address_are_one_sentence(orthanc: str) -> None:
    for wrong, says in (
        (destination(f"{orthanc}/dicom-web", user="node"), "HTTP 401"),
        (destination(f"http://127.0.0.1:{free_port()}/dicom-web"), "cannot connect"),
    ):
        with pytest.raises(PeerError, match=says) as caught:
            list(send(FILES, wrong, "DIFFMSR"))
        assert "\n" not in str(caught.value)
        with pytest.raises(PeerError, match=says):
            verify(wrong, "DIFFMSR")


@pytest.fixture
def server() -> Iterator[Callable[[int, Any], str]]:
    """A server that gives each STOW the same answer; its address."""
    running: list[HTTPServer] = []

    def start(status: int, answer: Any) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = self.headers.get("Content-Length")
                if length is not None:
                    self.rfile.read(int(length))
                else:
                    while size := int(self.rfile.readline(), 16):
                        self.rfile.read(size + 2)
                    self.rfile.readline()
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        running.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_port}/dicom-web"

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def failed(reason: int) -> dict[str, Any]:
    uid = str(dcmread(str(FILES[0]), stop_before_pixels=True).SOPInstanceUID)
    item = {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
    return {"00081198": {"vr": "SQ", "Value": [item]}}


@pytest.mark.parametrize("status", [200, 202, 409])
def test_a_refusal_counts_whatever_the_status_of_http(server: Callable[[int, Any], str], status: int) -> None:
    (sent,) = send(FILES[:1], destination(server(status, failed(0xA700))), "DIFFMSR")
    assert not sent.accepted
    assert sent.status == 0xA700
    assert "out of resources" in sent.words.lower()


def test_success_that_names_no_instance_is_no_success(server: Callable[[int, Any], str]) -> None:
    (sent,) = send(FILES[:1], destination(server(200, {})), "DIFFMSR")
    assert not sent.accepted
    assert sent.status is None


def test_a_server_in_trouble_is_tried_again_later(server: Callable[[int, Any], str]) -> None:
    with pytest.raises(PeerError, match="HTTP 503"):
        list(send(FILES[:1], destination(server(503, {})), "DIFFMSR"))
