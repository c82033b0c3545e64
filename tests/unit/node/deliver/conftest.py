"""Peers that take what is sent."""

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from node.config.settings import DestinationSettings, OutputSettings, TLSSettings
from tests.conftest import free_port, require
from tests.waiting import until

from .sending import Serve, encode_to


@pytest.fixture
def files(study: Any, tmp_path: Path) -> list[Path]:
    return encode_to(tmp_path, study, OutputSettings())


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a pynetdicom peer whose C-STORE handler is `answer(event)`."""
    servers = []

    def start(
        answer: Callable[[Any], int] = lambda _: 0,
        abstract_syntax: str = MRImageStorage,
        context: ssl.SSLContext | None = None,
        require_called: bool = False,
        tls: TLSSettings | None = None,
        syntax: str = ExplicitVRLittleEndian,
        max_pdu: int = 16382,
        handlers: Sequence[Any] = (),
    ) -> DestinationSettings:
        ae = AE("PACS")
        ae.maximum_pdu_size = max_pdu
        ae.add_supported_context(abstract_syntax, syntax)
        ae.add_supported_context(Verification)
        ae.require_called_aet = require_called
        server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, answer), *handlers], ssl_context=context
        )
        servers.append(server)
        port = server.socket.getsockname()[1]
        return DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=300, tls=tls)

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture
def free_destination() -> DestinationSettings:
    """A destination where nobody listens."""
    return DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=300)


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[Callable[..., tuple[DestinationSettings, Path]]]:
    """Start dcmtk's storescp with options; gives where to send, and the folder that it fills."""
    running = []

    def start(*options: str) -> tuple[DestinationSettings, Path]:
        folder = tmp_path / f"received{len(running)}"
        folder.mkdir()
        destination = DestinationSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=300
        )
        command = [require("storescp"), *options, "-aet", "PACS", "-od", str(folder), str(destination.port)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        _wait_for(destination.port, running[-1])
        return destination, folder

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[tuple[DestinationSettings, str]]:
    """A fresh Orthanc; gives where to send, and the address of its REST interface."""
    tool, web = require("Orthanc"), free_port()
    destination = DestinationSettings(
        name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=free_port(), timeout_s=300
    )
    configuration = {
        "DicomPort": destination.port, "HttpPort": web, "StorageDirectory": str(tmp_path / "orthanc"), "Plugins": [],
        "IndexDirectory": str(tmp_path / "orthanc"), "AuthenticationEnabled": False, "RemoteAccessAllowed": False,
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(configuration))
    process = subprocess.Popen(
        [tool, str(tmp_path / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for(web, process)
    _wait_for(destination.port, process)
    yield destination, f"http://127.0.0.1:{web}"
    process.terminate()
    process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    def listens() -> bool:
        assert process.poll() is None, "the peer has ended"
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    until(listens, f"a peer listens on port {port}")
