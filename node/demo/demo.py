"""The whole way on a shipped study: a scanner sends, the node works, a PACS has the result; with figures and a picture.

Everything is real but small: the node as a service process of its own, DICOM over loopback, Orthanc as PACS when it is
installed (else a storage SCP of pynetdicom), and a few slices of a patient the shipped weights never saw.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, MRImageStorage
from pynetdicom import AE, evt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from diffmsr import baselines, metrics
from node.archive.facade import Archive
from node.config.loading import ENVIRONMENT_VARIABLE
from node.config.settings import DestinationSettings
from node.deliver.scu import echo, send
from node.errors import NodeError, PeerError
from node.tracker import views
from node.tracker.database import Database
from node.tracker.states import Kind, State

SAMPLE = Path(__file__).parent / "sample"
PATIENCE_S = 600

Slices = NDArray[np.float32]


class PACS(Protocol):
    """Where the node delivers to."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int: ...

    def received(self) -> list[Dataset]:
        """The derived instances it has."""


# ---------------------------------------------------------------------- the demonstration


def run_demo(output: Path, console: Console) -> None:
    """Run it; prints figures and writes OUTPUT/before-after.png, report.html and derived/. NodeError when a step fails."""
    output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="diffmsr-demo-") as scratch,
        _pacs(Path(scratch) / "pacs") as pacs,
        _node(Path(scratch) / "node", pacs) as node,
    ):
        console.print(f"PACS: {pacs.name} on port {pacs.port}; node: AE title DIFFMSR on port {node.port}")
        with _bars() as bars:
            _send_study(node, bars)
            _watch(node, bars)
        received = pacs.received()
        timeline = _timeline(node.database)
        report = _report(node)
    images = [data_set for data_set in received if data_set.SOPClassUID == MRImageStorage]
    comparison = compare(images)
    _keep(received, output / "derived")
    page = output / "report.html"
    page.write_bytes(report)
    console.print(timeline)
    console.print(comparison.table())
    picture = output / "before-after.png"
    comparison.picture().save(picture)
    console.print(f"{len(images)} slices and a report came back to {pacs.name}; kept in {output / 'derived'}")
    console.print(f"before and after: {picture}; the report to read: {page}")
    console.print("Research use only: not validated for diagnosis.")


@dataclass(frozen=True)
class Node:
    port: int
    data_dir: Path
    database: Database
    process: "subprocess.Popen[bytes]"

    def check(self) -> None:
        if self.process.poll() is not None:
            raise NodeError(f"the node's service ended with exit code {self.process.returncode}")


