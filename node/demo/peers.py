"""Where the demonstration's node delivers to: Orthanc where it is installed, else a storage SCP of pynetdicom."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, MRImageStorage
from pynetdicom import AE, evt

from node.config.settings import DestinationSettings
from node.deliver.scu import echo
from node.errors import NodeError, PeerError


class PACS(Protocol):
    """The destination of the node."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int: ...

    def received(self) -> list[Dataset]:
        """The derived instances that it received."""


@contextmanager
def running_pacs(folder: Path) -> Iterator[PACS]:
    folder.mkdir()
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    with _orthanc(program, folder) if program else _storage_scp(folder) as pacs:
        yield pacs


PATIENCE_S = 600
"""How long something may stay as it is: a slow machine still makes progress."""


@dataclass(frozen=True)
class Orthanc:
    port: int
    http_port: int
    name: str = "Orthanc"

    def received(self) -> list[Dataset]:
        uids = json.loads(self._get("/instances"))
        return [dcmread(BytesIO(self._get(f"/instances/{uid}/file"))) for uid in uids]

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=30) as answer:
            content: bytes = answer.read()
            return content


@contextmanager
def _orthanc(program: str, folder: Path) -> Iterator[Orthanc]:
    pacs = Orthanc(free_port(), free_port())
    settings: dict[str, Any] = {
        "Name": "demo", "DicomAet": "PACS", "DicomPort": pacs.port, "HttpPort": pacs.http_port, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowEcho": True, "Plugins": [],
        "StorageDirectory": str(folder), "IndexDirectory": str(folder),
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, str(folder / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        def check() -> None:
            if process.poll() is not None:
                raise NodeError(f"Orthanc ended with exit code {process.returncode}")

        wait_for_echo(DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port), check)
        yield pacs
    finally:
        process.terminate()
        process.wait(30)


@dataclass(frozen=True)
class StorageSCP:
    port: int
    folder: Path
    name: str = "a storage SCP of pynetdicom (Orthanc is not installed)"

    def received(self) -> list[Dataset]:
        return [dcmread(path) for path in sorted(self.folder.glob("*.dcm"))]


@contextmanager
def _storage_scp(folder: Path) -> Iterator[StorageSCP]:
    pacs = StorageSCP(free_port(), folder)

    def keep(event: evt.Event) -> int:
        data_set = event.dataset
        data_set.file_meta = event.file_meta
        data_set.save_as(folder / f"{data_set.SOPInstanceUID}.dcm", enforce_file_format=True)
        return 0x0000

    ae = AE("PACS")
    for sop_class in (MRImageStorage, Comprehensive3DSRStorage):
        ae.add_supported_context(sop_class)
    handlers: list[Any] = [(evt.EVT_C_STORE, keep)]
    server = ae.start_server(("127.0.0.1", pacs.port), block=False, evt_handlers=handlers)
    try:
        yield pacs
    finally:
        if server is not None:
            server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_echo(peer: DestinationSettings, check: Callable[[], None]) -> None:
    """Until the peer answers. `check` raises when its process has ended; PeerError when that goes on and the peer stays silent."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        check()
        try:
            return echo(peer, "SCANNER")
        except PeerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
