"""Peers that take what is sent."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.config.settings import DestinationSettings
from tests.conftest import free_port, require


@pytest.fixture
def free_destination() -> DestinationSettings:
    """A destination where nobody listens."""
    return DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=5)


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[Callable[..., tuple[DestinationSettings, Path]]]:
    """Start dcmtk's storescp with options; gives where to send, and the folder that it fills."""
    running = []

    def start(*options: str) -> tuple[DestinationSettings, Path]:
        folder = tmp_path / f"received{len(running)}"
        folder.mkdir()
        destination = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=5)
        command = [require("storescp"), *options, "-aet", "PACS", "-od", str(folder), str(destination.port)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        _wait_for(destination.port)
        return destination, folder

    yield start
    for process in running:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[tuple[DestinationSettings, str]]:
    """A fresh Orthanc; gives where to send, and the address of its REST interface."""
    tool, web = require("Orthanc"), free_port()
    destination = DestinationSettings(
        name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=free_port(), timeout_s=10
    )
    configuration = {
        "DicomPort": destination.port, "HttpPort": web, "StorageDirectory": str(tmp_path / "orthanc"), "Plugins": [],
        "IndexDirectory": str(tmp_path / "orthanc"), "AuthenticationEnabled": False, "RemoteAccessAllowed": False,
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(configuration))
    process = subprocess.Popen(
        [tool, str(tmp_path / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for(web)
    _wait_for(destination.port)
    yield destination, f"http://127.0.0.1:{web}"
    process.terminate()
    process.wait(timeout=20)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
