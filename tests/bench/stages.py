"""What match, derive and deliver cost by themselves, on one study and one result that are kept: python -m tests.bench.stages

The study of `tests.bench.handover` is received and matched, and gets a result with a trust map in place of the model's. Each
repeat then matches, derives and delivers it anew from the same tracker and archive, to dcmtk's storescp. Unlike the
hand-over of a whole service, it says how much of the CPU each stage takes, so two versions can be compared in turns on a
machine that does other work too.
"""

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from node.archive.facade import Archive
from node.archive.layout import derived_prefix
from node.config.match import MatchSettings
from node.config.settings import CompletionSettings, DestinationSettings, Settings
from node.deliver.worker import make_deliver_handler
from node.derived.worker import make_derive_handler
from node.match.stack_roles import ModelFacts
from node.match.worker import make_match_handler
from node.payloads import PairRequest
from node.result import Quality, Result
from node.tracker import queue, steps
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done
from node.tracker.states import Kind, State
from node.tracker.worker import Handler, attempt
from tests.bench.handover import MATRIX, pair, storescp
from tests.conftest import free_port, require
from tests.unit.node.kept import keep

SCALE = 4


class Stages:
    """A study that was received, at the moment when it is quiet."""

    def __init__(self, folder: Path, slices: int, port: int) -> None:
        self._file, self._kept = folder / "tracker.sqlite3", folder / "kept.sqlite3"
        self.archive = Archive.in_folder(folder / "data")
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        pacs = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
        self.settings = Settings(destinations=[pacs])
        database = Database(f"sqlite:///{self._file}")
        database.upgrade()
        tracker = Tracker(database, clock=lambda: self.now)
        t2, t1 = pair(slices)
        for ds in (*t2, *t1):
            keep(tracker, self.archive, ds)
        self.now += timedelta(seconds=10)
        database.dispose()
        shutil.copy(self._file, self._kept)
        self._rng = np.random.default_rng(0)
        self._name: str | None = None

    def run(self) -> dict[str, tuple[float, float]]:
        """(seconds by the clock, seconds of CPU) of each stage."""
        shutil.copy(self._kept, self._file)
        if self._name is not None:
            self.archive.delete(derived_prefix(self._name))
        os.sync()
        database = Database(f"sqlite:///{self._file}")
        tracker = Tracker(database, clock=lambda: self.now)
        model = ModelFacts("small", "1", SCALE, (("T2", "T1"),))
        match = make_match_handler(tracker, self.archive, CompletionSettings(), MatchSettings(), model, {}, 3, None)
        derive = make_derive_handler(tracker, self.archive, self.settings)
        deliver = make_deliver_handler(tracker, self.archive, self.settings)
        found = {"match": _timed(lambda: _do(tracker, Kind.MATCH, match))}
        self._infer(tracker)
        found["derive"] = _timed(lambda: _do(tracker, Kind.DERIVE, derive))
        found["deliver"] = _timed(lambda: _do(tracker, Kind.DELIVER, deliver))
        database.dispose()
        return found

    def _infer(self, tracker: Tracker) -> None:
        claim = queue.claim(tracker, Kind.INFER, "host/infer/1")
        assert claim is not None
        request = PairRequest.model_validate(claim.payload)
        if self._name is None:
            self._name = claim.key
            self.archive.put_result(claim.key, _result(request, self._rng))
        queue.settle(tracker, claim, Done("made", None, (steps.derive_job(claim.key, request),)))


def _result(request: PairRequest, rng: np.random.Generator) -> Result:
    slices, size = len(request.target.sop_uids), MATRIX * SCALE
    pixels: NDArray[np.float32] = rng.gamma(2, 200, (slices, size, size)).astype(np.float32)
    expected = (pixels * np.float32(0.05)).astype(np.float16).astype(np.float32)
    of_slices = [float(value) for value in rng.random(slices) * 0.01]
    return Result(
        pixels=pixels, positions=np.array([[0.0, 0.0, 4.0 * n] for n in range(slices)]),
        orientation=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), spacing=(0.25, 0.25),
        source_uids=list(request.target.sop_uids), reference_uids=[[uid] for uid in request.reference.sop_uids],
        model_name="small", model_version="1", weights_sha256="0" * 64, scale=SCALE, parameters={"precision": "float32"},
        warnings=[], expected_error=expected,
        quality=Quality(
            consistency=of_slices, intensity_drift=of_slices, registration=None, seed_spread=None, usable=True, reasons=[],
            expected_error=of_slices, unsure=of_slices,
        ),
    )  # fmt: skip


def _do(tracker: Tracker, kind: Kind, handler: Handler) -> None:
    claim = queue.claim(tracker, kind, f"host/{kind}/1")
    assert claim is not None, f"no {kind} job is due"
    state = attempt(tracker, claim, handler, threading.Event(), delay_s=0)
    assert state is State.DONE, state


def _timed(stage: Callable[[], None]) -> tuple[float, float]:
    began, used = time.monotonic(), time.process_time()
    stage()
    return time.monotonic() - began, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    require("storescp")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        stages = Stages(Path(folder), options.slices, port)
        with storescp(port):
            stages.run()  # loads what is loaded at the first use
            runs = [stages.run() for _ in range(options.repeats)]
    print(f"{options.slices} slices, load {os.getloadavg()[0]:.1f}; median (least) s by the clock, s of CPU")
    for stage in runs[0]:
        clock, cpu = zip(*(run[stage] for run in runs), strict=True)
        print(f"| {stage} | {_told(clock)} | {_told(cpu)} |")


def _told(seconds: tuple[float, ...]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f})"


if __name__ == "__main__":
    main()
