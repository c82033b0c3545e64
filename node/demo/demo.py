"""A shipped study, end to end: a scanner sends, the node processes, a PACS receives the result; with figures and a
picture.

Everything is real but small: the node as a service process of its own, DICOM over loopback, Orthanc as PACS when it is
installed (else a storage SCP of pynetdicom), and a few slices of a patient whom the shipped weights never saw.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import MRImageStorage
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from node.archive.facade import Archive
from node.config.place import ENVIRONMENT_VARIABLE
from node.config.settings import DestinationSettings
from node.deliver.scu import send
from node.demo.figures import SAMPLE, compare_with_truth
from node.demo.peers import PACS, PATIENCE_S, free_port, running_pacs, wait_for_echo
from node.dicom.read import InstanceFile
from node.errors import NodeError, PeerError
from node.tracker import views
from node.tracker.database import Database
from node.tracker.states import Kind, State


def run_demo(output: Path, console: Console, open_viewer: bool = False) -> None:
    """Print figures and write OUTPUT/before-after.png, report.html and derived/. With `open_viewer` the node runs on, and a
    browser shows the result, until somebody presses Enter. NodeError when a step fails."""
    output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="diffmsr-demo-") as scratch,
        running_pacs(Path(scratch) / "pacs") as pacs,
        running_node(Path(scratch) / "node", pacs) as node,
    ):
        console.print(f"PACS: {pacs.name} on port {pacs.port}; node: AE title DIFFMSR on port {node.port}")
        with progress_bars() as bars:
            send_study(node, bars)
            watch(node, bars)
        received = pacs.received()
        timeline = _timeline(node.database)
        report = _report(node)
        if open_viewer:
            _open_viewer(node, console)
    images = [data_set for data_set in received if data_set.SOPClassUID == MRImageStorage]
    comparison = compare_with_truth(images)
    _keep(received, output / "derived")
    page = output / "report.html"
    page.write_bytes(report)
    console.print(timeline)
    console.print(comparison.table())
    picture = output / "before-after.png"
    comparison.picture().save(picture)
    console.print(f"{pacs.name} received {len(images)} slices and a report; they are kept in {output / 'derived'}")
    console.print(f"before and after: {picture}; report: {page}")
    if not open_viewer:
        console.print("to look at it in the viewer: diffmsr-node demo --open")
    console.print("Research use only: not validated for diagnosis.")


@dataclass(frozen=True)
class Node:
    port: int
    web_port: int
    data_dir: Path
    database: Database
    process: "subprocess.Popen[bytes]"

    def check(self) -> None:
        if self.process.poll() is not None:
            raise NodeError(f"the node's service ended with exit code {self.process.returncode}")


@contextmanager
def running_node(folder: Path, pacs: PACS, more: str = "") -> Iterator[Node]:
    """The node as a service of its own on a free port, which delivers to `pacs`. `more` is further configuration."""
    folder.mkdir(exist_ok=True)
    config, port, web_port, log = folder / "node.toml", free_port(), free_port(), folder / "node.log"
    config.write_text(
        f"""
        node.data_dir = "data"
        scp = {{ host = "127.0.0.1", port = {port} }}
        completion.series_quiet_s = 2
        storage.reserve_gb = 0.1
        web.port = {web_port}
        {more}
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
            node = Node(port, web_port, data_dir, Database(f"sqlite:///{data_dir / 'tracker.sqlite3'}"), process)
            wait_for_echo(DestinationSettings(name="node", ae_title="DIFFMSR", host="127.0.0.1", port=port), node.check)
            yield node
        except BaseException:
            sys.stderr.write(log.read_text()[-3000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()  # a stop has an end of its own


def send_study(node: Node, bars: Progress) -> None:
    """Play the scanner: the T1 first, then the T2."""
    peer = DestinationSettings(name="node", ae_title="DIFFMSR", host="127.0.0.1", port=node.port)
    for series in ("T1", "T2"):
        paths = sorted((SAMPLE / series).glob("*.dcm"))
        task = bars.add_task(f"scanner sends {series}", total=len(paths))
        for sent in send([InstanceFile(path) for path in paths], peer, "SCANNER"):
            if not sent.accepted:
                raise PeerError(f"the node did not accept {sent.sop_uid}: {sent.status}")
            bars.advance(task)


def watch(node: Node, bars: Progress) -> None:
    """Show each stage's progress until everything is delivered."""
    steps = {
        Kind.MATCH: "match T1 and T2",
        Kind.INFER: "super-resolve",
        Kind.DERIVE: "derive the series",
        Kind.DELIVER: "deliver to the PACS",
    }
    tasks = {kind: bars.add_task(words, total=1) for kind, words in steps.items()}
    before: list[tuple[int, State, tuple[int, int]]] = []
    changed_at = time.monotonic()
    while time.monotonic() < changed_at + PATIENCE_S:
        node.check()
        jobs = views.jobs(node.database)
        now = [(job.id, job.state, job.progress) for job in jobs]
        if now != before:
            before, changed_at = now, time.monotonic()
        for job in jobs:
            done, total = job.progress
            if job.state is State.DONE:
                done = total = max(total, 1)
            if job.kind in tasks:
                bars.update(tasks[job.kind], completed=done, total=total or 1)
            if job.state in {State.REFUSED, State.FAILED, State.CANCELLED}:
                raise NodeError(f"the {job.kind} job ended {job.state}: {job.error}")
        if steps.keys() <= {job.kind for job in jobs} and all(job.state is State.DONE for job in jobs):
            return
        time.sleep(0.2)
    raise NodeError(f"the jobs have not changed for {PATIENCE_S} s, and the result is not delivered")


def _timeline(database: Database) -> Table:
    """The jobs with the seconds that each spent waiting and working, from their events."""
    table = Table("job", "state", "waited s", "worked s", "summary", title="Job timeline")
    for row in views.jobs(database):
        events = views.job(database, row.id).events
        waited = worked = 0.0
        for event, following in pairwise(events):
            seconds = (following.at - event.at).total_seconds()
            if event.to_state in {State.RUNNING, State.SENDING}:
                worked += seconds
            else:
                waited += seconds
        table.add_row(row.kind, row.state, f"{waited:.1f}", f"{worked:.1f}", events[-1].why)
    return table


def _report(node: Node) -> bytes:
    """The report on the result, as HTML."""
    delivery = next(job for job in views.jobs(node.database) if job.kind is Kind.DELIVER)
    key, _ = views.result_of(node.database, delivery.id)
    return Archive.in_folder(node.data_dir).page(key)


def _open_viewer(node: Node, console: Console) -> None:
    """Show the result in a browser, where there is one, until Enter, Ctrl-C or the end of the input."""
    infer = next(job for job in views.jobs(node.database) if job.kind is Kind.INFER)
    url = f"http://127.0.0.1:{node.web_port}/jobs/{infer.id}/viewer"
    urllib.request.urlopen(url, timeout=60).close()
    console.print(f"viewer: {url}", highlight=False)
    webbrowser.open(url)
    with suppress(EOFError, KeyboardInterrupt):
        console.input("Enter ends the node ")


def _keep(derived: list[Dataset], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, data_set in enumerate(derived, 1):
        data_set.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)


def progress_bars() -> Progress:
    return Progress(
        TextColumn("{task.description:22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)
    )  # fmt: skip