@contextmanager
def _node(folder: Path, pacs: PACS) -> Iterator[Node]:
    """The node as a service of its own, on a free port, delivering to `pacs`."""
    folder.mkdir()
    config, port, log = folder / "node.toml", _free_port(), folder / "node.log"
    config.write_text(
        f"""
        node.data_dir = "data"
        scp = {{ host = "127.0.0.1", port = {port} }}
        completion.series_quiet_s = 2
        storage.reserve_gb = 0.1
        [[destinations]]
        name = "pacs"
        ae_title = "PACS"
        host = "127.0.0.1"
        port = {pacs.port}
        """
    )
    environment = os.environ | {ENVIRONMENT_VARIABLE: str(config)}
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "node.cli", "start"], env=environment, stderr=stderr)
        try:
            data_dir = folder / "data"
            node = Node(port, data_dir, Database(f"sqlite:///{data_dir / 'tracker.sqlite3'}"), process)
            _wait_for_echo(
                DestinationSettings(name="node", ae_title="DIFFMSR", host="127.0.0.1", port=port), node.check
            )
            yield node
        except BaseException:
            sys.stderr.write(log.read_text()[-3000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _send_study(node: Node, bars: Progress) -> None:
    """Play the scanner: the T1 first, then the T2."""
    peer = DestinationSettings(name="node", ae_title="DIFFMSR", host="127.0.0.1", port=node.port)
    for series in ("T1", "T2"):
        paths = sorted((SAMPLE / series).glob("*.dcm"))
        task = bars.add_task(f"scanner sends {series}", total=len(paths))
        for sent in send(paths, peer, "SCANNER"):
            if not sent.accepted:
                raise PeerError(f"the node did not accept {sent.sop_uid}: {sent.status}")
            bars.advance(task)


def _watch(node: Node, bars: Progress) -> None:
    """Show each stage's progress until everything is delivered."""
    steps = {Kind.MATCH: "match T1 and T2", Kind.INFER: "super-resolve", Kind.DELIVER: "deliver to the PACS"}
    tasks = {kind: bars.add_task(words, total=1) for kind, words in steps.items()}
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        node.check()
        jobs = views.jobs(node.database)
        for job in jobs:
            done, total = job["progress"]
            if job["state"] == State.DONE:
                done = total = max(total, 1)
            if job["kind"] in tasks:
                bars.update(tasks[job["kind"]], completed=done, total=total or 1)
            if job["state"] in {State.REFUSED, State.FAILED, State.CANCELLED}:
                raise NodeError(f"the {job['kind']} job ended {job['state']}: {job['error']}")
        if steps.keys() <= {job["kind"] for job in jobs} and all(job["state"] == State.DONE for job in jobs):
            return
        time.sleep(0.2)
    raise NodeError(f"nothing was delivered within {PATIENCE_S} s")


def _timeline(database: Database) -> Table:
    """The jobs with the seconds each spent waiting and working, from their events."""
    table = Table("job", "state", "waited s", "worked s", "what it says", title="Job timeline")
    for row in views.jobs(database):
        events = views.job(database, row["id"])["events"]
        moments = [datetime.fromisoformat(e["at"]) for e in events]
        waited = worked = 0.0
        for event, start, end in zip(events, moments, moments[1:], strict=False):
            seconds = (end - start).total_seconds()
            if event["to"] in {State.RUNNING, State.SENDING}:
                worked += seconds
            else:
                waited += seconds
        table.add_row(row["kind"], row["state"], f"{waited:.1f}", f"{worked:.1f}", events[-1]["why"])
    return table


def _report(node: Node) -> bytes:
    """The page on the result."""
    delivery = next(job for job in views.jobs(node.database) if job["kind"] == Kind.DELIVER)
    key, _ = views.result_of(node.database, delivery["id"])
    return Archive(node.data_dir).report_page(key).read_bytes()


def _keep(derived: list[Dataset], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, data_set in enumerate(derived, 1):
        data_set.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)


# ---------------------------------------------------------------------- figures and picture


@dataclass(frozen=True)
class Comparison:
    """Images of the same slices, (n, rows, columns) float32: the withheld truth, and what stands for it."""

    truth: Slices
    images: dict[str, Slices]

    def table(self) -> Table:
        table = Table("", "PSNR dB", "SSIM", title=f"Against the withheld truth, mean of {len(self.truth)} slices")
        for name, images in self.images.items():
            scores = [_scores(image, truth) for image, truth in zip(images, self.truth, strict=True)]
            psnr, ssim = np.mean(scores, axis=0)
            table.add_row(name, f"{psnr:.2f}", f"{ssim:.4f}")
        return table

    def picture(self) -> Image.Image:
        """The middle slice: every image on the truth's grey scale, every error on one scale below it."""
        middle = len(self.truth) // 2
        truth = self.truth[middle]
        white = float(np.percentile(truth, 99.8))
        columns = {**{name: images[middle] for name, images in self.images.items()}, "truth": truth}
        errors = {name: np.abs(image - truth) for name, image in columns.items()}
        brightest = float(np.percentile(errors["zero-filled"], 99.5))
        rows, width = truth.shape
        header, gap = 26, 4
        sheet = Image.new("L", (len(columns) * (width + gap), 2 * (rows + header + gap)), 255)
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
        for index, (name, image) in enumerate(columns.items()):
            left = index * (width + gap)
            draw.text((left + 4, 4), name, fill=0, font=font)
            sheet.paste(_grey(image, white), (left, header))
            below = rows + header + gap
            words = (
                f"error, white = {brightest / white:.0%} of the grey scale" if name != "truth" else "research use only"
            )
            draw.text((left + 4, below + 4), words, fill=0, font=font)
            sheet.paste(_grey(errors[name], brightest), (left, below + header))
        return sheet


def compare(derived: list[Dataset]) -> Comparison:
    """The derived instances beside the withheld truth and the simple ways of enlarging, slice by slice."""
    with np.load(SAMPLE / "truth.npz", allow_pickle=False) as file:
        truth = {
            str(uid): image.astype(np.float32) for uid, image in zip(file["source_uids"], file["pixels"], strict=True)
        }
    targets = {}
    for path in (SAMPLE / "T2").glob("*.dcm"):
        data_set = dcmread(path)
        targets[str(data_set.SOPInstanceUID)] = data_set.pixel_array.astype(np.float32)
    super_resolved = {_source(d): d.pixel_array.astype(np.float32) for d in derived}
    uids = sorted(truth, key=lambda uid: int(uid.rsplit(".", 1)[1]))
    if set(uids) != set(super_resolved):
        raise NodeError(f"{len(super_resolved)} of {len(uids)} slices came back to the PACS")
    low = np.stack([targets[uid] for uid in uids])
    scale = truth[uids[0]].shape[0] // low.shape[1]
    return Comparison(
        np.stack([truth[uid] for uid in uids]),
        {
            "zero-filled": baselines.zero_filled(low, scale),
            "bicubic": baselines.aligned_bicubic(low, scale),
            "DiffMSR": np.stack([super_resolved[uid] for uid in uids]),
        },
    )


def _source(derived: Dataset) -> str:
    """The T2 slice a derived instance was made from: the first of its source images."""
    return str(derived.SourceImageSequence[0].ReferencedSOPInstanceUID)


def _scores(image: Slices, truth: Slices) -> tuple[float, float]:
    peak = float(truth.max())
    return metrics.psnr(image, truth, peak), metrics.ssim(image, truth, peak)


def _grey(image: Slices, white: float) -> Image.Image:
    return Image.fromarray((np.clip(image / white, 0, 1) * 255).astype(np.uint8))


# ---------------------------------------------------------------------- the PACS


@contextmanager
def _pacs(folder: Path) -> Iterator[PACS]:
    folder.mkdir()
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    with _orthanc(program, folder) if program else _storage_scp(folder) as pacs:
        yield pacs


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
    pacs = Orthanc(_free_port(), _free_port())
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

        _wait_for_echo(DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port), check)
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
    pacs = StorageSCP(_free_port(), folder)

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


# ---------------------------------------------------------------------- helpers


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description:22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)
    )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for_echo(peer: DestinationSettings, check: Callable[[], None]) -> None:
    deadline = time.monotonic() + 60
    while True:
        check()
        try:
            return echo(peer, "SCANNER")
        except PeerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
