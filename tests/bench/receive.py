"""Images received per second, by this node, Orthanc and dcmtk's storescp: python -m tests.bench.receive

All receivers start on empty folders and take the same series from dcmtk's dcmsend, one after the other in each repeat, so
that a slow minute hits all of them. TCP_NODELAY=1 is set for senders and receivers: with dcmtk's default each image costs
40 ms of delayed acknowledgement, whoever receives it. With --studies the node's tracker has so many already.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.tracker import filled
from tests.conftest import free_port, require
from tests.dicom import mr_series, write

ORTHANC = {
    "HttpServerEnabled": False, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowEcho": True, "DicomCheckCalledAet": False,
    "SyncStorageArea": True, "StorageCompression": False, "OverwriteInstances": False,
}  # fmt: skip


@dataclass
class Running:
    """A receiver that runs."""

    process: "subprocess.Popen[bytes]"
    port: int

    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def node(folder: Path, data_path: str, tracker: Path | None = None) -> Running:
    port = free_port()
    limits = "".join(f"max_associations{of} = 64\n" for of in ("", "_per_address", "_per_ae_title"))
    (folder / "node.toml").write_text(
        f'node.data_dir = "data"\n[scp]\nhost = "127.0.0.1"\nport = {port}\ndata_path = "{data_path}"\n{limits}'
    )
    if tracker is not None:
        (folder / "data").mkdir()
        shutil.copy(tracker, folder / "data" / "tracker.sqlite3")
    command = [Path(sys.executable).parent / "diffmsr-node", "start", "--config", folder / "node.toml"]
    return _started([*command, "--role", "receive"], folder, port)


def orthanc(folder: Path) -> Running:
    port = free_port()
    settings = ORTHANC | {"DicomPort": port, "StorageDirectory": str(folder), "IndexDirectory": str(folder)}
    (folder / "orthanc.json").write_text(json.dumps(settings))
    return _started([require("Orthanc"), folder / "orthanc.json"], folder, port)


def storescp(folder: Path) -> Running:
    """It makes nothing durable."""
    port = free_port()
    return _started(["/usr/bin/storescp", "+B", "-od", folder, str(port)], folder, port)


RECEIVERS: dict[str, Callable[[Path], Running]] = {
    "Orthanc": orthanc,
    "node": lambda folder: node(folder, "fast"),
    "node, data_path = stock": lambda folder: node(folder, "stock"),
    "storescp (not durable)": storescp,
}


def measure(start: Callable[[Path], Running], batches: list[list[Path]]) -> tuple[float, float]:
    """(images per second, ms of the receiver's CPU per image) of one send, an association per batch. All have to arrive."""
    folder = Path(tempfile.mkdtemp())
    receiver = start(folder)
    try:
        before, began = receiver.cpu_s(), time.perf_counter()
        reports = [folder / f"report{number}" for number in range(len(batches))]
        command = [require("dcmsend"), "127.0.0.1", str(receiver.port), "+crf"]
        senders = [
            subprocess.Popen([*command, report, *batch], stdout=subprocess.DEVNULL)
            for report, batch in zip(reports, batches, strict=True)
        ]
        for sender in senders:
            sender.wait()
        took, cpu_s = time.perf_counter() - began, receiver.cpu_s() - before
        said = "".join(report.read_text() for report in reports)
    finally:
        receiver.stop()
        shutil.rmtree(folder)
    count = sum(map(len, batches))
    accepted = sum(int(number) for number in re.findall(r"with status SUCCESS\s*:\s*(\d+)", said))
    if accepted != count:
        raise SystemExit(f"{accepted} of {count} images were accepted")
    return count / took, 1000 * cpu_s / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--receivers", nargs="+", choices=RECEIVERS, default=list(RECEIVERS))
    parser.add_argument("--studies", type=int, default=0)
    options = parser.parse_args()
    os.environ["TCP_NODELAY"] = "1"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as kept:
        if options.studies:
            filled(Path(kept), options.studies).dispose()
            RECEIVERS["node"] = partial(node, data_path="fast", tracker=Path(kept) / "tracker.sqlite3")
        paths = write(mr_series(options.images, rows=options.matrix, columns=options.matrix), Path(folder))
        for count in options.associations:
            runs: dict[str, list[tuple[float, float]]] = defaultdict(list)
            loads = []
            for _ in range(options.repeats):
                loads.append(os.getloadavg()[0])
                for name in options.receivers:
                    runs[name].append(measure(RECEIVERS[name], [paths[k::count] for k in range(count)]))
            _print(options.matrix, count, runs, loads)


def _print(matrix: int, associations: int, runs: dict[str, list[tuple[float, float]]], loads: list[float]) -> None:
    first = next(iter(runs))
    print(f"\n{matrix} x {matrix}, {associations} association(s), load {min(loads):.1f} to {max(loads):.1f}\n")
    print(f"| receiver | images/s, median (range) | CPU per image | times {first}, median (range) |\n|---|---|---|---|")
    for name, mine in runs.items():
        rates, cpu = [rate for rate, _ in mine], statistics.median(cost for _, cost in mine)
        ratios = [rate / base for rate, (base, _) in zip(rates, runs[first], strict=True)]
        print(
            f"| {name} | {statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) | {cpu:.1f} ms "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |",
            flush=True,
        )


def _started(command: list[object], folder: Path, port: int) -> Running:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
    while subprocess.run([require("echoscu"), "127.0.0.1", str(port)], capture_output=True, check=False).returncode:
        if process.poll() is not None:
            raise SystemExit(f"{command[0]} has ended: {(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.1)
    return Running(process, port)


if __name__ == "__main__":
    main()
