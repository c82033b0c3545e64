"""From the last image of a pair received to the last derived image accepted by the PACS: python -m tests.bench.handover

A service as `diffmsr-node start` runs it gets a T1 and a T2 of 48 slices of 256 x 256 (the T2 acquired with 64 x 64 and zero-filled, as
scanners do) from dcmsend, and delivers to dcmtk's storescp. The time that it has to wait (quiet) and that the model needs is
taken off; what is left is the node's own. A first study warms up, and is not counted.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import generate_uid

from tests.acceptance.conftest import Site, send
from tests.conftest import free_port, require
from tests.dicom import T1, T2, mr_series, write

MATRIX, ACQUIRED = 256, 64
STAGES = ("match", "infer", "derive", "deliver")


def pair(slices: int) -> tuple[list[Dataset], list[Dataset]]:
    """(T2, T1) of one study, on one grid."""
    uids = {"study_uid": str(generate_uid()), "frame_uid": str(generate_uid())}
    facts = {"AcquisitionMatrix": [0, ACQUIRED, ACQUIRED, 0], "InPlanePhaseEncodingDirection": "ROW"}
    t2 = mr_series(slices, MATRIX, MATRIX, 1.0, series_number=2, **uids, **(T2 | facts))
    t1 = mr_series(slices, MATRIX, MATRIX, 1.0, series_number=1, **uids, **T1)
    for ds in t2:
        kept = slice((MATRIX - ACQUIRED) // 2, (MATRIX + ACQUIRED) // 2)
        spectrum = np.fft.fftshift(np.fft.fft2(np.frombuffer(ds.PixelData, "<u2").reshape(MATRIX, MATRIX)))
        acquired = np.zeros_like(spectrum)
        acquired[kept, kept] = spectrum[kept, kept]
        ds.PixelData = np.clip(np.fft.ifft2(np.fft.ifftshift(acquired)).real, 0, 4095).astype("<u2").tobytes()
    return t2, t1


@contextmanager
def storescp(port: int) -> Iterator[None]:
    listening = subprocess.Popen(
        ["/usr/bin/storescp", "--ignore", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        listening.terminate()
        listening.wait()


def measured(site: Site, study_uid: str) -> dict[str, float]:
    """Seconds of each part of one study, from the tracker: waiting for a worker and working, by stage."""
    with closing(sqlite3.connect(site.folder / "data" / "tracker.sqlite3")) as tracker:
        (received,) = tracker.execute(
            "SELECT max(received_at) FROM instance WHERE study_uid = ?", (study_uid,)
        ).fetchone()
        found: dict[str, float] = {}
        previous = _time(received)
        for kind in STAGES:
            job, result = tracker.execute(
                "SELECT id, result FROM job WHERE study_uid = ? AND kind = ?", (study_uid, kind)
            ).fetchone()
            events = tracker.execute("SELECT at, to_state FROM event WHERE job_id = ? ORDER BY id", (job,)).fetchall()
            begun = [_time(at) for at, state in events if state in ("running", "sending")][-1]
            ended = [_time(at) for at, state in events if state == "done"][-1]
            found[f"{kind} waits"] = begun - previous
            found[kind] = ended - begun
            previous = ended
            if kind == "infer":
                found["model"] = json.loads(result)["seconds"]
        found["all"] = previous - _time(received)
    return found


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quiet", type=float, default=2.0, help="[completion] series_quiet_s")
    options = parser.parse_args()
    require("storescp")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        changes = {"completion.series_quiet_s = 2": f"completion.series_quiet_s = {options.quiet:g}"}
        site = Site(Path(folder), port, **changes)
        site.start()
        runs: list[dict[str, float]] = []
        try:
            with storescp(port):
                for number in range(options.repeats + 1):
                    t2, t1 = pair(options.slices)
                    study_uid = str(t2[0].StudyInstanceUID)
                    send(site.port, *write([*t1, *t2], Path(folder) / f"study{number}"))
                    site.finished(study_uid)
                    runs.append(measured(site, study_uid))
        finally:
            site.stop()
    print(
        f"2 x {options.slices} slices of {MATRIX} x {MATRIX}, load {os.getloadavg()[0]:.1f}; seconds, median (range)\n"
    )
    for part in runs[0]:
        _print(part, [run[part] for run in runs[1:]])
    _print("hand-over", [run["all"] - run["match waits"] - run["model"] for run in runs[1:]])


def _print(part: str, seconds: list[float]) -> None:
    print(f"| {part} | {statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) |")


if __name__ == "__main__":
    main()
