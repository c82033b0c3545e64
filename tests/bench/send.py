"""Images sent a second, by this node and dcmtk's dcmsend, to storescp --ignore: python -m tests.bench.send

Both send the same derived-like MR files, one after the other in each repeat, so that a slow minute hits both. The node's time
is that of its sender, from the connection to the release, in a process that has started already, as its delivery worker has.
TCP_NODELAY=1 is set for dcmtk.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from node.config.settings import DestinationSettings
from node.deliver.scu import send
from node.dicom.read import InstanceFile
from tests.conftest import free_port, require
from tests.dicom import mr_series, write
from tests.waiting import until


def by_node(paths: list[Path], port: int) -> tuple[float, float]:
    destination = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    began, cpu = time.perf_counter(), time.process_time()
    sent = list(send([InstanceFile(path) for path in paths], destination, "DIFFMSR"))
    took = time.perf_counter() - began, time.process_time() - cpu
    if not all(one.accepted for one in sent):
        raise SystemExit("not every image was accepted")
    return took


def by_dcmsend(paths: list[Path], port: int) -> tuple[float, float]:
    began, before = time.perf_counter(), os.times()
    report = paths[0].parent.parent / "report"
    report.unlink(missing_ok=True)
    subprocess.run([require("dcmsend"), "127.0.0.1", str(port), "+crf", report, *paths], check=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    accepted = sum(int(n) for n in re.findall(r"with status SUCCESS\s*:\s*(\d+)", report.read_text()))
    if accepted != len(paths):
        raise SystemExit(f"{accepted} of {len(paths)} images were accepted")
    return time.perf_counter() - began, cpu


SENDERS: dict[str, Callable[[list[Path], int], tuple[float, float]]] = {"dcmsend": by_dcmsend, "node": by_node}


def _listens(port: int) -> bool:
    echo = ["/usr/bin/echoscu", "127.0.0.1", str(port)]
    return subprocess.run(echo, capture_output=True, check=False).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrix", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--pdu", type=int, default=16384, help="Longest PDU that storescp takes.")
    options = parser.parse_args()
    os.environ["TCP_NODELAY"] = "1"
    for matrix in options.matrix:
        with tempfile.TemporaryDirectory() as folder:
            paths = write(mr_series(options.images, rows=matrix, columns=matrix), Path(folder) / "images")
            port = free_port()
            command = ["/usr/bin/storescp", "--ignore", "-pdu", str(options.pdu), str(port)]
            receiver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                until(partial(_listens, port), "storescp listens")
                runs: dict[str, list[tuple[float, float]]] = defaultdict(list)
                for _ in range(options.repeats):
                    for name, sender in SENDERS.items():
                        runs[name].append(sender(paths, port))
            finally:
                receiver.terminate()
                receiver.wait()
        print(f"{matrix} x {matrix}, {options.images} images, load {os.getloadavg()[0]:.1f}", file=sys.stdout)
        for name, figures in runs.items():
            rates = [options.images / took for took, _ in figures]
            ratios = [base / took for (took, _), (base, _) in zip(figures, runs["dcmsend"], strict=True)]
            print(
                f"  {name:8} {statistics.median(rates):7.0f} images/s ({min(rates):.0f} to {max(rates):.0f}), "
                f"{1000 * statistics.median(cpu for _, cpu in figures) / options.images:.2f} ms CPU per image, "
                f"{statistics.median(ratios):.2f} times dcmsend ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
